import type { LambdaFunction } from '../../api/lambda-function.ts';
import { lambdaFunctions } from '../../api/lambda-function.ts';
import type { Clock } from '../../common/clock.ts';
import { EsbError, unreachable } from '../../common/errors.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import { pause } from '../pause.ts';
import type { Step } from '../progress.ts';
import { functionProgress } from './function-progress.ts';

const LOOK_EVERY_MS = 300;

interface Wait {
  readonly step: Step;
  readonly clock: Clock;
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

/**
 * Waits until a function is as its newest spec wishes.
 *
 * @throws {EsbError} `NotDeployed` where that cannot be, or is not in time
 */
export async function untilCurrent(
  client: Pick<KubeClient, 'get'>,
  { metadata }: LambdaFunction,
  { clock, signal, step, waitMs }: Wait,
): Promise<void> {
  const { name, namespace } = metadata;
  const end = clock.monotonic() + waitMs;
  for (;;) {
    let found: LambdaFunction | undefined;
    try {
      found = await client.get(lambdaFunctions, { namespace, name }, { signal });
    } catch (error) {
      if (!(error instanceof EsbError && error.retryable) || clock.monotonic() >= end) {
        throw error;
      }
      step.note(error.message);
      await pause(signal, LOOK_EVERY_MS);
      continue;
    }
    // The state of another function of that name says nothing of the one that was applied.
    if (found === undefined || found.metadata.uid !== metadata.uid) {
      const again = found === undefined ? '' : ', and made another one of its name';
      throw new EsbError(`somebody has deleted ${namespace}/${name} meanwhile${again}`, { code: 'NotDeployed' });
    }
    const state = functionProgress(found);
    switch (state.kind) {
      case 'Current':
        return;
      case 'Failed':
        throw new EsbError(`${name} cannot become up to date: ${state.reason}: ${state.message}`, {
          code: 'NotDeployed',
        });
      case 'InProgress':
        step.note(state.message);
        if (clock.monotonic() >= end) {
          throw new EsbError(
            `${name} is not up to date after ${waitMs / 1_000} s: ${state.message}. The controller goes on; look with ` +
              `kubectl get lambdafunction ${name} -n ${namespace} -o wide, or esb ps`,
            { code: 'NotDeployed' },
          );
        }
        await pause(signal, LOOK_EVERY_MS);
        break;
      default:
        unreachable(state);
    }
  }
}
