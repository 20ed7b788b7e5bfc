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
    throw new EsbError(
      `${failures.length} parts did not end as they should: ${failures.map(messageOf).join('; ')}`,
      {
        code: 'StopFailed',
        cause: failures[0],
      },
    );
  }
}
