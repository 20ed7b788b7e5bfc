import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../src/agent/model/desired-worker.ts';
import { desiredFromResource } from '../../../src/agent/sync/desired-mapping.ts';
import { FleetLab } from '../../support/fleet-lab.ts';
import { condition } from '../../support/function-fixture.ts';
import { settle } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

/** Grant of a worker by the quotas of its namespace: memory with `/tmp`. */
const granted = { memoryMiB: 192, milliCPU: 10 };

interface Wish {
  readonly memory?: string;
  readonly cpu?: string;
  readonly desiredState?: 'Absent';
  readonly granted?: { readonly memoryMiB: number; readonly milliCPU: number };
  /** Whether the controller has told that the quotas refuse it. */
  readonly isRefused?: true;
}

/** A worker as its node sees it: of 128 MiB, and 64 MiB of `/tmp`, unless it wishes for something else. */
function wishing({ memory = '128Mi', cpu, desiredState, granted: has = granted, isRefused }: Wish = {}): DesiredWorker {
  const requests = cpu === undefined ? {} : { requests: { cpu } };
  const worker = workerFixture({
    spec: {
      resources: { limits: { memory }, pids: 256, ...requests },
      runtimeInterface: 'Emulator',
      ...(desiredState === undefined ? {} : { desiredState }),
    },
    status: {
      assignment: { nodeName: 'node-1', epoch: 1, granted: has },
      ...(isRefused === undefined ? {} : { conditions: [condition('Scheduled', 'False', 'QuotaExceeded')] }),
    },
  });
  const desired = desiredFromResource(worker, 'node-1');
  if (desired === undefined) {
    throw new Error('the node has no such worker');
  }
  return desired;
}

/** Shapes of the containers that have a process. */
function running(lab: FleetLab): readonly string[] {
  return [...lab.runtime.containers.values()]
    .filter(({ task }) => task.kind === 'Running')
    .map(({ shapeHash }) => shapeHash);
}

/** Waits until a container of that shape is the only one. The earlier one goes once the record of the new one is saved. */
function replaced(lab: FleetLab, { shapeHash }: DesiredWorker): Promise<unknown> {
  return waitFor('the replacement', () => running(lab).join() === shapeHash, { everyMs: 2, timeoutMs: 5_000 });
}

const larger = { memoryMiB: 320, milliCPU: 10 };

/** The container that it had answers a call; once it has its grant, that is replaced. */
async function servesUntilGranted(lab: FleetLab): Promise<void> {
  const answer = lab.invoke();
  await settle();
  lab.emulators.answerAll();
  expect(await answer).toMatchObject({ kind: 'Answered' });
  lab.fleet.apply(wishing({ memory: '256Mi', granted: larger }));
  await lab.clock.advance(1_000);
  await replaced(lab, wishing({ memory: '256Mi' }));
  expect(lab.ready()).toMatchObject({ status: 'True' });
}

describe('a worker that asks for more than the quotas of its namespace have granted it', () => {
  it('is served by the container that it had, and replaced once it has its grant', { tags: ['T32'] }, async () => {
    const lab = await FleetLab.with(wishing());
    expect(running(lab)).toEqual([wishing().shapeHash]);
    lab.fleet.apply(wishing({ memory: '256Mi' }));
    await lab.clock.advance(60_000);
    expect(running(lab)).toEqual([wishing().shapeHash]);
    expect(lab.ready()).toMatchObject({
      status: 'False',
      reason: 'Replacing',
      message: expect.stringMatching(/quota/),
    });
    await servesUntilGranted(lab);
  });

  it('is served by the container that it had where the quotas refuse, and is Stalled until they have room', async () => {
    const lab = await FleetLab.with(wishing());
    lab.fleet.apply(wishing({ memory: '256Mi', isRefused: true }));
    await lab.clock.advance(60_000);
    expect(running(lab)).toEqual([wishing().shapeHash]);
    const { Callable, Ready, Stalled, UpToDate } = lab.conditions() ?? {};
    for (const told of [Ready, UpToDate]) {
      expect(told).toMatchObject({
        status: 'False',
        reason: 'QuotaExceeded',
        message: expect.stringMatching(/serves on/),
      });
    }
    expect(Stalled).toMatchObject({ status: 'True', reason: 'QuotaExceeded' });
    expect(Callable).toMatchObject({ status: 'True' });
    await servesUntilGranted(lab);
  });

  it('has its calls refused at once where no container is there and the quotas refuse', async () => {
    const lab = await FleetLab.with(wishing({ memory: '256Mi', desiredState: 'Absent' }));
    const early = lab.invoke();
    await settle();
    lab.fleet.apply(wishing({ memory: '256Mi', desiredState: 'Absent', isRefused: true }));
    const late = lab.invoke();
    for (const answer of [early, late]) {
      expect(await answer).toMatchObject({
        kind: 'Refused',
        reason: 'NodeFull',
        message: expect.stringMatching(/quota/),
      });
    }
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'QuotaExceeded' });
  });

  it('is not started: its calls wait for the grant, and are answered then', async () => {
    const lab = await FleetLab.with(wishing({ memory: '256Mi', desiredState: 'Absent' }));
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'Pending', message: expect.stringMatching(/quota/) });
    const answer = lab.invoke();
    await lab.clock.advance(2_000);
    expect(running(lab)).toEqual([]);
    lab.fleet.apply(wishing({ memory: '256Mi', desiredState: 'Absent', granted: larger }));
    await settle();
    lab.emulators.answerAll();
    expect(await answer).toMatchObject({ kind: 'Answered' });
  });

  it('has its calls refused where no grant has come for eight seconds', async () => {
    const lab = await FleetLab.with(wishing({ memory: '256Mi', desiredState: 'Absent' }));
    const answer = lab.invoke();
    await lab.clock.advance(8_000);
    expect(await answer).toMatchObject({
      kind: 'Refused',
      reason: 'NodeFull',
      message: expect.stringMatching(/quota/),
    });
    expect(running(lab)).toEqual([]);
  });

  it('waits for CPU as for memory, and is not started by an agent that starts again either', async () => {
    const lab = await FleetLab.with(wishing({ cpu: '1', memory: '129Mi' }));
    expect(running(lab)).toEqual([]);
    await lab.recorded(({ desired }) => desired.memoryMiB === 129);
    const again = await lab.restart();
    await again.clock.advance(5_000);
    expect(running(again)).toEqual([]);
  });
});

describe('an agent that starts again while the API is away', () => {
  const absent = { memory: '256Mi', desiredState: 'Absent' } as const;

  it('makes the container that was granted', async () => {
    const before = await FleetLab.with(wishing(absent));
    await before.recorded(({ desired }) => desired.awaitsGrant === true);
    before.fleet.apply(wishing({ ...absent, granted: larger }));
    await before.recorded(({ desired }) => desired.awaitsGrant === undefined);
    const lab = await before.restart();
    lab.emulators.onCall = (call) => call.answer();
    expect(await lab.invoke()).toMatchObject({ kind: 'Answered' });
  });

  it('makes none that the policy has forbidden since', async () => {
    const before = await FleetLab.with(wishing({ desiredState: 'Absent' }));
    const permission = { kind: 'Refused', message: 'too large' } as const;
    before.fleet.apply({ ...wishing({ desiredState: 'Absent' }), permission });
    await before.recorded(({ desired }) => desired.permission?.kind === 'Refused');
    const lab = await before.restart();
    const answer = lab.invoke();
    await lab.clock.advance(10_000);
    expect(await answer).toMatchObject({ kind: 'Refused' });
    expect(running(lab)).toEqual([]);
  });
});

describe('a worker that asks for no more than it was granted', () => {
  it('is changed at once', async () => {
    const lab = await FleetLab.with(wishing());
    lab.fleet.apply(wishing({ memory: '64Mi' }));
    await lab.clock.advance(1_000);
    await replaced(lab, wishing({ memory: '64Mi' }));
  });
});
