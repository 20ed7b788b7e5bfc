// Made from crds/lambdafunctions.yaml by `npm run generate`; do not edit.

import type { ObjectMeta } from '../../kube/api/types.ts';
import type { LambdaWorkerSpec } from './lambda-worker.ts';

/**
 * LambdaFunction is a function of the Lambda API and the workers that run it. The controller creates a LambdaWorker from the template for each worker, changes them as spec.rollout says when the template changes, and deletes them with the function. Workers of the same function name that somebody else has made serve it too, and are left alone.
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
  /**
   * Purpose of the function, in words. A version keeps the words of when it was published.
   */
  readonly description?: string;
  /**
   * When a LambdaVersion is made of the template. Manual: for each new publishToken. OnChange: after each change of the template too, once status.rollout is Complete.
   */
  readonly publish: 'Manual' | 'OnChange';
  /**
   * Any new value, such as a commit or a time, publishes the present template as the next version, once one of its workers is ready. Nothing is published where neither the template nor the digest of its image has changed since the latest version. The same value again does nothing.
   */
  readonly publishToken?: string;
  /**
   * Names for versions. A version that an alias names has workers of its own, as many as scaling.minWorkers or provisionedWorkers says. A change takes effect once all workers of the versions that it names are ready, and status.aliases shows what is in effect.
   */
  readonly aliases?: readonly LambdaFunctionSpecAliase[];
  readonly scaling: LambdaFunctionSpecScaling;
  /**
   * Calls that run at once, of $LATEST and all versions, through all gateways together; 0 switches the function off, as in Lambda. Takes the place of concurrency.reserved of the template and of versions. A change goes to all workers at once, and makes no container.
   */
  readonly reservedConcurrency?: number;
  readonly asyncInvoke?: LambdaFunctionSpecAsyncInvoke;
  readonly rollout: LambdaFunctionSpecRollout;
  /**
   * How many earlier templates are kept for esb rollout undo, each as a ControllerRevision with all that the template had.
   */
  readonly revisionHistoryLimit: number;
  /**
   * How many versions that no alias names are kept; older ones are deleted. Without it all are kept, as in Lambda.
   */
  readonly versionHistoryLimit?: number;
  readonly url?: LambdaFunctionSpecUrl;
}
/**
 * The workers that are made. A change goes to as many workers at a time as rollout says, each of which goes on to serve until its new container is ready. The change stops at a worker that fails.
 */
export interface LambdaFunctionSpecTemplate {
  /**
   * Spec of each worker, as of a LambdaWorker; functionName is that of the function.
   */
  readonly spec: Omit<LambdaWorkerSpec, 'functionName' | 'version'>;
}
/**
 * One name, and the versions that its calls go to.
 */
export interface LambdaFunctionSpecAliase {
  /**
   * The name, which callers write as the qualifier.
   */
  readonly name: string;
  /**
   * Number of the version that gets the calls which routing leaves.
   */
  readonly version: number;
  /**
   * Further versions, each with its part of the calls.
   */
  readonly routing?: readonly LambdaFunctionSpecAliaseRouting[];
  /**
   * Workers of each version that the alias names. Without it, scaling.minWorkers. Of several aliases that name a version the largest number counts.
   */
  readonly provisionedWorkers?: number;
}
/**
 * One further version.
 */
export interface LambdaFunctionSpecAliaseRouting {
  /**
   * Number of the version.
   */
  readonly version: number;
  /**
   * How many of 1,000 calls go to the version, each by chance.
   */
  readonly permille: number;
}
/**
 * How many workers the function has. Without any of it the function grows and shrinks with its calls, from 1 to 10 workers.
 */
export interface LambdaFunctionSpecScaling {
  /**
   * Auto has as many workers as there are calls at once, and spareWorkers beside them: at least minWorkers, at most maxWorkers. Fixed has exactly minWorkers, with calls and without.
   */
  readonly mode: 'Fixed' | 'Auto';
  /**
   * Workers of $LATEST, and of each version that an alias names without provisionedWorkers, be there calls or not; the subresource scale sets the number too. With 0 the mode Auto still has its spare workers. The mode Fixed has none then, and calls are refused unless workers made by hand serve them.
   */
  readonly minWorkers: number;
  /**
   * In the mode Auto, the most workers of $LATEST and all versions together; without it 10, or minWorkers where that is more. Calls that find all of them busy wait.
   */
  readonly maxWorkers?: number;
  /**
   * In the mode Auto, workers of $LATEST, and of each version that an alias names, that are free beside the busy ones; 1 without it. They rest as idlePolicy of the template says, and a call wakes one of them while the controller makes the next one.
   */
  readonly spareWorkers?: number;
  /**
   * In the mode Auto, how long workers stay after they were last needed; 300 without it, and 5 at least.
   */
  readonly scaleDownDelaySeconds?: number;
}
/**
 * Handling of calls with InvocationType Event, of $LATEST and all versions. Takes the place of asyncInvoke of the template and of versions. A change goes to all workers at once, and makes no container.
 */
export interface LambdaFunctionSpecAsyncInvoke {
  /**
   * How often a call is made again after the function failed. The first try comes after 1 minute, the second after 2.
   */
  readonly maximumRetryAttempts: number;
  /**
   * Seconds after which a call that has not succeeded is given up, counted from its acceptance.
   */
  readonly maximumEventAgeSeconds: number;
  readonly onSuccess?: LambdaFunctionSpecAsyncInvokeOnSuccess;
  readonly onFailure?: LambdaFunctionSpecAsyncInvokeOnFailure;
}
/**
 * Where the record of a call goes that the function has answered, with the answer. Without it there is no such record.
 */
export interface LambdaFunctionSpecAsyncInvokeOnSuccess {
  /**
   * Function of the same namespace that is called with the record, as an Event of its own.
   */
  readonly functionName?: string;
  /**
   * HTTP endpoint that the record is posted to. Any status from 200 to 299 takes it. No passwords in it.
   */
  readonly url?: string;
}
/**
 * Where the record of a call goes that was given up. Without it the call is dropped and counted.
 */
export interface LambdaFunctionSpecAsyncInvokeOnFailure {
  /**
   * Function of the same namespace that is called with the record, as an Event of its own.
   */
  readonly functionName?: string;
  /**
   * HTTP endpoint that the record is posted to. Any status from 200 to 299 takes it. No passwords in it.
   */
  readonly url?: string;
}
/**
 * How a change of the template goes to the workers.
 */
export interface LambdaFunctionSpecRollout {
  /**
   * How many workers may have two containers at once for a change, the next one beside the one that serves: a number, or a percentage of the workers wanted, rounded up. All of them go on to serve. Counts as 0 with network mode Host, where no container starts beside another.
   */
  readonly maxSurge: number | string;
  /**
   * How many of the workers wanted may be without a container that serves while further ones are changed: a number, or a percentage, rounded down. No more change at once than this and maxSurge together; where both come to 0, this counts as 1. A worker whose node has no room for two containers is away while it changes, with 0 as well, and no further one is changed meanwhile.
   */
  readonly maxUnavailable: number | string;
  /**
   * Seconds from one worker to the next that becomes ready with the template. After that no further worker is changed until one becomes ready or the template changes, and the function is Stalled with ProgressDeadlineExceeded. A longer deadline lets the change go on.
   */
  readonly progressDeadlineSeconds: number;
}
/**
 * The function is called by HTTP as well, at https://NAME.NAMESPACE.DOMAIN/ of the domain that the operator has for functions; NAME is that of this resource. A request becomes an event of the payload format 2.0. Without this field the function has no URL.
 */
export interface LambdaFunctionSpecUrl {
  /**
   * AWS_IAM takes requests that are signed with an access key whose user may call the function. NONE takes every request, and only in a namespace with the label esb.dev/public-functions=true.
   */
  readonly authType: 'AWS_IAM' | 'NONE';
  /**
   * BUFFERED sends the answer once the function has ended. RESPONSE_STREAM sends the bytes of a function that streams as they come.
   */
  readonly invokeMode: 'BUFFERED' | 'RESPONSE_STREAM';
  readonly cors?: LambdaFunctionSpecUrlCors;
}
/**
 * Pages of other origins that browsers let call the URL. The gateway then answers preflights itself, and its headers take the place of those of the function.
 */
export interface LambdaFunctionSpecUrlCors {
  /**
   * Origins as browsers write them, such as https://www.example.com, or '*' for all.
   */
  readonly allowOrigins?: readonly string[];
  /**
   * Methods beside those that browsers send without asking, or '*' for all.
   */
  readonly allowMethods?: ('GET' | 'PUT' | 'HEAD' | 'POST' | 'PATCH' | 'DELETE' | '*')[];
  /**
   * Headers that pages may send, or '*' for all.
   */
  readonly allowHeaders?: readonly string[];
  /**
   * Headers of answers that pages may read, or '*' for all.
   */
  readonly exposeHeaders?: readonly string[];
  /**
   * Whether pages may call with cookies.
   */
  readonly allowCredentials?: boolean;
  /**
   * For how long browsers keep the answer to a preflight; 5 seconds when absent.
   */
  readonly maxAgeSeconds?: number;
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
   * Workers of $LATEST that the function has, those that are being deleted excepted. Those of a version are in the status of its LambdaVersion. Numbers are at most 30 seconds old.
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
  readonly rollout?: LambdaFunctionStatusRollout;
  /**
   * The templates that are kept, the present one last. Each is in the ControllerRevision NAME-TEMPLATE.
   */
  readonly revisions?: readonly LambdaFunctionStatusRevision[];
  /**
   * Workers that were ready and had their turn to change. Written before any of them is changed, so that the next controller counts changes that have not arrived yet.
   *
   * Items: The name of one.
   */
  readonly changing?: readonly string[];
  /**
   * The highest number that a version was given. Each is given once, even where its LambdaVersion was deleted.
   */
  readonly latestVersion?: number;
  readonly publication?: LambdaFunctionStatusPublication;
  /**
   * The aliases that are in effect, as gateways route by them.
   */
  readonly aliases?: readonly LambdaFunctionStatusAliase[];
  /**
   * Labels of the workers of $LATEST, for horizontal autoscalers and kubectl get lw -l.
   */
  readonly selector?: string;
  /**
   * Where the function is called by HTTP; absent without spec.url, and where that is not served.
   */
  readonly url?: string;
  /**
   * Ready; Reconciling or Stalled only while it is not. UrlServed where spec.url is there: whether the function may be called by URL. NameHeld False where an older LambdaFunction has the same functionName, and with it aliases, versions and the URL. Degraded True where workers have failed. ScalingActive False where no gateway tells of the calls by which a function in the mode Auto is scaled.
   */
  readonly conditions?: readonly LambdaFunctionStatusCondition[];
}
/**
 * How far the present template has come.
 */
export interface LambdaFunctionStatusRollout {
  /**
   * Hash of the template.
   */
  readonly template: string;
  /**
   * Progressing until all workers are ready with the template, and Complete from then on. Stopped where none became ready within the deadline.
   */
  readonly state: 'Progressing' | 'Complete' | 'Stopped';
  /**
   * The most workers that were ready with the template while it was Progressing.
   */
  readonly readyWorkers: number;
  /**
   * When the change began, or that number last grew. At most 30 seconds old.
   */
  readonly lastProgressTime: string;
}
/**
 * One template.
 */
export interface LambdaFunctionStatusRevision {
  /**
   * Its number, which grows with each change.
   */
  readonly revision: number;
  /**
   * Its hash.
   */
  readonly template: string;
  /**
   * Whether it has worked: its rollout was complete, and a worker was ready. Further workers are made with the newest that has, while the present one has not.
   */
  readonly worked?: boolean;
}
/**
 * Content of the latest version, fixed together with its number.
 */
export interface LambdaFunctionStatusPublication {
  /**
   * Hash of the template.
   */
  readonly template?: string;
  /**
   * The image by its digest, as a worker of the template ran it.
   */
  readonly image?: string;
  /**
   * The publishToken that was last dealt with.
   */
  readonly token?: string;
  /**
   * Creating until the LambdaVersion is there.
   */
  readonly state?: 'Creating' | 'Created';
}
/**
 * One alias.
 */
export interface LambdaFunctionStatusAliase {
  /**
   * The name, which callers write as the qualifier.
   */
  readonly name: string;
  /**
   * Number of the version that gets the calls which routing leaves.
   */
  readonly version: number;
  /**
   * Further versions, each with its part of the calls.
   */
  readonly routing?: readonly LambdaFunctionStatusAliaseRouting[];
}
/**
 * One further version.
 */
export interface LambdaFunctionStatusAliaseRouting {
  /**
   * Number of the version.
   */
  readonly version: number;
  /**
   * How many of 1,000 calls go to the version.
   */
  readonly permille: number;
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
