import {
  findCondition,
  isControllersWord,
  undecided,
  type WorkerReasons,
  workerConditions,
} from '../../api/condition.ts';
import type { Assignment, LambdaWorker } from '../../api/lambda-worker.ts';
import { unreachable } from '../../common/errors.ts';
import type { WorkerDecision } from './decision.ts';
import { assignedTo, type StatusDraft } from './status-draft.ts';

/** A worker of a function with reserved concurrency. */
export interface ShareStanding {
  /** Calls that may run on its node by its share. */
  readonly inForce: number;
  /** Whether its share may be lowered. */
  readonly isSettled: boolean;
  /** Whether its node is not heard. */
  readonly isSilent: boolean;
  /**
   * The share that its assignment is to have; undefined for none.
   *
   * @param isNew for an assignment that is not the present one
   */
  next(isNew: boolean): number | undefined;
}

const nothing: WorkerDecision = { kind: 'nothing' };

/**
 * Adds the share of a worker to what was decided about it: in the same write where there is one. A worker leaves its
 * node, and is let go, only once no call can run there by its share: the share is taken away first.
 */
export function withShare(decision: WorkerDecision, worker: LambdaWorker, shares: ShareStanding): WorkerDecision {
  const present = worker.status?.assignment;
  switch (decision.kind) {
    case 'wait':
    case 'addFinalizer':
      return decision;
    case 'removeFinalizer':
      return decision.isNodeGone && shares.inForce > 0 ? nothing : decision;
    case 'nothing': {
      const share = shares.next(false);
      return present === undefined || present.share === share
        ? decision
        : change(worker, present, share, `share of ${share ?? 'any number of'} calls`);
    }
    case 'write': {
      const { assignment } = decision.status;
      if (present !== undefined && assignment?.nodeName !== present.nodeName && shares.inForce > 0) {
        return takeAway(worker, present, shares);
      }
      const isNew = assignment?.epoch !== present?.epoch;
      const share = assignment === undefined ? undefined : shares.next(isNew);
      if (assignment === undefined) {
        return decision;
      }
      const epoch = isNew || share === present?.share ? assignment.epoch : assignment.epoch + 1;
      return { ...decision, status: { ...decision.status, assignment: withNext(assignment, epoch, share) } };
    }
    default:
      return unreachable(decision);
  }
}

/** Takes the share away from a worker that is to leave its node; nothing where that is done, or cannot be yet. */
function takeAway(worker: LambdaWorker, present: Assignment, shares: ShareStanding): WorkerDecision {
  const { isSettled, isSilent } = shares;
  if (present.share === 0 || !isSettled) {
    return nothing;
  }
  const { nodeName } = present;
  if (!isSilent) {
    return change(worker, present, 0, `share taken away, since the worker is to leave node ${nodeName}`);
  }
  const message = `nothing has been heard of ${nodeName}; the worker leaves once no call can run there by its share of the reserved concurrency`;
  return change(worker, present, 0, message, {
    ready: undecided<WorkerReasons['Ready']>('NodeLost', message),
    phase: 'Unknown',
  });
}

function change(
  worker: LambdaWorker,
  present: Assignment,
  share: number | undefined,
  note: string,
  told: Pick<StatusDraft, 'observedGeneration' | 'phase' | 'ready'> = ownWords(worker),
): WorkerDecision {
  const scheduled = findCondition(worker.status?.conditions, workerConditions.scheduled);
  return {
    kind: 'write',
    cause: 'shared',
    status: {
      assignment: withNext(present, present.epoch + 1, share),
      scheduled: scheduled ?? assignedTo(present.nodeName),
      ...told,
    },
    note,
  };
}

/** The fields of a worker that no agent has reported since, which a write that leaves them out would remove. */
function ownWords({ status }: LambdaWorker): Pick<StatusDraft, 'observedGeneration' | 'phase'> {
  const { observedGeneration, phase } = status ?? {};
  return isControllersWord(findCondition(status?.conditions, workerConditions.ready))
    ? { observedGeneration, ...(phase === 'Unknown' ? { phase } : {}) }
    : {};
}

/** The grant of the quotas stays as it is. */
function withNext({ granted, nodeName }: Assignment, epoch: number, share: number | undefined): Assignment {
  return {
    nodeName,
    epoch,
    ...(granted === undefined ? {} : { granted }),
    ...(share === undefined ? {} : { share }),
  };
}
