import { unreachable } from '../../common/errors.ts';
import type { CommandContext } from '../command-context.ts';
import { functionProgress, stoppedError } from '../deploy/function-progress.ts';
import { untilCurrent } from '../deploy/function-wait.ts';
import { type TargetOptions, withTarget } from './target.ts';

export interface StatusOptions extends TargetOptions {
  /** Whether to wait for the end of the change. */
  readonly watch: boolean;
  /** Seconds of that wait; 0 for no limit. */
  readonly timeout: number;
}

/**
 * Tells how far the latest change of a function is, and waits for its end.
 *
 * @throws {EsbError} `NotDeployed` where the change has stopped, or does not end in time; as {@link withTarget}
 */
export function runStatus(options: StatusOptions, context: CommandContext): Promise<void> {
  return withTarget(options, context, async ({ client, owner, signal, write }) => {
    const { name } = owner.metadata;
    let last = '';
    const note = (text: string): void => {
      if (text !== last) {
        write(`Waiting for lambdafunction "${name}" rollout to finish: ${text}\n`);
      }
      last = text;
    };
    if (options.watch) {
      const waitMs = options.timeout === 0 ? Number.POSITIVE_INFINITY : options.timeout * 1_000;
      await untilCurrent(client, owner, { step: { note }, waitMs, signal });
    } else {
      const progress = functionProgress(owner);
      switch (progress.kind) {
        case 'Current':
          break;
        case 'InProgress':
          note(progress.message);
          return;
        case 'Failed':
          throw stoppedError(name, progress);
        default:
          unreachable(progress);
      }
    }
    write(`lambdafunction "${name}" successfully rolled out\n`);
  });
}
