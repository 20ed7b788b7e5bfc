// Made from crds/lambdafunctions.yaml by `npm run generate`; do not edit.

import type { ObjectMeta } from '../../kube/api/types.ts';
import type { LambdaWorkerSpec } from './lambda-worker.ts';

/**
 * LambdaFunction is a function of the Lambda API and the workers that run it. The controller creates a LambdaWorker from the template for each worker, changes them one after the other when the template changes, and deletes them with the function. Workers of the same function name that somebody else has made serve it too, and are left alone.
 */
export interface LambdaFunction {
  /**
   * esb.dev/v1alpha1.
   */
  readonly apiVersion?: string;
  /**
   * LambdaFunction.
   */
  readonly kind?: string;
  readonly metadata: ObjectMeta;
  readonly spec: LambdaFunctionSpec;
  readonly status?: LambdaFunctionStatus;
}
/**
 * The function, and how many workers run it.
 */
export interface LambdaFunctionSpec {
  /**
   * Name of the function as callers of the Lambda API write it. Without it the name of the resource is meant. Cannot be changed.
   */
  readonly functionName?: string;
  readonly template: LambdaFunctionSpecTemplate;
  readonly scaling: LambdaFunctionSpecScaling;
}
/**
 * The workers that are made. A change is taken to one worker after the other, each of which goes on to serve until its new container is ready. The change stops at a worker that does not become ready.
 */
export interface LambdaFunctionSpecTemplate {
  /**
   * Spec of each worker, as of a LambdaWorker; functionName is that of the function.
   */
  readonly spec: Omit<LambdaWorkerSpec, 'functionName'>;
}
/**
 * How many workers the function has.
 */
export interface LambdaFunctionSpecScaling {
  /**
   * Fixed keeps exactly minWorkers workers.
   */
  readonly mode: 'Fixed';
  /**
   * Workers of the function, which the subresource scale sets too. With 0 its calls are refused, unless workers that somebody else has made serve it.
   */
  readonly minWorkers: number;
}
/**
 * State of the function as the controller has found it.
 */
export interface LambdaFunctionStatus {
  /**
   * The generation of the spec that this is about; -1 until the controller has looked at it.
   */
  readonly observedGeneration?: number;
  /**
   * Workers that the function has, those that are being deleted excepted. Numbers are at most 30 seconds old.
   */
  readonly workers?: number;
  /**
   * Workers among them that are as their spec wishes.
   */
  readonly readyWorkers?: number;
  /**
   * Workers among them that have the present template.
   */
  readonly updatedWorkers?: number;
  /**
   * Labels of the workers, for horizontal autoscalers and kubectl get lw -l.
   */
  readonly selector?: string;
  /**
   * Ready; Reconciling or Stalled only while it is not.
   */
  readonly conditions?: readonly LambdaFunctionStatusCondition[];
}
/**
 * One aspect of the state, in the usual form.
 */
export interface LambdaFunctionStatusCondition {
  /**
   * Which aspect, in CamelCase.
   */
  readonly type: string;
  /**
   * Whether it holds.
   */
  readonly status: 'True' | 'False' | 'Unknown';
  /**
   * The generation of the spec that this is about.
   */
  readonly observedGeneration?: number;
  /**
   * When status last changed.
   */
  readonly lastTransitionTime: string;
  /**
   * Why, in one CamelCase word, for programs.
   */
  readonly reason: string;
  /**
   * Why, for people.
   */
  readonly message: string;
}
