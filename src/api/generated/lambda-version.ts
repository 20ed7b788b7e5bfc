// Made from crds/lambdaversions.yaml by `npm run generate`; do not edit.

import type { ObjectMeta } from '../../kube/api/types.ts';
import type { LambdaWorkerSpec } from './lambda-worker.ts';

/**
 * LambdaVersion is a LambdaFunction as it was at one time: its template with the image by its digest, under a number that is never given again. The controller publishes it, as spec.publish and spec.publishToken of the LambdaFunction say, and makes its workers while an alias of the function names it. The version belongs to its LambdaFunction and goes with it.
 */
export interface LambdaVersion {
  /**
   * esb.dev/v1alpha1.
   */
  readonly apiVersion?: string;
  /**
   * LambdaVersion.
   */
  readonly kind?: string;
  readonly metadata: ObjectMeta;
  readonly spec: LambdaVersionSpec;
  readonly status?: LambdaVersionStatus;
}
/**
 * The function at that time. Cannot be changed.
 */
export interface LambdaVersionSpec {
  /**
   * Name of the function as callers of the Lambda API write it.
   */
  readonly functionName: string;
  /**
   * The number, which callers write as the qualifier.
   */
  readonly version: number;
  /**
   * Purpose of the version, in words.
   */
  readonly description?: string;
  readonly template: LambdaVersionSpecTemplate;
}
/**
 * The workers that are made of the version.
 */
export interface LambdaVersionSpecTemplate {
  /**
   * Spec of each worker, as of a LambdaWorker, with the image by its digest. With imagePullPolicy Never the image stays as it was named, since nodes find it by that name alone.
   */
  readonly spec: Omit<LambdaWorkerSpec, 'functionName' | 'version'>;
}
/**
 * State of the version as the controller has found it.
 */
export interface LambdaVersionStatus {
  /**
   * The generation of the spec that this is about; -1 until the controller has looked at it.
   */
  readonly observedGeneration?: number;
  /**
   * Pending until one worker of the version was ready, for which one is made even where no alias names the version. Active from then on. Failed while that worker cannot be started, as the condition Ready tells.
   */
  readonly state?: 'Pending' | 'Active' | 'Failed';
  /**
   * Workers that the version has, those that are being deleted excepted.
   */
  readonly workers?: number;
  /**
   * Workers among them that are as their spec wishes.
   */
  readonly readyWorkers?: number;
  /**
   * Ready; Reconciling or Stalled only while it is not.
   */
  readonly conditions?: readonly LambdaVersionStatusCondition[];
}
/**
 * One aspect of the state, in the usual form.
 */
export interface LambdaVersionStatusCondition {
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
