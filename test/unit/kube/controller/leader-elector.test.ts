import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Clock } from '../../../../src/common/clock.ts';
import { aborted, type CallOptions } from '../../../../src/common/deadline.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import type { Lease } from '../../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../../src/kube/api/types.ts';
import { LeaderElector } from '../../../../src/kube/controller/leader-elector.ts';
import { type ManualClock, manualClock } from '../../../support/manual-clock.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';

const key = { namespace: 'system', name: 'controller' };

/** A Lease in a server that may be slow, away, or lose answers. */
interface LeaseServer {
  readonly lease: () => Lease | undefined;
  /** Another writer adds annotations. */
  annotate(annotations: Readonly<Record<string, string>>): void;
  /** Milliseconds until a request takes effect, and again until its answer is there. */
  latencyMs: number;
  away: boolean;
  losesAnswers: boolean;
}

/**
 * One process: its own clock, and a client. Stopped, nothing of it runs; what was due runs when it goes on.
 */
interface Process {
  readonly elector: LeaderElector;
  readonly leading: () => boolean;
  readonly writes: number[];
  readonly isStopped: () => boolean;
  stop(): void;
  goOn(): void;
  /** Whether its requests fail. */
  cutOff(cut: boolean): void;
  stepClock(ms: number): void;
  shutDown(): Promise<void>;
}

interface World {
  /** One more candidate, with the clock of the world. */
  join(
    signal: AbortSignal,
    lead: () => Promise<void>,
    onAnswer?: () => void,
    annotations?: () => Readonly<Record<string, string>>,
  ): { readonly elector: LeaderElector; readonly running: Promise<void> };
  readonly time: ManualClock;
  readonly server: LeaseServer;
  readonly processes: readonly Process[];
}

function createWorld(skews: readonly number[]): World {
  const time = manualClock();
  let stored: Lease | undefined;
  let version = 0;
  const server: LeaseServer = {
    lease: () => stored,
    annotate(annotations) {
      if (stored !== undefined) {
        store({
          ...stored,
          metadata: { ...stored.metadata, annotations: { ...stored.metadata.annotations, ...annotations } },
        });
      }
    },
    latencyMs: 0,
    away: false,
    losesAnswers: false,
  };

  const store = (lease: Lease): Lease => {
    version++;
    stored = { ...lease, metadata: { ...lease.metadata, uid: 'u', resourceVersion: String(version) } };
    return stored;
  };
  const conflict = (status: number, reason: string): ApiError =>
    ApiError.fromAnswer('lease', status, JSON.stringify({ reason, message: reason }));

  const createClient = (request: <T>(effect: () => T, options?: CallOptions) => Promise<T>): KubeClient =>
    ({
      get: (_type: unknown, _key: unknown, options?: CallOptions) => request(() => stored, options),
      create: (_type: unknown, lease: Lease, options?: CallOptions) =>
        request(() => {
          if (stored !== undefined) {
            throw conflict(409, 'AlreadyExists');
          }
          return store(lease);
        }, options),
      update: (_type: unknown, lease: Lease, options?: CallOptions) =>
        request(() => {
          if (stored?.metadata.resourceVersion !== lease.metadata.resourceVersion) {
            throw conflict(409, 'Conflict');
          }
          return store(lease);
        }, options),
    }) as unknown as KubeClient;

  const createProcess = (skewMs: number, number: number): Process => {
    let stopped = false;
    let cut = false;
    let wallStep = skewMs;
    const held: (() => void)[] = [];
    /** Runs `then` when the process can run. */
    const inProcess = (then: () => void): void => {
      if (stopped) {
        held.push(then);
      } else {
        then();
      }
    };
    const clock: Clock = {
      now: () => time.now() + wallStep,
      monotonic: () => time.monotonic() + skewMs * 1000,
      setTimer: (callback, delayMs) => {
        let cancelled = false;
        const timer = time.setTimer(
          () =>
            inProcess(() => {
              if (!cancelled) {
                callback();
              }
            }),
          delayMs,
        );
        return {
          cancel() {
            cancelled = true;
            timer.cancel();
          },
        };
      },
    };
    const request = <T>(effect: () => T, options: CallOptions = {}): Promise<T> => {
      const answered = Promise.withResolvers<T>();
      const answer = (then: () => void): void => inProcess(then);
      const fail = (): void => answer(() => answered.reject(ApiError.unreachable('lease', new Error('away'))));
      time.setTimer(() => {
        if (server.away || cut) {
          fail();
          return;
        }
        try {
          const value = effect();
          const lost = server.losesAnswers;
          time.setTimer(() => (lost ? fail() : answer(() => answered.resolve(value))), server.latencyMs);
        } catch (error) {
          time.setTimer(() => answer(() => answered.reject(error as Error)), server.latencyMs);
        }
      }, server.latencyMs);
      clock.setTimer(
        () => answered.reject(ApiError.unreachable('lease', new Error('deadline'))),
        options.deadlineMs ?? 30_000,
      );
      return answered.promise;
    };
    const client = createClient(request);
    const elector = new LeaderElector({
      client,
      lease: key,
      identity: `process-${number}`,
      logger: silentLogger(),
      clock,
      random: () => 0.5,
    });
    const life = new AbortController();
    let leading = false;
    const running = elector.run(life.signal, async (signal) => {
      leading = true;
      const ended = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => ended.resolve(), { once: true });
      await ended.promise;
      leading = false;
    });
    return {
      elector,
      leading: () => leading,
      writes: [],
      isStopped: () => stopped,
      stop() {
        stopped = true;
      },
      goOn() {
        stopped = false;
        for (const then of held.splice(0)) {
          then();
        }
      },
      cutOff(wished) {
        cut = wished;
      },
      stepClock(ms) {
        wallStep += ms;
      },
      async shutDown() {
        life.abort();
        // The last request is answered by a clock that somebody must move.
        for (let turn = 0; turn < 40; turn++) {
          await time.advance(1000);
        }
        await running;
      },
    };
  };

  return {
    time,
    server,
    processes: skews.map(createProcess),
    join(signal, lead, onAnswer, annotations) {
      const elector = new LeaderElector({
        client: createClient(async (effect) => {
          const answer = effect();
          onAnswer?.();
          return answer;
        }),
        lease: key,
        identity: 'joined',
        logger: silentLogger(),
        clock: time,
        ...(annotations === undefined ? {} : { annotations }),
      });
      return { elector, running: elector.run(signal, lead) };
    },
  };
}

/** Candidates that would write at this moment. */
function writers(world: World): readonly Process[] {
  return world.processes.filter((one) => !one.isStopped() && one.elector.isLeader());
}

async function pass(world: World, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 250) {
    await world.time.advance(250);
    expect(writers(world).length).toBeLessThanOrEqual(1);
  }
}

async function end(world: World): Promise<void> {
  world.server.away = false;
  world.server.losesAnswers = false;
  world.server.latencyMs = 0;
  for (const one of world.processes) {
    one.cutOff(false);
    one.goOn();
  }
  await Promise.all(world.processes.map((one) => one.shutDown()));
}

describe('leader election', () => {
  test('one of several leads; when it goes in order another follows at once', async () => {
    const world = createWorld([0, 0]);
    await pass(world, 5000);
    const [leader] = writers(world);
    expect(leader?.leading()).toBe(true);
    expect(world.server.lease()?.spec?.holderIdentity).toBe(leader?.elector.holderIdentity);
    await leader?.shutDown();
    const [next] = writers(world);
    expect(next).toBeDefined();
    expect(next).not.toBe(leader);
    expect(world.server.lease()?.spec?.leaseTransitions).toBe(1);
    await end(world);
  });

  test('the Lease has the annotations of the leader alone, from its next renewal on, and keeps those of others', async () => {
    const world = createWorld([]);
    const marks = { address: '' };
    const life = new AbortController();
    const { running } = world.join(
      life.signal,
      () => aborted(life.signal),
      () => undefined,
      () => ({ ...marks }),
    );
    await pass(world, 3_000);
    expect(world.server.lease()?.metadata.annotations).toEqual({ address: '' });
    marks.address = '10.0.0.7:9445';
    world.server.annotate({ theirs: 'stays' });
    await pass(world, 5_000);
    expect(world.server.lease()?.metadata.annotations).toEqual({ theirs: 'stays', address: '10.0.0.7:9445' });
    life.abort();
    await pass(world, 5_000);
    await running;
  });

  test('a leader that is stopped is followed, and does not write when it goes on', async () => {
    const world = createWorld([0, 7_200_000]);
    await pass(world, 5000);
    const leader = writers(world)[0];
    leader?.stop();
    await pass(world, 30_000);
    const next = writers(world)[0];
    expect(next).toBeDefined();
    leader?.goOn();
    expect(leader?.elector.isLeader()).toBe(false);
    await pass(world, 10_000);
    expect(leader?.leading()).toBe(false);
    expect(writers(world)).toEqual([next]);
    await end(world);
  });

  test('while the server is away nobody leads after the renewal deadline; the leader leads on afterwards', async () => {
    const world = createWorld([0, 0]);
    await pass(world, 5000);
    world.server.away = true;
    await pass(world, 9000);
    await pass(world, 5000);
    expect(writers(world)).toEqual([]);
    expect(world.processes.some((one) => one.leading())).toBe(false);
    world.server.away = false;
    await pass(world, 20_000);
    expect(writers(world)).toHaveLength(1);
    await end(world);
  });

  test('a lost answer to a renewal is not a lost lease', async () => {
    const world = createWorld([0]);
    await pass(world, 5000);
    world.server.losesAnswers = true;
    await pass(world, 3000);
    world.server.losesAnswers = false;
    await pass(world, 3000);
    expect(writers(world)).toHaveLength(1);
    expect(world.server.lease()?.spec?.leaseTransitions).toBe(0);
    await end(world);
  });

  test('a term that ends by itself gives the lease back, and another leads', async () => {
    const world = createWorld([0]);
    const life = new AbortController();
    const { elector, running } = world.join(life.signal, () => Promise.resolve());
    await pass(world, 5000);
    expect(world.server.lease()?.spec?.holderIdentity).toBe(world.processes[0]?.elector.holderIdentity);
    await world.processes[0]?.shutDown();
    expect(elector.isLeader()).toBe(false);
    expect(world.server.lease()?.spec?.leaseTransitions).toBeGreaterThan(0);
    life.abort();
    await world.time.advance(60_000);
    await running;
    expect(world.server.lease()?.spec?.holderIdentity).toBe('');
  });

  test('a candidate that is told to end while it wins gives the lease back, and does not lead', async () => {
    const world = createWorld([]);
    const life = new AbortController();
    let led = false;
    const lead = (): Promise<void> => {
      led = true;
      return Promise.resolve();
    };
    const { running } = world.join(life.signal, lead, () => {
      if (world.server.lease() !== undefined) {
        life.abort();
      }
    });
    await world.time.advance(60_000);
    await running;
    expect(led).toBe(false);
    expect(world.server.lease()?.spec?.holderIdentity).toBe('');
  });

  test('times that cannot be safe are refused', () => {
    const options = { client: {} as KubeClient, lease: key, identity: 'x', logger: silentLogger() };
    expect(() => new LeaderElector({ ...options, renewDeadlineMs: 15_000 })).toThrow('renew deadline');
    expect(() => new LeaderElector({ ...options, retryMs: 10_000 })).toThrow('renew deadline');
  });

  const number = fc.nat(2);
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(20_000) }) },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constantFrom('stop' as const, 'go on' as const, 'cut off' as const, 'join' as const),
        number,
      }),
    },
    fc.record({ kind: fc.constant('step' as const), number, ms: fc.integer({ min: -60_000, max: 60_000 }) }),
    fc.record({ kind: fc.constant('away' as const), away: fc.boolean() }),
    fc.record({ kind: fc.constant('loses' as const), loses: fc.boolean() }),
    fc.record({ kind: fc.constant('latency' as const), ms: fc.nat(6000) }),
  );

  test('there are never two that would write, whatever stops, steps or fails; and in the end there is one', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30, size: 'max' }), async (steps) => {
        const world = createWorld([0, -3_600_000, 86_400_000]);
        const { server, processes } = world;
        for (const one of steps) {
          switch (one.kind) {
            case 'pass':
              await pass(world, one.ms);
              break;
            case 'stop':
              processes[one.number]?.stop();
              break;
            case 'go on':
              processes[one.number]?.goOn();
              break;
            case 'cut off':
            case 'join':
              processes[one.number]?.cutOff(one.kind === 'cut off');
              break;
            case 'step':
              processes[one.number]?.stepClock(one.ms);
              break;
            case 'away':
              server.away = one.away;
              break;
            case 'loses':
              server.losesAnswers = one.loses;
              break;
            case 'latency':
              server.latencyMs = one.ms;
              break;
          }
          expect(writers(world).length).toBeLessThanOrEqual(1);
        }
        server.away = false;
        server.losesAnswers = false;
        server.latencyMs = 10;
        for (const process of processes) {
          process.cutOff(false);
          process.goOn();
          expect(writers(world).length).toBeLessThanOrEqual(1);
        }
        await pass(world, 60_000);
        expect(writers(world)).toHaveLength(1);
        await end(world);
      }),
      { numRuns: 60, interruptAfterTimeLimit: 40_000, markInterruptAsFailure: true },
    );
  }, 60_000);

  test('a candidate that keeps failing says so, once a minute', async () => {
    const clock = manualClock();
    const { logger, lines } = recordingLogger();
    const life = new AbortController();
    let answer = (): Lease | undefined => {
      throw ApiError.fromAnswer('lease', 403, JSON.stringify({ reason: 'Forbidden', message: 'may not get leases' }));
    };
    const elector = new LeaderElector({
      client: { get: async () => answer() } as unknown as KubeClient,
      lease: key,
      identity: 'candidate',
      logger,
      clock,
      random: () => 0,
    });
    const running = elector.run(life.signal, async () => undefined);
    const warnings = (): number => lines.filter(({ level }) => level >= 40).length;
    await clock.advance(3_000);
    expect(warnings(), 'what may pass by itself').toBe(0);
    await clock.advance(56_000);
    expect(warnings()).toBe(1);
    expect(lines.find(({ level }) => level >= 40)).toMatchObject({
      error: expect.stringContaining('may not get'),
    });
    await clock.advance(120_000);
    expect(warnings()).toBe(3);
    // Another leads: that is no failure.
    answer = () => ({ metadata: key, spec: { holderIdentity: 'another', renewTime: String(clock.now()) } });
    await clock.advance(10_000);
    expect(warnings()).toBe(3);
    life.abort();
    await running;
  });
});
