// Made from crds/lambdaquotas.yaml by `npm run generate`; do not edit.

import type { ObjectMeta } from '../../kube/api/types.ts';

/**
 * LambdaQuota bounds what the workers of its namespace may have together. A worker beyond it gets no node until there is room; the oldest goes first. Where a namespace has several, all of them hold.
 */
export interface LambdaQuota {
  /**
   * esb.dev/v1alpha1.
   */
  readonly apiVersion?: string;
  /**
   * LambdaQuota.
   */
  readonly kind?: string;
  readonly metadata: ObjectMeta;
  readonly spec: LambdaQuotaSpec;
  readonly status?: LambdaQuotaStatus;
}
/**
 * Bounds of the namespace.
 */
export interface LambdaQuotaSpec {
  readonly hard: LambdaQuotaSpecHard;
}
/**
 * The most that workers with a node may have together. Others are not bounded.
 */
export interface LambdaQuotaSpecHard {
  /**
   * Memory limits of the workers and their ephemeralStorage, as a quantity of bytes.
   */
  readonly memory?: number | string;
  /**
   * CPU that the workers ask for (resources.requests.cpu), as a quantity of cores, whether they are awake or not.
   */
  readonly cpu?: number | string;
  /**
   * Number of workers.
   */
  readonly workers?: number;
}
/**
 * What the controller has found.
 */
export interface LambdaQuotaStatus {
  /**
   * The generation of the spec that this is about.
   */
  readonly observedGeneration?: number;
  readonly hard?: LambdaQuotaStatusHard;
  readonly used?: LambdaQuotaStatusUsed;
}
/**
 * The bounds that are enforced.
 */
export interface LambdaQuotaStatusHard {
  /**
   * Memory limits of the workers and their ephemeralStorage, as a quantity of bytes.
   */
  readonly memory?: string;
  /**
   * CPU that the workers ask for (resources.requests.cpu), as a quantity of cores, whether they are awake or not.
   */
  readonly cpu?: string;
  /**
   * Number of workers.
   */
  readonly workers?: number;
}
/**
 * Amounts of the workers that are assigned to a node, running, paused or Absent. At most a few seconds old.
 */
export interface LambdaQuotaStatusUsed {
  /**
   * Memory limits of the workers and their ephemeralStorage, as a quantity of bytes.
   */
  readonly memory?: string;
  /**
   * CPU that the workers ask for (resources.requests.cpu), as a quantity of cores, whether they are awake or not.
   */
  readonly cpu?: string;
  /**
   * Number of workers.
   */
  readonly workers?: number;
}
