import type { KubeObject, ObjectMeta, ResourceType } from '../kube/api/types.ts';
import type { LambdaFunction, LambdaFunctionSpec, LambdaFunctionStatus } from './generated/lambda-function.ts';
import { LABEL_PREFIX } from './label.ts';
import { type LambdaWorker, WORKER_FINALIZER } from './lambda-worker.ts';
import { API_GROUP, API_VERSION } from './name.ts';
import { hashOfTemplate } from './template-hash.ts';

export type {
  LambdaFunction,
  LambdaFunctionSpec,
  LambdaFunctionSpecUrl,
  LambdaFunctionSpecUrlCors,
  LambdaFunctionStatus,
} from './generated/lambda-function.ts';

export const lambdaFunctions: ResourceType<LambdaFunction> = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'LambdaFunction',
  plural: 'lambdafunctions',
  namespaced: true,
};

/** Label of the workers of a LambdaFunction: the name of the resource. */
export const FUNCTION_LABEL = `${LABEL_PREFIX}lambda-function`;
/** Label of the workers of a version: its number. */
export const VERSION_LABEL = `${LABEL_PREFIX}lambda-version`;
/** Annotation of the workers of a LambdaFunction: the hash of the template that they were last given. */
export const TEMPLATE_ANNOTATION = `${LABEL_PREFIX}template`;

/** Annotation of workers that have settings of their LambdaFunction in place of those of a template. */
export const SETTINGS_ANNOTATION = `${LABEL_PREFIX}function-settings`;

/** Template of the workers of a function or of a version. */
export type WorkerTemplate = LambdaFunctionSpec['template'];
/** An alias as it is in effect. */
export type EffectiveAlias = NonNullable<LambdaFunctionStatus['aliases']>[number];

/** The LambdaFunction that a worker or a version belongs to. */
export interface FunctionOwner {
  readonly name: string;
  readonly uid: string;
}

/** The owner of a worker or a version where that is a LambdaFunction; names and labels say nothing of it. */
export function functionOwnerOf({ ownerReferences }: Pick<ObjectMeta, 'ownerReferences'>): FunctionOwner | undefined {
  const owner = ownerReferences?.find(({ controller }) => controller === true);
  const isOurs = owner?.kind === lambdaFunctions.kind && owner.apiVersion.startsWith(`${API_GROUP}/`);
  return isOurs ? { name: owner.name, uid: owner.uid } : undefined;
}

/** Name of the function as callers write it. */
export function calledNameOf({ metadata, spec }: LambdaFunction): string {
  return spec.functionName ?? metadata.name;
}

/**
 * Whether an object is older than another, by name among those of one second. Of several LambdaFunctions that callers
 * name alike, the oldest has what belongs to the name: aliases, versions, the URL.
 */
export function isElder({ metadata: one }: KubeObject, { metadata: other }: KubeObject): boolean {
  const [created = '', otherCreated = ''] = [one.creationTimestamp, other.creationTimestamp];
  return created === otherCreated ? one.name < other.name : created < otherCreated;
}

/** How a function grows and shrinks with its calls. */
export interface AutoScaling {
  readonly maxWorkers: number;
  readonly spareWorkers: number;
  /** Milliseconds that workers stay after they were last needed. */
  readonly delayMs: number;
}

/** The scaling of a function of the mode Auto, by the words of its definition where it says nothing; else undefined. */
export function autoScalingOf({ spec }: LambdaFunction): AutoScaling | undefined {
  const { minWorkers, mode, scaleDownDelaySeconds = 300, spareWorkers = 1 } = spec.scaling;
  const { maxWorkers = Math.max(10, minWorkers) } = spec.scaling;
  return mode === 'Auto' ? { maxWorkers, spareWorkers, delayMs: scaleDownDelaySeconds * 1_000 } : undefined;
}

/** Tells apart templates whose workers would differ. 16 hexadecimal digits. */
export function templateHashOf(template: WorkerTemplate): string {
  return hashOfTemplate(template.spec);
}

/**
 * Hash of the present template of a function. While the spec is the one that the status is about, that is the hash of
 * then: a default that a newer definition adds to the template changes no spec.
 */
export function presentTemplateOf({ metadata, spec, status }: LambdaFunction, templateHash?: string): string {
  const known = status?.observedGeneration === metadata.generation ? status?.revisions?.at(-1) : undefined;
  return known?.template ?? templateHash ?? templateHashOf(spec.template);
}

/** The reference by which a LambdaFunction owns a worker or a version. */
export function ownerReferenceTo({ metadata }: LambdaFunction): NonNullable<ObjectMeta['ownerReferences']>[number] {
  const { name, uid = '' } = metadata;
  const apiVersion = `${API_GROUP}/${API_VERSION}`;
  return { apiVersion, kind: lambdaFunctions.kind, name, uid, controller: true, blockOwnerDeletion: true };
}

/** Source of a worker of a function. */
export interface WorkerSource {
  /** The version that it runs; undefined for $LATEST. */
  readonly version: number | undefined;
  readonly template: WorkerTemplate;
  /** Hash of the template. */
  readonly hash: string;
}

/** Whether a function has settings in place of those of its templates. */
export function hasSettings({ spec }: LambdaFunction): boolean {
  return spec.reservedConcurrency !== undefined || spec.asyncInvoke !== undefined;
}

/** The spec of a template with the settings of its function. */
export function withSettings({ spec }: LambdaFunction, template: WorkerTemplate['spec']): WorkerTemplate['spec'] {
  const { asyncInvoke, reservedConcurrency: reserved } = spec;
  return {
    ...template,
    ...(reserved === undefined ? {} : { concurrency: { queueDepth: 100, ...template.concurrency, reserved } }),
    ...(asyncInvoke === undefined ? {} : { asyncInvoke }),
  };
}

/** A worker of a function as it is created. */
export function workerOf(owner: LambdaFunction, name: string, { hash, template, version }: WorkerSource): LambdaWorker {
  const { metadata } = owner;
  return {
    apiVersion: `${API_GROUP}/${API_VERSION}`,
    kind: 'LambdaWorker',
    metadata: {
      name,
      namespace: metadata.namespace,
      labels: {
        [FUNCTION_LABEL]: metadata.name,
        ...(version === undefined ? {} : { [VERSION_LABEL]: String(version) }),
      },
      annotations: { [TEMPLATE_ANNOTATION]: hash, ...(hasSettings(owner) ? { [SETTINGS_ANNOTATION]: 'true' } : {}) },
      ownerReferences: [ownerReferenceTo(owner)],
      // A write less before its assignment, where no admission policy gives it.
      finalizers: [WORKER_FINALIZER],
    },
    spec: {
      ...withSettings(owner, template.spec),
      functionName: calledNameOf(owner),
      ...(version === undefined ? {} : { version }),
    },
  };
}
