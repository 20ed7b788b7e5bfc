import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WORKER_FINALIZER } from '../../../../src/api/lambda-worker.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import { GRANTED, ShareWorld } from '../../../support/share-world.ts';

/** Workers `w0` and so on, each of which takes so many calls at once. */
function worldOf(reserved: number, perWorker: readonly number[], nodes = 3): ShareWorld {
  const world = new ShareWorld(nodes);
  for (const [index, count] of perWorker.entries()) {
    world.create(`w${index}`, { concurrency: { reserved, queueDepth: 100, perWorker: count } });
  }
  return world;
}

const sharesOf = (world: ShareWorld) => [...world.stored.values()].map(({ status }) => status?.assignment?.share);

function call(world: ShareWorld, name: string): boolean {
  return world.agents.some((agent) => agent.call(`uid-of-${name}`));
}

describe('the shares of reserved concurrency', () => {
  it('come with the assignments, and take no write of their own', async () => {
    const world = worldOf(2, [1, 1, 1]);
    await world.live(30);
    expect(sharesOf(world)).toEqual([1, 1, 0]);
    // The finalizer and the assignment of each.
    expect(world.writes).toBe(6);
  });

  it('are at most as many calls as each worker takes, and spread', async () => {
    const world = worldOf(12, [10, 10, 10]);
    await world.live(60);
    const shares = sharesOf(world).map((share) => share ?? 0);
    expect(shares.reduce((sum, share) => sum + share, 0)).toBe(12);
    expect(Math.min(...shares)).toBeGreaterThan(1);
    const { writes } = world;
    await world.live(60);
    expect(world.writes).toBe(writes);
  });

  it('lead to looks at those workers alone whose share is to be another one', async () => {
    const count = 15;
    const world = worldOf(count, Array<number>(count).fill(1), 6);
    await world.live(60);
    expect(sharesOf(world)).toEqual(Array(count).fill(1));
    // Each worker has its assignment and its confirmation, and each of these would be a look at all 15.
    expect(world.looks).toBeLessThan(5 * count);
  });

  it('go to another worker once the node of the first is not heard for long, and never to both', async () => {
    const world = worldOf(1, [1, 1]);
    await world.live(30);
    const first = world.agents.find(({ held }) => held.get('uid-of-w0')?.share === 1);
    expect(call(world, 'w0')).toBe(true);
    if (first !== undefined) {
      first.connected = false;
    }
    await world.live(280);
    // The agent that is cut off still answers gateways.
    expect(call(world, 'w0')).toBe(true);
    expect(sharesOf(world)).toEqual([0, 0]);
    await world.live(40);
    expect(call(world, 'w0')).toBe(false);
    await world.live(120);
    expect(call(world, 'w0') || call(world, 'w1')).toBe(true);
    expect(world.running).toBe(1);
  });

  it('are taken away before a worker leaves its node', async () => {
    const world = worldOf(1, [1], 2);
    await world.live(30);
    expect(call(world, 'w0')).toBe(true);
    const before = world.stored.get('w0')?.status?.assignment?.nodeName ?? '';
    world.draining.add(before);
    await world.live(10);
    expect(world.stored.get('w0')?.status?.assignment).toMatchObject({ nodeName: before, share: 0 });
    expect(call(world, 'w0')).toBe(false);
    await world.live(30);
    expect(world.stored.get('w0')?.status?.assignment?.nodeName).not.toBe(before);
    expect(call(world, 'w0')).toBe(true);
  });

  it('are taken away only once the agent has confirmed them, since it may run calls by them already', async () => {
    const world = worldOf(1, [1, 1]);
    await world.live(30);
    const second = world.agents.find(({ held }) => held.has('uid-of-w1'));
    world.delete('w0');
    await world.live(10);
    expect(sharesOf(world)).toEqual([1]);
    // The word of the agent is older than its share.
    world.change('w1', (worker) => ({ ...worker, status: { ...worker.status, share: { epoch: 1, calls: 0 } } }));
    expect(call(world, 'w1')).toBe(true);
    world.draining.add(second?.name ?? '');
    for (let round = 0; round < 5; round += 1) {
      world.see('w1');
      await world.reconcile('w1');
    }
    expect(world.stored.get('w1')?.status?.assignment).toMatchObject({ nodeName: second?.name, share: 1 });
  });

  it('are not given twice by decisions that the cache does not show yet', async () => {
    const world = worldOf(1, [1, 1]);
    world.see('w0');
    world.see('w1');
    await Promise.all([world.reconcile('w0'), world.reconcile('w1')]);
    expect(sharesOf(world).toSorted((one = 0, other = 0) => one - other)).toEqual([0, 1]);
  });

  it('are not given twice while a write that had no answer may still come through', async () => {
    const world = worldOf(1, [1]);
    world.see('w0');
    // After the write of the finalizer comes that of the assignment.
    world.meanwhile = async () => {
      world.meanwhile = () => Promise.reject(ApiError.fromAnswer('patch', 504, ''));
    };
    await expect(world.reconcile('w0')).rejects.toThrow();
    const nodes = world.agents.map(({ name }) => name);
    for (const name of nodes) {
      world.draining.add(name);
    }
    await world.reconcile('w0');
    world.draining.clear();
    // Not of the size for which nodes have been looked for in vain.
    const resources = { limits: { memory: '64Mi' }, pids: 64 };
    world.create('w1', { resources, concurrency: { reserved: 1, queueDepth: 100, perWorker: 1 } });
    world.see('w1');
    await world.reconcile('w1');
    expect(sharesOf(world)).toEqual([undefined, 0]);
    await world.pass(61_000);
    await world.live(10);
    expect(sharesOf(world)).toEqual([undefined, 1]);
  });

  it('are not given twice where a new leader leads', async () => {
    const world = worldOf(1, [1, 1]);
    world.see('w0');
    world.see('w1');
    await world.reconcile('w0');
    expect(world.stored.get('w0')?.status?.assignment?.share).toBe(1);
    world.newTerm();
    await world.reconcile('w1');
    expect(world.stored.get('w1')?.status?.assignment?.share).toBe(0);
  });

  it('go to another worker where the one that was to have them is deleted in the moment of its assignment', async () => {
    const world = worldOf(1, [1, 1]);
    const look = async (names: readonly string[]): Promise<void> => {
      for (const name of names) {
        await world.reconcile(name);
      }
    };
    for (const name of ['w0', 'w1']) {
      world.change(name, (worker) => ({ ...worker, metadata: { ...worker.metadata, finalizers: [WORKER_FINALIZER] } }));
      world.see(name);
    }
    world.meanwhile = async () => {
      await look(['w1']);
      for (const agent of world.agents) {
        world.watch(agent, 'w1');
        world.report(agent, 'w1');
      }
      world.delete('w0');
      const names = [...world.see('w0'), ...world.see('w1')];
      // The other one is being looked at.
      await look(names.filter((name) => name === 'w1'));
    };
    await look(['w0']);
    // After the conflict.
    await look(['w0']);
    await look([...world.see('w0'), ...world.see('w1')]);
    expect(world.stored.get('w1')?.status?.assignment?.share).toBe(1);
  });

  it('go to another worker where one is gone that nothing was cleaned up of', async () => {
    const world = worldOf(1, [1, 1]);
    await world.live(30);
    expect(sharesOf(world)).toEqual([1, 0]);
    world.stored.delete('w0');
    expect(world.see('w0')).toEqual(['w1']);
  });

  it('stay with a worker that is being started, and do not go to and fro between workers without a container', async () => {
    const world = worldOf(1, [1, 1]);
    await world.live(30);
    const told = (name: string, phase: 'Absent' | 'Pulling' | 'Running', reason: string) =>
      world.change(name, (worker) => {
        const status = reason === 'Pulling' ? ('False' as const) : ('True' as const);
        const callable = { type: 'Callable', status, reason, message: '', lastTransitionTime: '2026-11-01T00:00:00Z' };
        const others = worker.status?.conditions?.filter(({ type }) => type !== 'Callable') ?? [];
        return { ...worker, status: { ...worker.status, phase, conditions: [...others, callable] } };
      });
    const look = async () => {
      for (const name of ['w0', 'w1']) {
        world.see(name);
      }
      await world.reconcile('w0');
    };
    told('w0', 'Pulling', 'Pulling');
    told('w1', 'Absent', 'Absent');
    await look();
    expect(sharesOf(world)).toEqual([1, 0]);
    told('w1', 'Running', 'Running');
    await look();
    expect(sharesOf(world)).toEqual([0, 0]);
  });

  it('follow the number that the oldest worker reserves, and go with it', async () => {
    const world = worldOf(3, [1, 1, 1]);
    await world.live(30);
    const reserve = (reserved: number | undefined): void =>
      world.change('w0', (worker) => ({
        ...worker,
        spec: {
          ...worker.spec,
          concurrency: { queueDepth: 100, perWorker: 1, ...(reserved === undefined ? {} : { reserved }) },
        },
      }));
    for (const [reserved, sum] of [
      [1, 1],
      [0, 0],
      [2, 2],
    ] as const) {
      reserve(reserved);
      await world.live(30);
      expect(sharesOf(world).reduce((total: number, share = 9) => total + share, 0)).toBe(sum);
    }
    reserve(undefined);
    await world.live(30);
    expect(sharesOf(world)).toEqual([undefined, undefined, undefined]);
    reserve(1);
    await world.live(30);
    expect(sharesOf(world).reduce((total: number, share = 9) => total + share, 0)).toBe(1);
  });

  it('never let more calls run than are reserved, whatever happens in which order, and are all given in the end', {
    timeout: 600_000,
  }, async () => {
    const which = fc.nat(4);
    const step = fc.oneof(
      { arbitrary: fc.record({ kind: fc.constant('call' as const), which }), weight: 6 },
      ...(['end', 'reconcile', 'see', 'watch', 'report', 'renew', 'list', 'finish'] as const).map((kind) => ({
        arbitrary: fc.record({ kind: fc.constant(kind), which }),
        weight: 3,
      })),
      ...(
        [
          'cut',
          'heal',
          'restart',
          'delete',
          'create',
          'drain',
          'leases',
          'term',
          'pass',
          'live',
          'live',
          'live',
          'live',
        ] as const
      ).map((kind) => ({ arbitrary: fc.record({ kind: fc.constant(kind), which }), weight: 1 })),
    );
    const scene = fc.record({
      reserved: fc.integer({ min: 1, max: 6 }),
      perWorker: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }),
      begun: fc.boolean(),
      steps: fc.array(step, { maxLength: 120 }),
    });
    await fc.assert(
      fc.asyncProperty(scene, async ({ begun, perWorker, reserved, steps }) => {
        const world = worldOf(reserved, perWorker);
        await world.live(begun ? 30 : 0);
        let created = perWorker.length;
        for (const { kind, which: index } of steps) {
          const names = [...world.stored.keys()];
          const name = names[index % Math.max(1, names.length)] ?? '';
          const agent = world.agents[index % world.agents.length];
          if (agent === undefined) {
            throw new Error('no agent');
          }
          switch (kind) {
            case 'call':
              for (const each of names) {
                call(world, each);
              }
              break;
            case 'end':
              for (const each of world.agents) {
                each.calls.get(`uid-of-${name}`)?.shift();
              }
              break;
            case 'reconcile':
              await world.reconcile(name);
              break;
            case 'see':
              world.see(name);
              break;
            case 'watch':
              for (const each of world.agents) {
                world.watch(each, name);
              }
              break;
            case 'report':
              for (const each of world.agents) {
                world.report(each, name);
              }
              break;
            case 'renew':
              world.renew(agent);
              break;
            case 'list':
              world.list(agent);
              break;
            case 'finish':
              agent.finish?.();
              break;
            case 'cut':
              agent.connected = false;
              break;
            case 'heal':
              agent.connected = true;
              break;
            case 'restart':
              agent.restart();
              break;
            case 'delete':
              world.delete(name);
              break;
            case 'create':
              world.create(`w${created}`, { concurrency: { reserved, queueDepth: 100, perWorker: 1 + index } });
              created += 1;
              break;
            case 'drain':
              world.draining[index % 2 === 0 ? 'add' : 'delete'](agent.name);
              break;
            case 'leases':
              world.readLeases();
              break;
            case 'term':
              world.newTerm();
              break;
            case 'pass':
              await world.pass(1_000 * (1 + index * 20));
              break;
            case 'live':
              await world.live([5, 15, 60, 340, 420][index] ?? 0, () => {
                for (const each of world.stored.keys()) {
                  call(world, each);
                }
                expect(world.running).toBeLessThanOrEqual(reserved);
              });
              break;
            default:
              throw new Error(kind satisfies never);
          }
          expect(world.running).toBeLessThanOrEqual(reserved);
        }
        for (const agent of world.agents) {
          agent.connected = true;
          world.draining.delete(agent.name);
        }
        await world.live(600);
        const takes = [...world.stored.values()].reduce((sum, { spec }) => sum + (spec.concurrency?.perWorker ?? 1), 0);
        const shares = sharesOf(world).reduce((sum: number, share = 0) => sum + share, 0);
        expect(shares).toBe(Math.min(reserved, takes));
        const granted = [...world.stored.values()].map(({ status }) => status?.assignment?.granted);
        expect(granted).toEqual(granted.map(() => GRANTED));
        const { writes } = world;
        await world.live(60);
        expect(world.writes).toBe(writes);
      }),
      { numRuns: Number(process.env.ESB_SHARE_RUNS ?? 50) },
    );
  });
});
