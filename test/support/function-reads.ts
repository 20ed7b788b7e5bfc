import type { LambdaFunction } from '../../src/api/lambda-function.ts';
import { EsbError } from '../../src/common/errors.ts';
import type { KubeClient } from '../../src/kube/api/types.ts';

/** A client whose reads end in turn as these do; the last one goes on. */
export function functionReads(
  ...outcomes: readonly (LambdaFunction | EsbError | undefined)[]
): Pick<KubeClient, 'get'> {
  let at = -1;
  return {
    get: (() => {
      at = Math.min(at + 1, outcomes.length - 1);
      const outcome = outcomes[at];
      return outcome instanceof EsbError ? Promise.reject(outcome) : Promise.resolve(outcome);
    }) as KubeClient['get'],
  };
}
