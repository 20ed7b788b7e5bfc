import { LambdaError } from '../lambda/lambda-error.ts';

/** An operation of the Lambda API that ESB does not have. */
export interface UnsupportedOperation {
  /** As SDKs name it. */
  readonly name: string;
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Path, with a `:` before the names of its parts. */
  readonly url: string;
  readonly instead: string;
}

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
/** The advice for a feature that ESB does not have. */
export const NOTHING = `ESB has nothing like it. ${SPEC}: kubectl explain lambdafunction.spec shows what they have.`;

const FUNCTIONS = '/2015-03-31/functions';
const MAPPINGS = '/2015-03-31/event-source-mappings';
const LAYERS = '/2018-10-31/layers';
const SIGNING = '/2020-04-22/code-signing-configs';
const PROVIDERS = '/2025-11-30/capacity-providers';
const EXECUTIONS = '/2025-12-01/durable-executions';
const CALLBACKS = '/2025-12-01/durable-execution-callbacks/:id';

type Row = readonly [name: string, method: UnsupportedOperation['method'], url: string, instead: string];

/**
 * By the service models of `@aws-sdk/client-lambda` 3.1164 and of the botocore of its time: all operations that
 * read-operations.ts and invoke-route.ts do not have.
 */
const rows: readonly Row[] = [
  ['CreateFunction', 'POST', FUNCTIONS, APPLY],
  ['DeleteFunction', 'DELETE', `${FUNCTIONS}/:name`, REMOVE],
  ['UpdateFunctionCode', 'PUT', `${FUNCTIONS}/:name/code`, EDIT],
  ['UpdateFunctionConfiguration', 'PUT', `${FUNCTIONS}/:name/configuration`, EDIT],
  ['PublishVersion', 'POST', `${FUNCTIONS}/:name/versions`, PUBLISH],
  ['CreateAlias', 'POST', `${FUNCTIONS}/:name/aliases`, ALIAS],
  ['UpdateAlias', 'PUT', `${FUNCTIONS}/:name/aliases/:item`, ALIAS],
  ['DeleteAlias', 'DELETE', `${FUNCTIONS}/:name/aliases/:item`, ALIAS],
  ['AddPermission', 'POST', `${FUNCTIONS}/:name/policy`, ACCESS],
  ['RemovePermission', 'DELETE', `${FUNCTIONS}/:name/policy/:item`, ACCESS],
  ['PutResourcePolicy', 'PUT', '/2026-07-09/resource-policy/:item', ACCESS],
  ['GetResourcePolicy', 'GET', '/2026-07-09/resource-policy/:item', ACCESS],
  ['DeleteResourcePolicy', 'DELETE', '/2026-07-09/resource-policy/:item', ACCESS],
  ['TagResource', 'POST', '/2017-03-31/tags/:name', LABEL],
  ['UntagResource', 'DELETE', '/2017-03-31/tags/:name', LABEL],
  ['PutFunctionConcurrency', 'PUT', '/2017-10-31/functions/:name/concurrency', RESERVE],
  ['DeleteFunctionConcurrency', 'DELETE', '/2017-10-31/functions/:name/concurrency', RESERVE],
  ['PutProvisionedConcurrencyConfig', 'PUT', '/2019-09-30/functions/:name/provisioned-concurrency', PROVISION],
  ['DeleteProvisionedConcurrencyConfig', 'DELETE', '/2019-09-30/functions/:name/provisioned-concurrency', PROVISION],
  ['PutFunctionEventInvokeConfig', 'PUT', '/2019-09-25/functions/:name/event-invoke-config', EVENTS],
  ['UpdateFunctionEventInvokeConfig', 'POST', '/2019-09-25/functions/:name/event-invoke-config', EVENTS],
  ['DeleteFunctionEventInvokeConfig', 'DELETE', '/2019-09-25/functions/:name/event-invoke-config', EVENTS],
  ['CreateFunctionUrlConfig', 'POST', '/2021-10-31/functions/:name/url', URL],
  ['UpdateFunctionUrlConfig', 'PUT', '/2021-10-31/functions/:name/url', URL],
  ['DeleteFunctionUrlConfig', 'DELETE', '/2021-10-31/functions/:name/url', URL],
  ['PutFunctionRecursionConfig', 'PUT', '/2024-08-31/functions/:name/recursion-config', NOTHING],
  ['GetRuntimeManagementConfig', 'GET', '/2021-07-20/functions/:name/runtime-management-config', NOTHING],
  ['PutRuntimeManagementConfig', 'PUT', '/2021-07-20/functions/:name/runtime-management-config', NOTHING],
  ['GetFunctionScalingConfig', 'GET', '/2025-11-30/functions/:name/function-scaling-config', NOTHING],
  ['PutFunctionScalingConfig', 'PUT', '/2025-11-30/functions/:name/function-scaling-config', NOTHING],
  ['GetFunctionCodeSigningConfig', 'GET', '/2020-06-30/functions/:name/code-signing-config', NOTHING],
  ['PutFunctionCodeSigningConfig', 'PUT', '/2020-06-30/functions/:name/code-signing-config', NOTHING],
  ['DeleteFunctionCodeSigningConfig', 'DELETE', '/2020-06-30/functions/:name/code-signing-config', NOTHING],
  ['CreateCodeSigningConfig', 'POST', SIGNING, NOTHING],
  ['GetCodeSigningConfig', 'GET', `${SIGNING}/:item`, NOTHING],
  ['UpdateCodeSigningConfig', 'PUT', `${SIGNING}/:item`, NOTHING],
  ['DeleteCodeSigningConfig', 'DELETE', `${SIGNING}/:item`, NOTHING],
  ['ListFunctionsByCodeSigningConfig', 'GET', `${SIGNING}/:item/functions`, NOTHING],
  ['CreateEventSourceMapping', 'POST', MAPPINGS, NOTHING],
  ['UpdateEventSourceMapping', 'PUT', `${MAPPINGS}/:item`, NOTHING],
  ['DeleteEventSourceMapping', 'DELETE', `${MAPPINGS}/:item`, NOTHING],
  ['PublishLayerVersion', 'POST', `${LAYERS}/:layer/versions`, NOTHING],
  ['ListLayerVersions', 'GET', `${LAYERS}/:layer/versions`, NOTHING],
  ['GetLayerVersion', 'GET', `${LAYERS}/:layer/versions/:version`, NOTHING],
  ['DeleteLayerVersion', 'DELETE', `${LAYERS}/:layer/versions/:version`, NOTHING],
  ['GetLayerVersionPolicy', 'GET', `${LAYERS}/:layer/versions/:version/policy`, NOTHING],
  ['AddLayerVersionPermission', 'POST', `${LAYERS}/:layer/versions/:version/policy`, NOTHING],
  ['RemoveLayerVersionPermission', 'DELETE', `${LAYERS}/:layer/versions/:version/policy/:item`, NOTHING],
  ['CreateCapacityProvider', 'POST', PROVIDERS, NOTHING],
  ['ListCapacityProviders', 'GET', PROVIDERS, NOTHING],
  ['GetCapacityProvider', 'GET', `${PROVIDERS}/:item`, NOTHING],
  ['UpdateCapacityProvider', 'PUT', `${PROVIDERS}/:item`, NOTHING],
  ['DeleteCapacityProvider', 'DELETE', `${PROVIDERS}/:item`, NOTHING],
  ['ListFunctionVersionsByCapacityProvider', 'GET', `${PROVIDERS}/:item/function-versions`, NOTHING],
  ['ListDurableExecutionsByFunction', 'GET', '/2025-12-01/functions/:name/durable-executions', NOTHING],
  ['GetDurableExecution', 'GET', `${EXECUTIONS}/:item`, NOTHING],
  ['DeleteDurableExecution', 'DELETE', `${EXECUTIONS}/:item`, NOTHING],
  ['GetDurableExecutionHistory', 'GET', `${EXECUTIONS}/:item/history`, NOTHING],
  ['GetDurableExecutionState', 'GET', `${EXECUTIONS}/:item/state`, NOTHING],
  ['CheckpointDurableExecution', 'POST', `${EXECUTIONS}/:item/checkpoint`, NOTHING],
  ['PauseDurableExecution', 'POST', `${EXECUTIONS}/:item/pause`, NOTHING],
  ['ResumeDurableExecution', 'POST', `${EXECUTIONS}/:item/resume`, NOTHING],
  ['StopDurableExecution', 'POST', `${EXECUTIONS}/:item/stop`, NOTHING],
  ['SendDurableExecutionCallbackSuccess', 'POST', `${CALLBACKS}/succeed`, NOTHING],
  ['SendDurableExecutionCallbackFailure', 'POST', `${CALLBACKS}/fail`, NOTHING],
  ['SendDurableExecutionCallbackHeartbeat', 'POST', `${CALLBACKS}/heartbeat`, NOTHING],
];

export const unsupportedOperations: readonly UnsupportedOperation[] = rows.map(([name, method, url, instead]) => ({
  name,
  method,
  url,
  instead,
}));

export function unsupported(name: string, instead: string): LambdaError {
  return new LambdaError('UnsupportedOperationException', `${name} is not supported. ${instead}`);
}
