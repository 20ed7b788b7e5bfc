import {
  type Condition,
  conditionsOf,
  MAX_MESSAGE_LENGTH,
  type WorkerReason,
  workerConditions,
} from '../../api/condition.ts';
import type { LambdaWorkerStatus } from '../../api/lambda-worker.ts';
import { fieldManagers } from '../../api/name.ts';
import { type StatusOwnership, statusDiffers } from '../../kube/client/status-apply.ts';
import { canonicalJson } from '../model/canonical-json.ts';
import type { WorkerView } from '../model/worker-state.ts';

/** The fields of a LambdaWorker's status that its agent owns; the agent applies no others. */
export type AgentStatus = Omit<LambdaWorkerStatus, 'assignment' | 'lastEpoch'>;

/** All but those of the controller. */
const ownConditions: readonly string[] = Object.values(workerConditions).filter(
  (type) => type !== workerConditions.scheduled,
);

/** Phases of a worker that serves: all are Ready, and a change between them changes no decision of others. */
const servingPhases: readonly LambdaWorkerStatus['phase'][] = ['Running', 'Pausing', 'Paused', 'Resuming'];
/** Reasons of conditions that are True in these phases, and that a change of phase alone brings. */
const servingReasons: readonly string[] = ['Running', 'Paused'] satisfies WorkerReason[];

/** The part of a worker's status that agents own. */
export const agentOwnership: StatusOwnership = {
  fieldManager: fieldManagers.agent,
  fields: [
    'phase',
    'observedGeneration',
    'containerID',
    'image',
    'address',
    'startedAt',
    'pausedAt',
    'restartCount',
    'share',
    'lastTermination',
    'lastInvocationTime',
    'observedInvocationTime',
  ] satisfies (keyof AgentStatus)[],
  conditions: ownConditions,
};

/**
 * The status to write for a view.
 *
 * @param present the whole status as it is now: transition times are taken from it
 * @param now wall-clock milliseconds
 */
export function agentStatus(view: WorkerView, present: LambdaWorkerStatus | undefined, now: number): AgentStatus {
  const { lastTermination, observedGeneration } = view;
  return {
    phase: view.phase,
    observedGeneration,
    ...(view.containerId === undefined ? {} : { containerID: view.containerId }),
    ...(view.image === undefined ? {} : { image: view.image }),
    ...(view.address === undefined ? {} : { address: view.address }),
    ...(view.startedAt === undefined ? {} : { startedAt: view.startedAt }),
    ...(view.pausedAt === undefined ? {} : { pausedAt: view.pausedAt }),
    restartCount: view.restartCount,
    ...(view.share === undefined ? {} : { share: view.share }),
    ...(lastTermination === undefined
      ? {}
      : { lastTermination: { ...lastTermination, message: lastTermination.message.slice(-MAX_MESSAGE_LENGTH) } }),
    ...stampsOf(view, present),
    conditions: conditionsOf(view.conditions, { present: present?.conditions, generation: observedGeneration, now }),
  };
}

/**
 * The stamps to write. The stamp of another that this agent has not acted on stays as it is, with the one acknowledged
 * before: the watch has yet to tell of it.
 */
function stampsOf(
  { lastInvocationTime: own, observedInvocationTime: seen }: WorkerView,
  present: LambdaWorkerStatus | undefined,
): Pick<AgentStatus, 'lastInvocationTime' | 'observedInvocationTime'> {
  const { lastInvocationTime: told, observedInvocationTime: acknowledged } = present ?? {};
  const isActedOn = told === undefined || told === seen || told === acknowledged;
  const last = isActedOn ? (own ?? told) : told;
  const observed = isActedOn ? last : acknowledged;
  return {
    ...(last === undefined ? {} : { lastInvocationTime: last }),
    ...(observed === undefined ? {} : { observedInvocationTime: observed }),
  };
}

/** Whether the stamps of a worker are to be written. Cheap: called at every change of a view. */
export function stampsDiffer(view: WorkerView, present: LambdaWorkerStatus | undefined): boolean {
  const { lastInvocationTime, observedInvocationTime } = stampsOf(view, present);
  return (
    lastInvocationTime !== present?.lastInvocationTime || observedInvocationTime !== present?.observedInvocationTime
  );
}

/**
 * Compares the status to write with the present one. `activity`: nothing differs but what calls change of a worker that
 * serves, which is the phase among those of serving, and stamps.
 */
export function compareStatus(
  draft: AgentStatus,
  present: LambdaWorkerStatus | undefined = {},
): 'none' | 'activity' | 'state' {
  if (!statusDiffers(present, draft, agentOwnership)) {
    return 'none';
  }
  return statusDiffers(withoutActivity(present), withoutActivity(draft), agentOwnership) ? 'state' : 'activity';
}

/** A status without what calls change of a worker that serves. */
function withoutActivity(status: LambdaWorkerStatus): LambdaWorkerStatus {
  const { lastInvocationTime: _last, observedInvocationTime: _observed, pausedAt: _paused, ...rest } = status;
  const { conditions, phase } = rest;
  return {
    ...rest,
    ...(servingPhases.includes(phase) ? { phase: 'Running' } : {}),
    ...(conditions === undefined ? {} : { conditions: conditions.map(withoutPhase) }),
  };
}

function withoutPhase(condition: Condition): Condition {
  const { reason, status } = condition;
  return status === 'True' && servingReasons.includes(reason)
    ? { ...condition, reason: 'Running' satisfies WorkerReason, message: '' }
    : condition;
}

/** Whether two views give the same status, but for the stamps. Cheap: called at every change of a view. */
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
    a.share?.epoch === b.share?.epoch &&
    a.share?.calls === b.share?.calls &&
    (a.lastTermination === b.lastTermination ||
      JSON.stringify(a.lastTermination) === JSON.stringify(b.lastTermination)) &&
    (a.conditions === b.conditions || canonicalJson(a.conditions) === canonicalJson(b.conditions))
  );
}
