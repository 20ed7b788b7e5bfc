import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { type Clock, systemClock } from '../../../src/common/clock.ts';
import { agentServerLab } from '../../support/agent-server-lab.ts';
import { emulatorFleet } from '../../support/emulator-fleet.ts';
import { desiredFixture } from '../../support/fleet-lab.ts';
import { waitFor } from '../../support/wait-for.ts';
import { filesEntered } from '../../support/walk.ts';

/**
 * Files that a walk may enter: of the agent, and of all. The numbers are those of the source as it is, and go down, but
 * for what Lambda gives to each call, a trace, the word that its answer has arrived, the count by which functions grow,
 * and two files of `gateway/dispatch`: the search for workers and the call at one agent stood in one file with the rest.
 */
const most = {
  invocation: { agent: 16, all: 55 },
  reconcile: { agent: 32 },
};

it('one invocation of a running worker, and one reconcile, enter few files', async () => {
  const timers = heldTimers();
  const fleet = await emulatorFleet((request, response) => {
    request.resume().on('end', () => response.end('{"answer":1}'));
  }, timers.clock);
  fleet.apply(desiredFixture());
  await waitFor('the worker to run', () => fleet.view('uid-of-hello')?.phase === 'Running', { everyMs: 5 });
  const lab = await agentServerLab({ fleet });
  const call = async (): Promise<void> => {
    const response = await lab.call('{}');
    expect([response.status, await response.text()]).toEqual([200, '{"answer":1}']);
  };
  await call();
  await call();
  // Records, views and the patch of the last calls are written meanwhile.
  await setTimeout(300);
  timers.hold();
  // Timers of the gateway may fire in the middle of one of these.
  const calls = [await filesEntered(call), await filesEntered(call), await filesEntered(call)];
  timers.letGo();
  // The word that the last answer has arrived comes after 100 ms.
  await setTimeout(300);
  const entered = calls.reduce((both, next) => both.filter((file) => next.includes(file)));
  const reconcile = await filesEntered(async () => {
    fleet.apply(desiredFixture({ restingState: 'Paused', generation: 2, pauseAfterSeconds: 0 }));
    await waitFor('the worker to rest', () => fleet.view('uid-of-hello')?.phase === 'Paused', { everyMs: 5 });
  });
  expectFew(entered, most.invocation);
  expectFew(reconcile, most.reconcile);
}, 30_000);

/** A clock whose timers ring late while they are held: on a slow machine some would ring in the middle of a call. */
function heldTimers(): { readonly clock: Clock; hold(): void; letGo(): void } {
  let late: (() => void)[] | undefined;
  return {
    clock: {
      ...systemClock,
      setTimer: (callback, delayMs) =>
        systemClock.setTimer(() => (late === undefined ? callback() : void late.push(callback)), delayMs),
    },
    hold: () => {
      late = [];
    },
    letGo: () => {
      const callbacks = late ?? [];
      late = undefined;
      for (const callback of callbacks) {
        callback();
      }
    },
  };
}

function expectFew(files: readonly string[], few: { readonly agent: number; readonly all?: number }): void {
  const ofAgent = files.filter((file) => file.startsWith('agent/'));
  const why = 'the walk in docs/explanation/architecture.md has grown; files entered:';
  expect(ofAgent.length, [why, ...ofAgent].join('\n')).toBeLessThanOrEqual(few.agent);
  expect(files.length, [why, ...files].join('\n')).toBeLessThanOrEqual(few.all ?? files.length);
}
