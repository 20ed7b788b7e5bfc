import { describe, expect, it, onTestFinished } from 'vitest';
import { Decommission } from '../../../../src/agent/node/decommission.ts';
import type { LambdaNode } from '../../../../src/api/lambda-node.ts';
import type { Health } from '../../../../src/common/health.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { fakeInformer } from '../../../support/fake-informer.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';

const nodeOf = (retired: boolean): LambdaNode =>
  ({ metadata: { name: 'node-1' }, spec: { retired, unschedulable: false } }) as LambdaNode;

function world() {
  const clock = manualClock();
  const node = fakeInformer<LambdaNode>([nodeOf(false)]);
  const here = new Set<string>();
  let assigned: number | undefined = 0;
  const told: (Health | undefined)[] = [];
  const retirement = new Decommission({
    node,
    nodeName: 'node-1',
    client: {
      list: async () => {
        if (assigned === undefined) {
          throw new Error('the API server is away');
        }
        return { items: Array.from({ length: assigned }, () => ({}) as never), resourceVersion: '1' };
      },
    },
    fieldSelector: 'status.assignment.nodeName=node-1',
    fleet: { known: () => ({ uids: here, containerIds: new Set() }) },
    health: { retirement: (health) => void told.push(health) },
    clock,
    logger: silentLogger(),
  });
  const stop = new AbortController();
  const running = retirement.run(stop.signal).catch(() => undefined);
  let due = false;
  void retirement.due.then(() => (due = true));
  onTestFinished(async () => {
    stop.abort(new Error('the test is over'));
    await running;
  });
  return {
    node,
    here,
    retirement,
    stop,
    told: () => told.at(-1),
    setAssigned: (next: number | undefined) => {
      assigned = next;
    },
    async isDue() {
      await settle();
      await clock.advance(1_000);
      return due;
    },
  };
}

describe('the retirement of a node', () => {
  it('does not begin before somebody asks for it', async () => {
    const { isDue, told } = world();
    expect(await isDue()).toBe(false);
    expect(told()).toBeUndefined();
  });

  it('is due once no worker is here, and none is assigned either', async () => {
    const { node, here, isDue, setAssigned, told } = world();
    here.add('uid-1');
    setAssigned(1);
    node.put(nodeOf(true));
    expect(await isDue()).toBe(false);
    expect(told()).toMatchObject({ ok: false, reason: 'Draining' });
    here.clear();
    expect(await isDue()).toBe(false);
    setAssigned(0);
    expect(await isDue()).toBe(true);
  });

  it('waits as long as nobody can say what is assigned', async () => {
    const { node, isDue, setAssigned } = world();
    setAssigned(undefined);
    node.put(nodeOf(true));
    expect(await isDue()).toBe(false);
    expect(await isDue()).toBe(false);
    setAssigned(0);
    expect(await isDue()).toBe(true);
  });

  it('is called off by whoever takes the wish back, and may be asked for again', async () => {
    const { node, here, isDue, told } = world();
    here.add('uid-1');
    node.put(nodeOf(true));
    expect(await isDue()).toBe(false);
    node.put(nodeOf(false));
    expect(await isDue()).toBe(false);
    expect(told()).toBeUndefined();
    here.clear();
    expect(await isDue()).toBe(false);
    node.put(nodeOf(true));
    expect(await isDue()).toBe(true);
  });

  it('ends for good: a node that was left is wanted again only when its LambdaNode says so', async () => {
    const { node, retirement, stop } = world();
    node.put(nodeOf(true));
    let wanted = false;
    void retirement.wantedAgain(stop.signal).then(
      () => (wanted = true),
      () => undefined,
    );
    await settle();
    node.remove({ name: 'node-1' });
    await settle();
    expect(wanted).toBe(false);
    node.put(nodeOf(false));
    await settle();
    expect(wanted).toBe(true);
  });
});
