import { describe, expect, it } from 'vitest';
import { EsbError } from '../../../src/common/errors.ts';
import { watchFileSyncs } from '../../support/file-syncs.ts';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('a worker', () => {
  it('that a call came to before its warm-up is shown as running once the call is answered', async () => {
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Absent', warmUpPayload: '{}' }));
    lab.fleet.apply(desiredFixture({ restingState: 'Running', warmUpPayload: '{}', generation: 2 }));
    const call = lab.invoke();
    await settle();
    lab.emulators.answerAll();
    expect((await call).kind).toBe('Answered');
    await lab.clock.advance(60_000);
    expect(lab.phase()).toBe('Running');
    expect(lab.ready()?.status).toBe('True');
  });

  it('whose container an agent finds stopped has its share of the node counted before it is looked at', async () => {
    const capacity = { memoryMiB: 2 * 144, workers: 10 };
    const first = await FleetLab.with(desiredFixture(), { capacity });
    await first.recorded(({ startedAt }) => startedAt !== undefined);
    first.runtime.exit(first.container(), 1);
    const looked = Promise.withResolvers<void>();
    first.runtime.before = (operation) => (operation === 'inspect' ? looked.promise : Promise.resolve());
    const lab = await first.restart({ capacity });
    lab.fleet.apply(desiredFixture({ name: 'one' }));
    lab.fleet.apply(desiredFixture({ name: 'two' }));
    await settle();
    looked.resolve();
    await lab.clock.advance(20_000);
    expect(lab.runtime.containers.size).toBe(2);
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 288, workers: 2 });
  });

  it('is not called at the address of an earlier container, which another worker has by now', async () => {
    const first = await FleetLab.with(desiredFixture());
    first.runtime.reusesAddresses = true;
    await first.recorded(({ served }) => served !== undefined);
    let isFull = true;
    await watchFileSyncs(async (path) => {
      if (isFull && path.startsWith(first.folder) && path.endsWith('.tmp')) {
        await Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' }));
      }
    });
    const { promise: taken, resolve } = Promise.withResolvers<void>();
    first.runtime.before = async (operation, containerId) => {
      if (operation === 'ensure' && containerId === first.container()) {
        await taken;
      }
    };
    await first.runtime.destroy(first.container());
    await settle();
    first.fleet.apply(desiredFixture({ name: 'other' }));
    const isThere = (name: string) => () => first.task(name) === 'Running';
    await waitFor('the other worker', isThere('other'), { everyMs: 2, timeoutMs: 5_000 });
    resolve();
    await waitFor('the worker', isThere('hello'), { everyMs: 2, timeoutMs: 5_000 });
    first.runtime.down = true;
    const lab = await first.restart();
    const called = lab.invoke();
    await lab.clock.advance(6_000);
    expect(lab.emulators.sent).toEqual([]);
    expect(await called).toMatchObject({ kind: 'Refused' });
    isFull = false;
  });

  it('whose container is not known to an agent that finds no runtime has its share counted until it is', async () => {
    const first = await FleetLab.with(desiredFixture());
    first.fleet.apply(desiredFixture({ name: 'other', restingState: 'Paused' }));
    await first.recorded(({ startedAt }) => startedAt !== undefined);
    await first.recorded(({ pausedAt }) => pausedAt !== undefined, 'other');
    first.runtime.exit(first.container(), 1);
    await first.runtime.destroy(first.container('other'));
    first.runtime.down = true;
    const lab = await first.restart();
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 288, workers: 2 });
    lab.fleet.apply(desiredFixture({ name: 'other', restingState: 'Absent', generation: 2 }));
    lab.runtime.down = false;
    await lab.clock.advance(20_000);
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 144, workers: 1 });
  });

  it('has each of its containers where the runtime comes back while an agent that starts waits for its list', async () => {
    const { next, old } = await foundWhileTheRuntimeComesBack();
    await old.clock.advance(31_000);
    // No room for another beside it.
    const lab = await old.restart({ capacity: { memoryMiB: 144, workers: 10 } });
    await lab.fleet.sweep(new Set(['uid-of-hello']), () => Promise.resolve(false));
    await lab.clock.advance(20_000);
    await lab.recorded(({ container }) => container?.id === next);
    await lab.clock.advance(20_000);
    expect(lab.runtime.operations).not.toContain(`destroy ${next}`);
    expect([...lab.runtime.containers.keys()]).toEqual([next]);
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ phase: 'Running', containerId: next });
  });

  it('that comes back to such a node has none of the containers that went with it', async () => {
    const { next, old } = await foundWhileTheRuntimeComesBack();
    const lab = await old.restart();
    await lab.clock.advance(60_000);
    await lab.recorded(({ container }) => container?.id === next);
    await lab.clock.advance(20_000);
    lab.fleet.release('uid-of-hello');
    await lab.clock.advance(20_000);
    expect(lab.fleet.views()).toEqual([]);
    expect([...lab.runtime.containers.keys()]).toEqual([]);
    lab.fleet.apply(desiredFixture({ restingState: 'Absent', shapeHash: 'v1-b', generation: 2, epoch: 2 }));
    expect(lab.phase()).toBe('Absent');
  });
});

/**
 * An agent has died while a container was being replaced. The one after it waits for the list of the node as containerd
 * comes back: that list fails, and those after it do not.
 */
async function foundWhileTheRuntimeComesBack(): Promise<{ readonly old: FleetLab; readonly next: string }> {
  const old = await FleetLab.with(desiredFixture());
  await old.recorded(({ served }) => served !== undefined);
  const next = old.container('hello', 'v1-b');
  const { runtime } = old;
  let isOld = true;
  runtime.listens = async () => {
    if (isOld) {
      await new Promise(() => undefined);
    }
  };
  old.fleet.apply(desiredFixture({ shapeHash: 'v1-b', generation: 2 }));
  await old.recorded(({ desired }) => desired.shapeHash === 'v1-b');
  expect([...runtime.containers.keys()]).toEqual([old.container(), next]);
  isOld = false;
  let lists = 0;
  runtime.before = async (operation) => {
    lists += operation === 'list' ? 1 : 0;
    if (operation === 'list' && lists === 1) {
      runtime.emit({ kind: 'Reconnected', containerId: '' });
      await settle();
      throw new EsbError('list: no answer', { code: 'RuntimeUnavailable', retryable: true });
    }
  };
  return { old, next };
}
