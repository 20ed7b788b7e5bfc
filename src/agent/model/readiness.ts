import { no, progressOf, undecided, type Verdict, type WorkerReason, yes } from '../../api/condition.ts';
import type { WorkerPhase } from '../../api/lambda-worker.ts';
import { unreachable } from '../../common/errors.ts';
import type { Failure, Replacement, StatusInput } from './status-input.ts';
import type { WorkerView } from './worker-state.ts';

/** Why no container is made of a worker that asks for more than it was granted. */
export const AWAITS_GRANT = 'the quotas of its namespace have not granted what it asks for';
/** Message after a refusal: without numbers, which change with every worker of the namespace. */
export const GRANT_REFUSED =
  'the quotas of its namespace have no room for what it asks for beyond its grant, as Scheduled tells';
/** Verdict of an agent on a worker. */
export type Words = Verdict<WorkerReason | Failure['code']>;

/** The conditions by which a worker is judged as a whole. */
type Readiness = Pick<WorkerView['conditions'], 'Ready'> &
  Partial<Pick<WorkerView['conditions'], 'UpToDate' | 'Reconciling' | 'Stalled' | 'Callable'>>;

/**
 * Whether the worker is as its spec wishes, and what becomes of it otherwise, in the words of kstatus: `Reconciling`
 * passes by itself, `Stalled` lasts until somebody changes something. Whether calls are answered is another matter:
 * an earlier container answers while its replacement fails, and a worker may rest and refuse calls as its owner wishes.
 */
export function readinessOf(input: StatusInput, phase: WorkerPhase): Readiness {
  const own = ownReadiness(input, phase);
  const upToDate = upToDateCondition(input, phase, own);
  const ready = own.status === 'True' && upToDate?.status === 'False' ? behind(upToDate, input.replacement) : own;
  return {
    Ready: ready,
    ...progressOf(ready, causeOf(input, ready)),
    Callable: callableCondition(input, phase, own),
    ...(upToDate === undefined ? {} : { UpToDate: upToDate }),
  };
}

/** `NodeFull` as a reason of Ready moves a worker to another node, and this one serves. */
function behind({ message, reason }: Words, { failure, nodeFull }: Partial<Replacement> = {}): Words {
  if (nodeFull !== undefined) {
    return no('ReplacementFailed', message);
  }
  return no(reason, failure?.delaySeconds ? `${message} in ${failure.delaySeconds} s` : message);
}

/** The cause of a worker's not being ready. A failure that is tried again at once is none yet. */
function causeOf({ failure, replacement }: StatusInput, ready: Words): string {
  const last = replacement === undefined ? failure : replacement.failure;
  if (replacement?.nodeFull !== undefined || last === undefined) {
    return ready.reason;
  }
  if (last.delaySeconds === 0) {
    return 'Pending' satisfies WorkerReason;
  }
  return last.exited ? ('CrashLoopBackOff' satisfies WorkerReason) : last.code;
}

/** Whether calls would be answered, by an earlier container as well. */
function callableCondition({ desired, wakes }: StatusInput, phase: WorkerPhase, own: Words): Words {
  if (own.status !== 'True') {
    return own;
  }
  if (!wakes) {
    return no('PausedByOwner', 'at rest: wakePolicy Never refuses calls');
  }
  if (phase === 'Running') {
    return yes('Running', 'calls are answered');
  }
  return phase === 'Absent' ? yes('Absent', `the next call starts it, from the image ${desired.image}`) : own;
}

/** The reason why an earlier container serves and not the present generation. */
function replacementCondition({ detail, failure, nodeFull, step }: Replacement, ungranted: Words | undefined): Words {
  if (nodeFull !== undefined) {
    return no('NodeFull', `the earlier container serves on, its replacement waits: ${nodeFull}`);
  }
  if (failure !== undefined) {
    const code = failure.exited ? 'CrashLoopBackOff' : failure.code;
    const text = `${code}: ${failure.message}; the earlier container serves on, and the replacement is tried again`;
    return no('ReplacementFailed', text);
  }
  if (ungranted !== undefined) {
    const reason = ungranted.reason === 'QuotaExceeded' ? ungranted.reason : 'Replacing';
    return no(reason, `the earlier container serves on: ${ungranted.message}`);
  }
  const pulled = step === 'Pulling' ? `; its image is being pulled${after(detail)}` : '';
  return no('Replacing', `the earlier container serves until its replacement is ready${pulled}`);
}

/** Whether calls reach a container of the present spec. Undefined for a worker that is being deleted. */
function upToDateCondition(input: StatusInput, phase: WorkerPhase, own: Words): Words | undefined {
  if (input.goal.kind === 'Gone') {
    return undefined;
  }
  if (input.replacement !== undefined) {
    return replacementCondition(input.replacement, ungrantedCondition(input));
  }
  switch (phase) {
    case 'Running':
    case 'Pausing':
    case 'Paused':
    case 'Resuming':
      return input.outdated
        ? no('Replacing', 'the earlier container is being replaced')
        : yes('UpToDate', 'this generation serves');
    case 'Absent':
      return yes('Absent', 'nothing exists on the node; the next start is of this generation');
    case 'Pending':
    case 'Pulling':
    case 'Creating':
    case 'Terminating':
    case 'Failed':
    case 'Unknown':
      return own;
    default:
      return unreachable(phase);
  }
}

/** Whether the container that is there, or is to be there, is as wished, whichever generation it is of. */
function ownReadiness(input: StatusInput, phase: WorkerPhase): Words {
  const { failure, wakes } = input;
  switch (phase) {
    case 'Running':
      return yes('Running', 'the container runs');
    case 'Paused':
    case 'Pausing':
    case 'Resuming':
      return wakes
        ? yes('Paused', 'frozen; the next call resumes it')
        : yes('PausedByOwner', 'at rest, as its owner wishes: wakePolicy Never refuses calls');
    case 'Absent':
      return absence(input);
    case 'Terminating':
      if (failure !== undefined) {
        return no('Terminating', failure.message);
      }
      return no(
        'Terminating',
        input.goal.kind === 'Gone' ? 'being removed; what is applied meanwhile is lost with it' : 'being removed',
      );
    case 'Pending':
      if (input.nodeFull !== undefined) {
        return no('NodeFull', input.nodeFull);
      }
      return (
        ungrantedCondition(input) ??
        (failure === undefined ? no('Pending', 'about to be started') : no(failure.code, failure.message))
      );
    case 'Pulling':
      return no('Pulling', pulling(input));
    case 'Creating':
      return failure === undefined
        ? no('Creating', 'being started')
        : no('Restarting', `being started again after: ${failure.message}`);
    case 'Failed':
      return failure === undefined ? no('Failed', 'could not be started') : failedCondition(failure);
    case 'Unknown':
      return undecided('Unknown', 'the state of the container is not known');
    default:
      return unreachable(phase);
  }
}

/** Why no container is made of a worker that asks for more than its quotas have granted; undefined for another. */
function ungrantedCondition({ desired }: StatusInput): Words | undefined {
  if (desired.awaitsGrant !== true) {
    return undefined;
  }
  return desired.grantRefused === true ? no('QuotaExceeded', GRANT_REFUSED) : no('Pending', AWAITS_GRANT);
}

/** Nothing exists, as wished: that holds as soon as the image is known to be there for the next call. */
function absence(input: StatusInput): Words {
  const { desired, resolution, wakes } = input;
  if (desired.permission?.kind === 'Refused') {
    return no('PolicyRefused', desired.permission.message);
  }
  const ungranted = ungrantedCondition(input);
  if (ungranted !== undefined) {
    return ungranted;
  }
  if (resolution === 'Asking') {
    return no('Resolving', `asking for the image ${desired.image}`);
  }
  if (resolution !== 'Known') {
    return no(resolution.code, resolution.message);
  }
  const next = wakes ? 'the next call starts it' : 'wakePolicy Never refuses calls';
  return desired.restingState === 'Absent'
    ? yes('Absent', `nothing exists on the node; ${next}`)
    : yes('RemovedIdle', `removed from the node while nobody calls it; ${next}`);
}

function failedCondition({ code, delaySeconds, exited, message }: Failure): Words {
  return exited ? no('CrashLoopBackOff', `starts again in ${delaySeconds} s: ${message}`) : no(code, message);
}

/** Progress of a pull, for people. */
export function pulling({ desired, detail }: StatusInput): string {
  return `pulling ${desired.image}${after(detail)}`;
}

function after(detail: string | undefined): string {
  return detail === undefined ? '' : `: ${detail}`;
}
