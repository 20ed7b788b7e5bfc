import { describe, expect, it } from 'vitest';
import { WorkerEvents } from '../../../../src/agent/sync/worker-events.ts';
import type { AgentEventReason } from '../../../../src/api/condition.ts';
import { EsbError } from '../../../../src/common/errors.ts';
import { InitFailedError } from '../../../../src/init/init-failed-error.ts';
import type { RecordedEvent } from '../../../../src/kube/events/event-series.ts';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';
import { settle } from '../../../support/manual-clock.ts';

const lambda = { runtimeInterface: 'Lambda' } as const;
const image = 'registry.example/hello:1';

/** A fleet with one worker, and the Events of it; `told()` empties the list. */
async function lab(change: Parameters<typeof desiredFixture>[0] = {}) {
  const recorded: RecordedEvent<AgentEventReason>[] = [];
  const events = new WorkerEvents({ record: (event) => recorded.push(event) });
  const fleetLab = new FleetLab({ onAnswered: (worker, result) => events.answered(worker, result) });
  await fleetLab.fleet.adopt();
  events.follow(fleetLab.fleet);
  return {
    lab: fleetLab,
    recorded,
    told: () => recorded.splice(0).map(({ note, reason }) => `${reason}: ${note}`),
    apply: async (more: Parameters<typeof desiredFixture>[0] = {}) => {
      fleetLab.fleet.apply(desiredFixture({ ...change, ...more }));
      await settle();
    },
  };
}

describe('Events of a worker', () => {
  it('name the worker, and tell of a pull that was made', async () => {
    const { apply, recorded } = await lab();
    await apply();
    expect(recorded).toEqual([
      {
        type: 'Normal',
        reason: 'Pulled',
        action: 'Pull',
        note: `pulled ${image}`,
        regarding: {
          apiVersion: 'esb.dev/v1alpha1',
          kind: 'LambdaWorker',
          namespace: 'default',
          name: 'hello',
          uid: 'uid-of-hello',
        },
      },
    ]);
  });

  it('tell of each pull and each start that failed, in the same words', async () => {
    const { apply, lab: fleet, told } = await lab();
    const missing = new EsbError('no such image', { code: 'ImageNotFound' });
    fleet.runtime.pulls = false;
    fleet.runtime.fail(
      'ensure',
      { error: missing },
      { error: missing },
      { error: new EsbError('no', { code: 'CreateFailed' }) },
    );
    await apply();
    await fleet.clock.advance(120_000);
    expect(told()).toEqual([
      'PullFailed: ImageNotFound: no such image',
      'PullFailed: ImageNotFound: no such image',
      'StartFailed: CreateFailed: no',
    ]);
  });

  it('tell of an initialization that failed', async () => {
    const { apply, lab: fleet, told } = await lab(lambda);
    fleet.runtime.pulls = false;
    fleet.runtime.fail('ensure', { error: InitFailedError.untold('the init has not said that the worker is ready') });
    await apply();
    await fleet.clock.advance(200);
    expect(told().filter((line) => line.startsWith('StartFailed'))).toEqual([
      expect.stringContaining('the init has not said that the worker is ready'),
    ]);
  });

  it('tell of the end of a process without its output, and of one that was killed for its memory', async () => {
    const { apply, lab: fleet, told } = await lab();
    await apply();
    told();
    fleet.runtime.logs.set(fleet.container(), 'a secret of the function\n');
    fleet.runtime.exit(fleet.container(), 7);
    await fleet.clock.advance(60_000);
    fleet.runtime.exit(fleet.container(), 137, true);
    await fleet.clock.advance(60_000);
    expect(told().filter((line) => !line.startsWith('Pulled'))).toEqual([
      'Crashed: the process of the worker ended with code 7; status.lastTermination has its last output',
      'OOMKilled: the worker was killed for using more memory than its limit',
    ]);
  });

  it('tell of calls that took too long, by either interface, and of a runtime that ended in a call', async () => {
    const { apply, lab: fleet, told } = await lab(lambda);
    await apply();
    told();
    for (const outcome of ['Timeout', 'Exited', 'Error', 'Answered'] as const) {
      const call = fleet.invoke();
      await settle();
      fleet.inits.calls[0]?.end({ kind: 'Ended', end: { outcome, size: 0, durationUs: 1 } });
      await call;
    }
    expect(told()).toEqual([
      'CallTimedOut: a call took longer than spec.timeoutSeconds',
      'RuntimeExited: the runtime ended in the middle of a call, and is started again',
    ]);
    const emulated = await lab();
    await emulated.apply();
    emulated.told();
    const call = emulated.lab.invoke();
    await settle();
    emulated.lab.emulators.calls[0]?.end({ kind: 'TimedOut' });
    await call;
    expect(emulated.told()).toEqual(['CallTimedOut: a call took longer than spec.timeoutSeconds']);
  });

  it('tell of a replacement that fails while the earlier container serves', async () => {
    const { apply, lab: fleet, told } = await lab();
    await apply();
    told();
    fleet.runtime.pulls = false;
    fleet.runtime.fail('ensure', { error: new EsbError('no', { code: 'CreateFailed' }) });
    await apply({ generation: 2, shapeHash: 'v1-b', image: 'registry.example/hello:2' });
    await fleet.clock.advance(200);
    expect(told()).toEqual([
      'ReplacementFailed: CreateFailed: no; the earlier container serves on, and the replacement is tried again',
    ]);
  });

  it('do not tell again what an earlier run of the agent has told', async () => {
    const { apply, lab: fleet } = await lab();
    await apply();
    fleet.runtime.exit(fleet.container(), 7);
    await settle();
    const next = await fleet.restart();
    const recorded: unknown[] = [];
    new WorkerEvents({ record: (event) => recorded.push(event) }).follow(next.fleet);
    await next.clock.advance(1_000);
    expect(recorded).toEqual([]);
  });
});
