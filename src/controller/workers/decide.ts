import {
  findCondition,
  no,
  undecided,
  type Verdict,
  type WorkerReasons,
  workerConditions,
} from '../../api/condition.ts';
import { type Assignment, type LambdaWorker, unfitArchitecturesOf } from '../../api/lambda-worker.ts';
import type { ErrorCode } from '../../common/error-codes.ts';
import { unreachable } from '../../common/errors.ts';
import type { StayReason } from '../nodes/liveness.ts';
import { stayClause } from '../nodes/node-state.ts';
import type { Grant } from '../quota/quota-book.ts';
import { isRefusedByFullNode, isSameGrant } from '../scheduling/assignment-cache.ts';
import type { Leave } from '../scheduling/node-view.ts';
import type { DecisionInput, WorkerDecision } from './decision.ts';
import { decideDeleting, hasFinalizer } from './deletion.ts';
import { isToldOfSilence, tellLoss } from './loss.ts';
import { assignedTo, isTold, type Refusal, says, unplaced } from './status-draft.ts';

/** Why an assigned worker should be elsewhere. */
type Trouble =
  | { readonly kind: 'gone'; readonly because: string }
  | { readonly kind: 'lost' }
  | { readonly kind: 'unreachable'; readonly because: StayReason }
  | { readonly kind: 'full' }
  | { readonly kind: 'pinnedElsewhere'; readonly nodeName: string }
  /** The image is not made for the processor of the node. */
  | { readonly kind: 'unfit'; readonly architecture: string }
  | Leave;

/** Trouble for which the worker moves where another node fits. */
type MovingTrouble = Exclude<Trouble, { readonly kind: 'unreachable' }>;

const nothing: WorkerDecision = { kind: 'nothing' };

function troubleOf({ worker, standing }: DecisionInput, assignment: Assignment): Trouble | undefined {
  if (standing.goneBecause !== undefined) {
    return { kind: 'gone', because: standing.goneBecause };
  }
  if (standing.liveness === 'lost') {
    return { kind: 'lost' };
  }
  if (standing.leave !== undefined) {
    return standing.leave;
  }
  const { nodeName } = worker.spec;
  if (nodeName !== undefined && nodeName !== assignment.nodeName) {
    return { kind: 'pinnedElsewhere', nodeName };
  }
  if (isToldOfSilence(standing) && standing.stays !== undefined) {
    return { kind: 'unreachable', because: standing.stays };
  }
  if (nodeName === undefined && isRefusedByFullNode(worker) && standing.growing !== true) {
    return { kind: 'full' };
  }
  const { architecture } = standing;
  if (nodeName === undefined && architecture !== undefined && isOfWrongPlatform(worker)) {
    return { kind: 'unfit', architecture };
  }
  return undefined;
}

/** Whether the agent has found for the present generation that the image is not made for its processor. */
function isOfWrongPlatform({ metadata, status }: LambdaWorker): boolean {
  const ready = findCondition(status?.conditions, workerConditions.ready);
  const isWrong = ready?.status === 'False' && ready.reason === ('ImageWrongPlatform' satisfies ErrorCode);
  return isWrong && ready.observedGeneration === metadata.generation;
}

function quotaRefusal({ message }: Grant & { readonly kind: 'refused' }): Refusal {
  return { kind: 'refused', reason: 'QuotaExceeded', message, detail: message, leaving: false };
}

/** The assignment with what the quotas have granted; without that where there are none. */
function withGrant({ nodeName, epoch }: Assignment, grant: Grant): Assignment {
  return { nodeName, epoch, ...(grant.kind === 'granted' ? { granted: grant.granted } : {}) };
}

function assignFirst(input: DecisionInput): WorkerDecision {
  const { worker } = input;
  const { lastEpoch } = worker.status ?? {};
  const grant = input.grant();
  const placement = grant.kind === 'refused' ? quotaRefusal(grant) : input.place();
  if (placement.kind === 'placed') {
    const { nodeName } = placement;
    const note = `assigned to node ${nodeName}`;
    const ready = `${note}, which has not reported the worker yet`;
    const assignment = withGrant({ nodeName, epoch: (lastEpoch ?? 0) + 1 }, grant);
    return assign(worker, assignment, { cause: 'assigned', note, ready });
  }
  // The next assignment brings the finalizer back. Where none is to come, the controllers may soon be gone, too.
  if (placement.leaving && hasFinalizer(worker)) {
    return { kind: 'removeFinalizer', because: 'it is assigned to no node', isNodeGone: false };
  }
  const status = unplaced(worker, lastEpoch, placement);
  return isTold(worker, status) ? nothing : { kind: 'write', cause: 'refused', status, note: placement.detail };
}

interface AssignmentReport extends Pick<WorkerDecision & { readonly kind: 'write' }, 'cause' | 'note' | 'goneNode'> {
  /** Message of the Ready condition: what an earlier node has reported does not hold any more. */
  readonly ready: string;
  /** Processors that the image is now known not to be made for. */
  readonly unfitArchitectures?: readonly string[];
}

/** Assigns the worker; a worker without finalizer gets that first. */
function assign(
  worker: LambdaWorker,
  assignment: Assignment,
  { cause, goneNode, note, ready, unfitArchitectures }: AssignmentReport,
): WorkerDecision {
  if (!hasFinalizer(worker)) {
    return { kind: 'addFinalizer' };
  }
  const { assignment: before, lastEpoch } = worker.status ?? {};
  const isFirst = before === undefined && lastEpoch === undefined;
  const reason: WorkerReasons['Ready'] = isFirst ? 'Pending' : 'Reassigned';
  return {
    kind: 'write',
    cause,
    status: {
      assignment,
      scheduled: assignedTo(assignment.nodeName),
      ...(unfitArchitectures === undefined ? {} : { unfitArchitectures }),
      ready: undecided(reason, ready),
      ...(isFirst ? {} : { phase: 'Unknown' }),
      // A worker that moves has that of its last agent.
      ...(before === undefined ? { observedGeneration: worker.metadata.generation } : {}),
    },
    note,
    goneNode,
  };
}

function why(trouble: MovingTrouble, from: string): string {
  switch (trouble.kind) {
    case 'gone':
      return `${from} is gone for good: ${trouble.because}`;
    case 'lost':
      return `nothing has been heard of ${from}`;
    case 'full':
      return `${from} has no room for it`;
    case 'unfit':
      return `the image is not made for ${trouble.architecture}, the processor of ${from}`;
    case 'pinnedElsewhere':
      return `spec.nodeName is ${trouble.nodeName}`;
    case 'retired':
      return `${from} is retired`;
    case 'tainted':
      return `${from} has the taint ${trouble.taint}`;
    case 'draining':
      return `${from} is being drained`;
    default:
      return unreachable(trouble);
  }
}

/** The node that a write rests on being gone, if any. */
function goneNodeOf(trouble: MovingTrouble, { nodeName }: Assignment): string | undefined {
  return trouble.kind === 'gone' ? nodeName : undefined;
}

function takeAway(
  worker: LambdaWorker,
  assignment: Assignment,
  trouble: MovingTrouble,
  refusal: Refusal,
): WorkerDecision {
  const { nodeName, epoch } = assignment;
  return {
    kind: 'write',
    cause: 'unassigned',
    status: unplaced(worker, epoch, refusal),
    note: `taken away from node ${nodeName}, since ${why(trouble, nodeName)}, and ${refusal.detail}`,
    goneNode: goneNodeOf(trouble, assignment),
  };
}

/** No other node will do: the worker stays with its node, or loses it. */
function stay(input: DecisionInput, assignment: Assignment, trouble: MovingTrouble, refusal: Refusal): WorkerDecision {
  const { worker } = input;
  const { nodeName } = assignment;
  const keeps = assignedTo(nodeName);
  const staysSince = (message: string): WorkerDecision => tell(worker, assignment, no(refusal.reason, message));
  switch (trouble.kind) {
    case 'gone':
    case 'retired':
    case 'tainted':
      return takeAway(worker, assignment, trouble, refusal);
    case 'draining':
      // A pinned worker fits no other node ever, and would hold up the drain for ever.
      return worker.spec.nodeName === undefined
        ? staysSince(`${why(trouble, nodeName)}, and ${refusal.message}; it stays there until then`)
        : takeAway(worker, assignment, trouble, refusal);
    case 'lost':
      return tellLoss(
        input,
        assignment,
        `${why(trouble, nodeName)}, and it cannot be moved: ${refusal.message}`,
        keeps,
      );
    case 'pinnedElsewhere':
      return staysSince(`${refusal.message}; it stays on node ${nodeName} until then`);
    case 'full':
    case 'unfit':
      // The agent has said so in Ready.
      return tell(worker, assignment, keeps);
    default:
      return unreachable(trouble);
  }
}

/**
 * The quotas refuse what the worker asks for beyond its grant: it goes on as it was, as a Pod does whose resize is not
 * feasible. Its agent makes no container beyond the grant. Where it is to leave its node, no other gets it.
 */
function remain(
  input: DecisionInput,
  assignment: Assignment,
  trouble: MovingTrouble | undefined,
  refusal: Refusal,
): WorkerDecision {
  const { worker } = input;
  if (trouble !== undefined && !mayGoOnThere(trouble)) {
    return stay(input, assignment, trouble, refusal);
  }
  if (!hasFinalizer(worker)) {
    return { kind: 'addFinalizer' };
  }
  const message = `${refusal.message}; it stays on node ${assignment.nodeName} as it was`;
  const told = tell(worker, assignment, no(refusal.reason, message));
  return told.kind === 'write' ? { ...told, cause: 'refused' } : told;
}

function tell(worker: LambdaWorker, assignment: Assignment, scheduled: Verdict): WorkerDecision {
  return says(worker, { scheduled })
    ? nothing
    : { kind: 'write', cause: 'told', status: { assignment, scheduled }, note: scheduled.message };
}

/** The worker stays where it is; what the quotas have granted it is written where that has changed. */
function settle(worker: LambdaWorker, present: Assignment, grant: Grant): WorkerDecision {
  const scheduled = assignedTo(present.nodeName);
  return giveGrant(worker, present, grant, scheduled) ?? tell(worker, present, scheduled);
}

/** Writes what the quotas have granted; undefined where that is written. Agents make no container beyond it. */
function giveGrant(
  worker: LambdaWorker,
  present: Assignment,
  grant: Grant,
  scheduled: Verdict = findCondition(worker.status?.conditions, workerConditions.scheduled) ??
    assignedTo(present.nodeName),
): WorkerDecision | undefined {
  const assignment = withGrant(present, grant);
  return isSameGrant(present.granted, assignment.granted)
    ? undefined
    : { kind: 'write', cause: 'told', status: { assignment, scheduled }, note: scheduled.message };
}

/** Whether the worker moves for what it needs alone, and may be on its node for as long as no other has that. */
function mayGoOnThere({ kind }: Trouble): boolean {
  return kind === 'full' || kind === 'unfit' || kind === 'pinnedElsewhere';
}

/** Whether the node of a worker may still start it, and moves it otherwise once there is another. */
function mayStartThere(trouble: Trouble): boolean {
  return mayGoOnThere(trouble) || trouble.kind === 'draining';
}

/**
 * The next step for one worker. After a step is done and seen in the cache, the next one is decided. In a steady state
 * the answer is `nothing`, and no write happens.
 */
export function decide(input: DecisionInput): WorkerDecision {
  const { worker } = input;
  if (worker.metadata.deletionTimestamp !== undefined) {
    return decideDeleting(input);
  }
  const assignment = worker.status?.assignment;
  if (assignment === undefined) {
    return assignFirst(input);
  }
  const trouble = troubleOf(input, assignment);
  const grant = input.grant();
  if (grant.kind === 'refused' && trouble?.kind !== 'unreachable') {
    return remain(input, assignment, trouble, quotaRefusal(grant));
  }
  if (trouble === undefined) {
    return hasFinalizer(worker) ? settle(worker, assignment, grant) : { kind: 'addFinalizer' };
  }
  if (trouble.kind === 'unreachable') {
    const message = `nothing has been heard of ${assignment.nodeName}; the worker stays there for now, since ${stayClause(trouble.because)}`;
    return tellLoss(input, assignment, message, assignedTo(assignment.nodeName));
  }
  const given = mayStartThere(trouble) ? giveGrant(worker, assignment, grant) : undefined;
  if (given !== undefined) {
    return given;
  }
  if (trouble.kind === 'full' && !input.mayLeaveFullNode) {
    return nothing;
  }
  // A lost or full node would pass the checks of placement; nodes with other troubles do not.
  const exclude = trouble.kind === 'lost' || trouble.kind === 'full' ? assignment.nodeName : undefined;
  const unfit = unfitArchitecturesOf(worker);
  const unfitNow = trouble.kind === 'unfit' ? [...new Set([...unfit, trouble.architecture])] : unfit;
  const placement = input.place(exclude, unfitNow);
  if (placement.kind === 'refused') {
    return stay(input, assignment, trouble, placement);
  }
  const isInNoHurry = trouble.kind === 'draining' || trouble.kind === 'retired';
  if (isInNoHurry && !input.mayLeave()) {
    return nothing;
  }
  const { nodeName } = placement;
  const note = `moved from node ${assignment.nodeName} to node ${nodeName}, since ${why(trouble, assignment.nodeName)}`;
  return assign(worker, withGrant({ nodeName, epoch: assignment.epoch + 1 }, grant), {
    cause: 'moved',
    note,
    ready: note,
    goneNode: goneNodeOf(trouble, assignment),
    unfitArchitectures: unfitNow,
  });
}
