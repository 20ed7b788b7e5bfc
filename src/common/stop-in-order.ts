import { EsbError, messageOf } from './errors.ts';

/** Ends one part of a program. */
export type StopStep = () => Promise<unknown> | undefined;

/**
 * Ends parts of a program one after the other. One that fails keeps none of the following from being ended.
 *
 * @throws what the only failing step threw; {EsbError} `StopFailed` with all messages when there are several
 */
export async function stopInOrder(steps: readonly StopStep[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length === 1) {
    throw failures[0];
  }
  if (failures.length > 1) {
    throw new EsbError(`${failures.length} parts did not end as they should: ${failures.map(messageOf).join('; ')}`, {
      code: 'StopFailed',
      cause: failures[0],
    });
  }
}

/** How to end the parts of a program, in the order in which the parts were made. */
export class StopStack {
  readonly #steps: StopStep[] = [];

  /** Adds the end of the part that was just made. */
  defer(step: StopStep): void {
    this.#steps.push(step);
  }

  /** Ends the parts, the last one first. Errors as of {@link stopInOrder}. */
  async stop(): Promise<void> {
    await stopInOrder(this.#steps.splice(0).toReversed());
  }
}

/**
 * Runs a program, and ends the parts that it deferred whether it returns or throws: a start that fails half-way leaves
 * nothing behind.
 */
export async function withStops(run: (stops: StopStack) => Promise<void>): Promise<void> {
  const stops = new StopStack();
  try {
    await run(stops);
  } finally {
    await stops.stop();
  }
}
