import { findCondition, workerConditions } from '../../api/condition.ts';
import { keptPropertiesOf } from '../../api/kept-properties.ts';
import { calledNameOf, type LambdaFunction } from '../../api/lambda-function.ts';
import { versionsOf, type WrittenAlias } from '../control/aliases.ts';
import { functionArn } from '../lambda/function-name.ts';
import type { FunctionCatalog } from './function-catalog.ts';
import { lambdaTime } from './function-description.ts';
import { isActive } from './function-state.ts';

/** Lambda's description of the workers that an alias has of its own. */
export function provisionedConfigOf(catalog: FunctionCatalog, owner: LambdaFunction, alias: WrittenAlias) {
  const { metadata, spec, status } = owner;
  const name = calledNameOf(owner);
  const places = spec.template.spec.concurrency?.perWorker ?? 1;
  const wanted = alias.provisionedWorkers ?? 0;
  const versions = versionsOf(alias);
  const ready = Math.min(
    ...versions.map((version) => Math.min(wanted, catalog.workersOf(name, version).filter(isActive).length)),
  );
  const stalled = findCondition(status?.conditions, workerConditions.stalled);
  const isFailed = stalled?.status === 'True' && ready < wanted;
  return {
    FunctionArn: functionArn({ name, qualifier: alias.name }),
    RequestedProvisionedConcurrentExecutions: wanted * places,
    AvailableProvisionedConcurrentExecutions: ready * places,
    AllocatedProvisionedConcurrentExecutions: ready * places,
    Status: ready >= wanted ? 'READY' : isFailed ? 'FAILED' : 'IN_PROGRESS',
    StatusReason: isFailed ? `${stalled.reason}: ${stalled.message}` : undefined,
    LastModified: lambdaTime(keptPropertiesOf(metadata).modified ?? metadata.creationTimestamp),
  };
}
