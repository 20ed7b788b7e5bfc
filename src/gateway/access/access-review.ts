import { lambdaFunctions } from '../../api/lambda-function.ts';
import { lambdaVersions } from '../../api/lambda-version.ts';
import { lambdaWorkers } from '../../api/lambda-worker.ts';
import { unreachable } from '../../common/errors.ts';
import { type LocalSubjectAccessReview, localSubjectAccessReviews } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import { functionArn } from '../lambda/function-name.ts';
import { LambdaError } from '../lambda/lambda-error.ts';
import type { AccessAction } from './access.ts';
import { AccessCache, type AccessCacheOptions, strangerAt } from './access-cache.ts';
import { type Principal, principalName } from './principal.ts';

type Decision = 'allowed' | 'denied';

export interface AccessReviewerOptions
  extends Pick<AccessCacheOptions<Decision>, 'clock' | 'tasks' | 'graceMs' | 'isAway' | 'strangers'> {
  readonly client: Pick<KubeClient, 'create'>;
  readonly namespace: string;
  /** Milliseconds that an answer is good for, where it is yes and where it is no. */
  readonly allowedMs: number;
  readonly deniedMs: number;
}

/** A key that a request names, without a proof so far. */
export interface UnprovedClaim {
  readonly key: string;
  readonly address: string;
}

const ACTIONS = {
  invoke: { verb: 'create', type: lambdaWorkers, subresource: 'invoke', permission: 'lambda:InvokeFunction' },
  get: { verb: 'get', type: lambdaWorkers, subresource: '', permission: 'lambda:GetFunction' },
  list: { verb: 'list', type: lambdaWorkers, subresource: '', permission: 'lambda:ListFunctions' },
  create: { verb: 'create', type: lambdaFunctions, subresource: '', permission: 'lambda:CreateFunction' },
  change: { verb: 'patch', type: lambdaFunctions, subresource: '', permission: 'lambda:UpdateFunction' },
  delete: { verb: 'delete', type: lambdaFunctions, subresource: '', permission: 'lambda:DeleteFunction' },
  'delete-version': { verb: 'delete', type: lambdaVersions, subresource: '', permission: 'lambda:DeleteFunction' },
} as const satisfies Record<AccessAction, object>;

/**
 * Asks the API server for rights: a call is `create` on `lambdaworkers/invoke`, with the name of the function as that
 * of the resource, and reads are `get` and `list` on `lambdaworkers`. Writes are those that `kubectl` would need on the
 * same object.
 */
export class AccessReviewer {
  readonly #options: AccessReviewerOptions;
  readonly #decisions: AccessCache<Decision>;
  /** The key of each principal in the cache, made once: the text costs too much for every call. */
  readonly #identities = new WeakMap<Principal, string>();

  constructor(options: AccessReviewerOptions) {
    this.#options = options;
    const { allowedMs, deniedMs } = options;
    this.#decisions = new AccessCache({
      ...options,
      what: 'review of an access',
      ttlMs: (decision) => (decision === 'allowed' ? allowedMs : deniedMs),
    });
  }

  /**
   * @param called the function as the caller has named it, for the error; the name of its resource tells of others
   * @param claim present for a claimed principal without proof: questions then count for its address, and errors do not
   *   show its name
   * @throws {LambdaError} AccessDeniedException, or ServiceException (503)
   */
  authorize(
    principal: Principal,
    action: AccessAction,
    functionName: string | undefined,
    claim?: UnprovedClaim,
    called = functionName,
  ): void | Promise<void> {
    const identity = this.#identityOf(principal);
    const name = claim === undefined ? principalName(principal) : `holder of the access key ${claim.key}`;
    const decision = this.#decisions.get(
      `${action}\n${functionName ?? ''}\n${identity}`,
      (signal) => this.#review(principal, action, functionName, signal),
      claim === undefined ? { name: identity, isStranger: false } : strangerAt(claim.address),
    );
    if (decision instanceof Promise) {
      return decision.then((made) => this.#settle(made, name, action, called));
    }
    this.#settle(decision, name, action, called);
  }

  #settle(decision: Decision, name: string, action: AccessAction, called: string | undefined): void {
    if (decision === 'allowed') {
      return;
    }
    const { verb, subresource, permission, type } = ACTIONS[action];
    const { plural, group } = type;
    const resource = called === undefined ? '*' : functionArn({ name: called });
    throw new LambdaError(
      'AccessDeniedException',
      `User: ${name} is not authorized to perform: ${permission} on resource: ${resource} ` +
        `because no role in namespace ${this.#options.namespace} allows ${verb} on ` +
        `${plural}.${group}${subresource === '' ? '' : `/${subresource}`}`,
    );
  }

  async #review(
    principal: Principal,
    action: AccessAction,
    functionName: string | undefined,
    signal: AbortSignal,
  ): Promise<Decision> {
    const { client, namespace } = this.#options;
    const { verb, subresource, type } = ACTIONS[action];
    const { group, version, plural } = type;
    const { status } = await client.create<LocalSubjectAccessReview>(
      localSubjectAccessReviews,
      {
        metadata: { name: '', namespace },
        spec: {
          ...subjectOf(principal),
          resourceAttributes: {
            namespace,
            verb,
            group,
            version,
            resource: plural,
            ...(subresource === '' ? {} : { subresource }),
            ...(functionName === undefined ? {} : { name: functionName }),
          },
        },
      },
      { signal },
    );
    return status?.allowed === true && status.denied !== true ? 'allowed' : 'denied';
  }

  #identityOf(principal: Principal): string {
    let identity = this.#identities.get(principal);
    if (identity === undefined) {
      identity = JSON.stringify(subjectOf(principal));
      this.#identities.set(principal, identity);
    }
    return identity;
  }
}

type Subject = Pick<LocalSubjectAccessReview['spec'], 'user' | 'groups' | 'uid' | 'extra'>;

/** A principal in the terms of the API server. */
function subjectOf(principal: Principal): Subject {
  switch (principal.kind) {
    case 'Anonymous':
      return { user: 'system:anonymous', groups: ['system:unauthenticated'] };
    case 'AccessKey':
    case 'Certificate':
      return { user: principal.user, groups: principal.groups };
    case 'Token':
      return {
        user: principal.user,
        groups: principal.groups,
        ...(principal.uid === '' ? {} : { uid: principal.uid }),
        extra: principal.extra,
      };
    default:
      return unreachable(principal);
  }
}
