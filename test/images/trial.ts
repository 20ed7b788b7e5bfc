import { setTimeout } from 'node:timers/promises';
import { type CallEnd, type CalledWorker, type ImageCaller, TIMEOUT_SECONDS } from './image-caller.ts';
import type { ShapeImage } from './shape-image.ts';
import type { FunctionAnswer, Shape } from './shapes.ts';

/** Steps of a trial, in their order. */
export const trialSteps = [
  'start',
  'cold',
  'warm',
  'woken',
  'after a timeout',
  'agent parked',
  'agent busy',
  'removed',
] as const;
export type TrialStep = (typeof trialSteps)[number];

/** Milliseconds of the steps of an image, and its end. */
export interface Trial {
  readonly times: Partial<Record<TrialStep, number>>;
  /** Why the image did not run, or which step did not come out as it should. */
  readonly fault?: string;
}

/**
 * Calls the function of an image cold, warm, paused and woken, after a timeout in the same container, and over an agent
 * that is killed while the worker waits and while it works. The counts of the function tell which process and which
 * container answered. At the end the worker is removed, in the way in which its processes are told to end.
 */
export async function tryImage(caller: ImageCaller, shape: Shape, image: ShapeImage): Promise<Trial> {
  const times: Partial<Record<TrialStep, number>> = {};
  const timed = async <T>(step: TrialStep, work: () => Promise<T>): Promise<T> => {
    const began = performance.now();
    try {
      return await work();
    } catch (error) {
      throw new Error(`${step}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    } finally {
      times[step] = Math.round(performance.now() - began);
    }
  };
  let worker: CalledWorker | undefined;
  try {
    const started = await timed('start', () => caller.start(shape, image));
    worker = started;
    await timed('cold', () => expectCounts(started, { calls: 1, kept: 1 }));
    await timed('warm', () => expectCounts(started, { calls: 2, kept: 2 }));
    await started.pause();
    await timed('woken', () => expectCounts(started, { calls: 3, kept: 3 }));
    expectKind(await started.call({ sleep: TIMEOUT_SECONDS * 10 }), 'Timeout');
    await timed('after a timeout', () => expectCounts(started, { calls: 1, kept: 5 }));
    await timed('agent parked', async () => {
      await started.restartAgent();
      await expectCounts(started, { calls: 2, kept: 6 });
    });
    await timed('agent busy', async () => {
      const busy = started.call({ sleep: TIMEOUT_SECONDS / 2 });
      await setTimeout(500);
      await started.restartAgent();
      expectKind(await busy, 'Answered', 'Unknown');
      await expectCounts(started, { calls: 4, kept: 8 });
    });
    worker = undefined;
    await timed('removed', () => started.remove());
    return { times };
  } catch (error) {
    return { times, fault: error instanceof Error ? error.message : String(error) };
  } finally {
    await worker?.remove();
  }
}

async function expectCounts(worker: CalledWorker, expected: FunctionAnswer): Promise<void> {
  const end = await worker.call({});
  const { calls, kept } = end.kind === 'Answered' ? end.answer : { calls: 0, kept: 0 };
  if (calls !== expected.calls || kept !== expected.kept) {
    throw new Error(`expected ${JSON.stringify(expected)}, got ${JSON.stringify(end)}`);
  }
}

function expectKind(end: CallEnd, ...kinds: readonly CallEnd['kind'][]): void {
  if (!kinds.includes(end.kind)) {
    throw new Error(`expected ${kinds.join(' or ')}, got ${JSON.stringify(end)}`);
  }
}
