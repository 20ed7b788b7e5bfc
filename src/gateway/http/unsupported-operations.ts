import { lambdaOperations, type OperationName } from '../lambda/generated/operations.ts';
import { LambdaError } from '../lambda/lambda-error.ts';

const SPEC = 'Functions are LambdaFunction resources';
const APPLY = `${SPEC}: write one and use kubectl apply -f FILE.`;
const EDIT = `${SPEC}: change one with kubectl apply -f FILE, or kubectl edit lambdafunction NAME.`;
const REMOVE = `${SPEC}: use kubectl delete lambdafunction NAME.`;
const LABEL = 'Tags are the labels of LambdaFunction resources: use kubectl label lambdafunction NAME KEY=VALUE.';
const RESERVE =
  'Concurrency is spec.reservedConcurrency of a LambdaFunction: change it with kubectl edit lambdafunction NAME.';
const PROVISION =
  'Workers are kept by scaling.minWorkers of a LambdaFunction, and provisionedWorkers of its aliases: change them with kubectl edit lambdafunction NAME.';
const EVENTS =
  'Retries and destinations of events are spec.asyncInvoke of a LambdaFunction: change it with kubectl edit lambdafunction NAME.';
const URL = 'URLs are spec.url of a LambdaFunction: change it with kubectl edit lambdafunction NAME.';
const PUBLISH =
  'Versions are published by their LambdaFunction: set spec.publishToken to a new value with kubectl patch lambdafunction NAME.';
const ALIAS = 'Aliases are spec.aliases of a LambdaFunction: change it with kubectl edit lambdafunction NAME.';
const ACCESS =
  'Who may call a function is decided by Kubernetes RBAC: use kubectl create role and kubectl create rolebinding.';
/** Advice for a feature that ESB does not have. */
const NOTHING = `ESB has nothing like it. ${SPEC}: kubectl explain lambdafunction.spec shows what they have.`;

/** The advice for operations whose purpose ESB serves in another way, with or without writes by callers. */
const advice: Partial<Readonly<Record<OperationName, string>>> = {
  CreateFunction: APPLY,
  DeleteFunction: REMOVE,
  UpdateFunctionCode: EDIT,
  UpdateFunctionConfiguration: EDIT,
  PublishVersion: PUBLISH,
  CreateAlias: ALIAS,
  UpdateAlias: ALIAS,
  DeleteAlias: ALIAS,
  AddPermission: ACCESS,
  RemovePermission: ACCESS,
  PutResourcePolicy: ACCESS,
  GetResourcePolicy: ACCESS,
  DeleteResourcePolicy: ACCESS,
  TagResource: LABEL,
  UntagResource: LABEL,
  PutFunctionConcurrency: RESERVE,
  DeleteFunctionConcurrency: RESERVE,
  PutProvisionedConcurrencyConfig: PROVISION,
  DeleteProvisionedConcurrencyConfig: PROVISION,
  PutFunctionEventInvokeConfig: EVENTS,
  UpdateFunctionEventInvokeConfig: EVENTS,
  DeleteFunctionEventInvokeConfig: EVENTS,
  CreateFunctionUrlConfig: URL,
  UpdateFunctionUrlConfig: URL,
  DeleteFunctionUrlConfig: URL,
};

/** The advice for an operation that is not served. */
export function insteadOf(name: OperationName): string {
  return advice[name] ?? NOTHING;
}

/**
 * Every operation but those with an answer of their own, and but those that share the path of another one, which tells
 * them apart by the query.
 *
 * @param answered names of the operations that have an answer
 */
export function unsupportedOperations(answered: ReadonlySet<string>): readonly OperationName[] {
  return (Object.keys(lambdaOperations) as OperationName[]).filter(
    (name) => !answered.has(name) && !('query' in lambdaOperations[name]),
  );
}

export function unsupported(name: OperationName, instead = insteadOf(name)): LambdaError {
  return new LambdaError('UnsupportedOperationException', `${name} is not supported. ${instead}`);
}
