import type { LambdaFunction } from '../../api/lambda-function.ts';
import { lambdaFunctions } from '../../api/lambda-function.ts';
import { EsbError, unreachable } from '../../common/errors.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import type { Step } from '../progress.ts';
import { lookUntil } from '../wait.ts';
import { type FunctionProgress, functionProgress, stoppedError } from './function-progress.ts';

const LOOK_EVERY_MS = 300;

interface Wait {
  readonly step: Step;
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
  { signal, step, waitMs }: Wait,
): Promise<void> {
  const { name, namespace } = metadata;
  const look = async (): Promise<FunctionProgress | Unreached> => {
    let found: LambdaFunction | undefined;
    try {
      found = await client.get(lambdaFunctions, { namespace, name }, { signal });
    } catch (error) {
      if (error instanceof EsbError && error.retryable) {
        step.note(error.message);
        return { kind: 'Unreached', error };
      }
      throw error;
    }
    // The state of another function of that name says nothing of the one that was applied.
    if (found === undefined || found.metadata.uid !== metadata.uid) {
      const again = found === undefined ? '' : ', and made another one of its name';
      throw new EsbError(`somebody has deleted ${namespace}/${name} meanwhile${again}`, { code: 'NotDeployed' });
    }
    const progress = functionProgress(found);
    if (progress.kind === 'InProgress') {
      step.note(progress.message);
    }
    return progress;
  };
  const isSettled = ({ kind }: FunctionProgress | Unreached): boolean => kind === 'Current' || kind === 'Failed';
  const last = await lookUntil(look, isSettled, { withinMs: waitMs, everyMs: LOOK_EVERY_MS, signal });
  switch (last.kind) {
    case 'Current':
      return;
    case 'Failed':
      throw stoppedError(name, last);
    case 'InProgress':
      throw new EsbError(
        `${name} is not up to date after ${waitMs / 1_000} s: ${last.message}. The controller goes on; look with ` +
          `kubectl get lambdafunction ${name} -n ${namespace} -o wide, or esb ps`,
        { code: 'NotDeployed' },
      );
    case 'Unreached':
      throw last.error;
    default:
      unreachable(last);
  }
}

/** A look at an API server that may answer the next time. */
interface Unreached {
  readonly kind: 'Unreached';
  readonly error: EsbError;
}
