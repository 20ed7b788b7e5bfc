import { type Condition, findCondition, transition, workerConditions } from '../../api/condition.ts';
import type { LambdaWorkerStatus } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import { type StatusOwnership, statusDiffers } from '../../kube/client/status-apply.ts';
import { canonicalJson } from '../model/canonical-json.ts';
import type { WorkerView } from '../model/worker-state.ts';

/** The fields of a LambdaWorker's status that its agent owns; the agent applies no others. */
export type AgentStatus = Omit<LambdaWorkerStatus, 'assignment' | 'lastInvocationTime'>;

/** Most characters of a message in the schema. */
const maxMessageLength = 32_768;

/** All but those of the controller. */
const ownConditions: readonly string[] = Object.values(workerConditions).filter(
  (type) => type !== workerConditions.scheduled,
);

/** Fields that describe the worker. */
const stateFields = [
  'phase',
  'observedGeneration',
  'containerID',
  'image',
  'address',
  'startedAt',
  'pausedAt',
  'restartCount',
  'lastTermination',
] as const satisfies readonly (keyof AgentStatus)[];

const stateOwnership: StatusOwnership = {
  fieldManager: fieldManagers.agent,
  fields: stateFields,
  conditions: ownConditions,
};

/** The part of a worker's status that agents own. */
export const agentOwnership: StatusOwnership = {
  ...stateOwnership,
  fields: [...stateFields, 'observedInvocationTime' satisfies keyof AgentStatus],
};

/**
 * The status to write for a view.
 *
 * @param present the whole status as it is now: transition times are taken from it
 * @param now wall-clock milliseconds
 */
export function agentStatus(view: WorkerView, present: LambdaWorkerStatus | undefined, now: number): AgentStatus {
  const conditions = ownConditions.flatMap((type): Condition[] => {
    const condition = view.conditions[type as keyof WorkerView['conditions']];
    if (condition === undefined) {
      return [];
    }
    const { observedGeneration } = view;
    const message = condition.message.slice(0, maxMessageLength);
    const before = findCondition(present?.conditions, type);
    return [transition(before, { ...condition, type, observedGeneration, message }, now)];
  });
  const { lastTermination } = view;
  return {
    phase: view.phase,
    observedGeneration: view.observedGeneration,
    ...(view.containerId === undefined ? {} : { containerID: view.containerId }),
    ...(view.image === undefined ? {} : { image: view.image }),
    ...(view.address === undefined ? {} : { address: view.address }),
    ...(view.startedAt === undefined ? {} : { startedAt: view.startedAt }),
    ...(view.pausedAt === undefined ? {} : { pausedAt: view.pausedAt }),
    restartCount: view.restartCount,
    ...(lastTermination === undefined
      ? {}
      : { lastTermination: { ...lastTermination, message: lastTermination.message.slice(-maxMessageLength) } }),
    ...(view.observedInvocationTime === undefined ? {} : { observedInvocationTime: view.observedInvocationTime }),
    conditions,
  };
}

/** Compares the status to write with the present one. `acknowledgement`: only the stamp differs. */
export function compareStatus(
  draft: AgentStatus,
  present: LambdaWorkerStatus | undefined,
): 'none' | 'acknowledgement' | 'state' {
  if (statusDiffers(present ?? {}, draft, stateOwnership)) {
    return 'state';
  }
  return draft.observedInvocationTime === present?.observedInvocationTime ? 'none' : 'acknowledgement';
}

/** Whether two views give the same status, but for the stamp. Cheap: called at every call. */
export function showSameState(a: WorkerView, b: WorkerView): boolean {
  return (
    a.phase === b.phase &&
    a.epoch === b.epoch &&
    a.observedGeneration === b.observedGeneration &&
    a.containerId === b.containerId &&
    a.image === b.image &&
    a.address?.ip === b.address?.ip &&
    a.address?.port === b.address?.port &&
    a.startedAt === b.startedAt &&
    a.pausedAt === b.pausedAt &&
    a.restartCount === b.restartCount &&
    (a.lastTermination === b.lastTermination ||
      JSON.stringify(a.lastTermination) === JSON.stringify(b.lastTermination)) &&
    (a.conditions === b.conditions || canonicalJson(a.conditions) === canonicalJson(b.conditions))
  );
}
