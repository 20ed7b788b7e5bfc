import type { ResourceType } from '../kube/api/types.ts';
import type { LambdaQuota } from './generated/lambda-quota.ts';
import { API_GROUP, API_VERSION } from './name.ts';

export type { LambdaQuota, LambdaQuotaSpec, LambdaQuotaStatus } from './generated/lambda-quota.ts';

export const lambdaQuotas: ResourceType<LambdaQuota> = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'LambdaQuota',
  plural: 'lambdaquotas',
  namespaced: true,
};
