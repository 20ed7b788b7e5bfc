import { no, progressOf, undecided, type Verdict, type Verdicts, type WorkerReason, yes } from '../../api/condition.ts';
import type { WorkerPhase } from '../../api/lambda-worker.ts';
import { unreachable } from '../../common/errors.ts';
import { formatHostPort } from '../../common/host-port.ts';
import type { Failure, Replacement, StatusInput } from './status-input.ts';
import type { WorkerView } from './worker-state.ts';

export interface Status {
  readonly phase: WorkerPhase;
  readonly transient: boolean;
  readonly conditions: WorkerView['conditions'];
}

/** Codes of errors that are about the image. */
export const imageCodes: ReadonlySet<string> = new Set([
  'ImageNotFound',
  'ImagePullFailed',
  'ImageUnproven',
  'ImageInvalid',
  'ImageWrongPlatform',
  'RegistryUnreachable',
  'PullSecretForbidden',
  'PullSecretUnreadable',
]);
/** Why no container is made of a worker that asks for more than it was granted. */
export const AWAITS_GRANT = 'the quotas of its namespace have not granted what it asks for';
/** Message after a refusal: without numbers, which change with every worker of the namespace. */
export const GRANT_REFUSED =
  'the quotas of its namespace have no room for what it asks for beyond its grant, as Scheduled tells';
/** Verdict of an agent on a worker. */
type Words = Verdict<WorkerReason | Failure['code']>;

const networkCodes: ReadonlySet<string> = new Set(['NetworkFailed', 'AddressesExhausted']);

/** Phase and conditions of a worker. */
export function statusOf(input: StatusInput): Status {
  const { phase, transient } = phaseOf(input);
  const conditions: Verdicts<keyof WorkerView['conditions']> = {
    ImageReady: imageCondition(input),
    NetworkReady: networkCondition(input),
    ...readinessOf(input, phase),
    LimitsReached: abuseCondition(input) ?? limitsCondition(input) ?? loadCondition(input),
    HandlerIgnored: handlerCondition(input),
    WithinPolicy: policyCondition(input),
    CleanedUp: cleanedUpCondition(input),
  };
  const present = Object.entries(conditions).filter(([, condition]) => condition !== undefined);
  return { phase, transient, conditions: Object.fromEntries(present) as WorkerView['conditions'] };
}

const resting = (phase: WorkerPhase) => ({ phase, transient: false }) as const;
const passing = (phase: WorkerPhase) => ({ phase, transient: true }) as const;

function phaseOf(input: StatusInput): { readonly phase: WorkerPhase; readonly transient: boolean } {
  if (input.goal.kind === 'Gone') {
    return input.observed === 'Missing' ? resting('Terminating') : passing('Terminating');
  }
  switch (input.acting) {
    case 'Ensure':
      return passing(input.step === 'Pulling' ? 'Pulling' : 'Creating');
    case 'WarmUp':
      // A warm-up that is tried again changes nothing until it succeeds.
      return isWarmUpFailed(input) ? resting('Failed') : passing('Creating');
    case 'Pause':
      return passing('Pausing');
    case 'Resume':
      return passing('Resuming');
    case 'Destroy':
      return passing('Terminating');
    case 'Inspect':
    case undefined:
      return phaseAtRest(input);
    default:
      return unreachable(input.acting);
  }
}

function phaseAtRest(input: StatusInput): { readonly phase: WorkerPhase; readonly transient: boolean } {
  switch (input.observed) {
    case 'Running':
      if (input.replacement !== undefined) {
        return isUnderWay(input.replacement) ? passing('Running') : resting('Running');
      }
      if (isWarmUpFailed(input)) {
        return resting('Failed');
      }
      return input.cold ? passing('Creating') : resting('Running');
    case 'Paused':
      return isUnderWay(input.replacement) ? passing('Paused') : resting('Paused');
    case 'Unknown':
      return input.shownUnknown ? resting('Unknown') : passing(input.previous?.phase ?? 'Pending');
    case 'Missing':
    case 'Created':
    case 'Stopped':
      if (input.goal.kind === 'Absent') {
        if (input.observed !== 'Missing') {
          return passing('Terminating');
        }
        return input.resolution === 'Asking' ? passing('Absent') : resting('Absent');
      }
      if (input.failure !== undefined && input.failure.delaySeconds > 0) {
        return resting('Failed');
      }
      return input.nodeFull === undefined ? passing('Pending') : resting('Pending');
    default:
      return unreachable(input.observed);
  }
}

/** Whether the worker runs, and only its failed warm-up call keeps calls out. */
function isWarmUpFailed({ cold, failure, observed }: StatusInput): boolean {
  return observed === 'Running' && cold && failure?.code === 'WarmUpFailed';
}

/** Whether a replacement goes on, as opposed to one that failed and is tried again later. */
function isUnderWay(replacement: Replacement | undefined): boolean {
  return replacement !== undefined && replacement.failure === undefined && replacement.nodeFull === undefined;
}

/** The conditions by which a worker is judged as a whole. */
type Readiness = Pick<WorkerView['conditions'], 'Ready'> &
  Partial<Pick<WorkerView['conditions'], 'UpToDate' | 'Reconciling' | 'Stalled' | 'Callable'>>;

/**
 * Whether the worker is as its spec wishes, and what becomes of it otherwise, in the words of kstatus: `Reconciling`
 * passes by itself, `Stalled` lasts until somebody changes something. Whether calls are answered is another matter:
 * an earlier container answers while its replacement fails, and a worker may rest and refuse calls as its owner wishes.
 */
function readinessOf(input: StatusInput, phase: WorkerPhase): Readiness {
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
function pulling({ desired, detail }: StatusInput): string {
  return `pulling ${desired.image}${after(detail)}`;
}

function after(detail: string | undefined): string {
  return detail === undefined ? '' : `: ${detail}`;
}

function imageCondition(input: StatusInput): Verdict | undefined {
  const { failure, info, step, detail, desired } = input;
  if (input.acting === 'Ensure') {
    if (step === 'Creating' || step === 'Starting') {
      return yes<WorkerReason>('Present', `${desired.image} is on the node`);
    }
    // Until a new attempt has got further, the failure of the last one is the truth.
    return step === 'Pulling' && (detail !== undefined || failure === undefined)
      ? no<WorkerReason>('Pulling', pulling(input))
      : input.previous?.conditions.ImageReady;
  }
  const trouble = input.replacement?.failure;
  if (trouble !== undefined && imageCodes.has(trouble.code)) {
    return no(trouble.code, trouble.message);
  }
  if (info !== undefined) {
    return yes<WorkerReason>('Present', info.image === '' ? `${desired.image} is on the node` : info.image);
  }
  if (failure !== undefined) {
    return imageCodes.has(failure.code) ? no(failure.code, withDelay(failure)) : input.previous?.conditions.ImageReady;
  }
  const { resolution } = input;
  return typeof resolution === 'object' && input.goal.kind === 'Absent' && imageCodes.has(resolution.code)
    ? no(resolution.code, resolution.message)
    : undefined;
}

function networkCondition(input: StatusInput): Words | undefined {
  const { failure, info } = input;
  if (info?.address !== undefined) {
    const { ip, port } = info.address;
    return yes('Attached', formatHostPort({ host: ip, port }));
  }
  if (info?.runtimeInterface === 'Lambda' && (info.task.kind === 'Running' || info.task.kind === 'Paused')) {
    const way = 'calls reach it by its init';
    return yes('Attached', info.ip === undefined ? way : `${info.ip}, ${way}`);
  }
  return failure !== undefined && networkCodes.has(failure.code) ? no(failure.code, failure.message) : undefined;
}

/** Without numbers: a worker that reaches its limits again and again must not cause a write each time. */
function limitsCondition({ info, desired }: StatusInput): Words | undefined {
  const hits = info?.limits;
  if (hits === undefined) {
    return undefined;
  }
  const processes = `it was refused further processes or threads: spec.resources.pids is ${desired.pids}`;
  const memory = `a process of it was ended for want of memory: spec.resources.limits.memory is ${desired.memoryMiB}Mi, beside ${desired.ephemeralStorageMiB}Mi of /tmp`;
  if (hits.memory === 0) {
    return yes('ProcessLimit', processes);
  }
  return yes('OutOfMemory', hits.processes === 0 ? memory : `${memory}; ${processes}`);
}

function abuseCondition({ abuse }: StatusInput): Words | undefined {
  return abuse === undefined ? undefined : yes('RuntimeApiAbused', `it was ended for what it sent: ${abuse}`);
}

function loadCondition({ desired, loadTimedOut }: StatusInput): Words | undefined {
  return loadTimedOut
    ? yes(
        'LoadTimeout',
        `the function takes longer to load than spec.timeoutSeconds (${desired.timeoutSeconds}): loading counts against the time of the call, and every call begins the load again. Raise spec.timeoutSeconds`,
      )
    : undefined;
}

function handlerCondition({ desired, info }: StatusInput): Words | undefined {
  const taken = info?.handlerInItsPlace;
  return taken === undefined || desired.handler === undefined
    ? undefined
    : yes(
        'HandlerInImage',
        `spec.handler ${desired.handler} has no effect: the command of the image or of the resource names ${taken}, and its runtime goes by that. Write spec.command without a handler, or leave spec.handler out`,
      );
}

function policyCondition({ desired }: StatusInput): Words | undefined {
  const { permission } = desired;
  return permission === undefined
    ? undefined
    : no(permission.kind === 'MadeBefore' ? 'MadeBeforePolicy' : 'PolicyRefused', permission.message);
}

function cleanedUpCondition(input: StatusInput): Words | undefined {
  if (input.goal.kind !== 'Gone') {
    return undefined;
  }
  if (input.observed === 'Missing' && !input.traces && input.acting === undefined) {
    return yes('CleanedUp', 'nothing is left on the node');
  }
  if (input.failure !== undefined) {
    return no(input.failure.code, input.failure.message);
  }
  if (input.callUntil === undefined) {
    return no('Removing', 'being removed from the node');
  }
  const until = new Date(input.callUntil).toISOString();
  return no('Removing', `the call that is in it has until ${until} to end; then it is removed from the node`);
}

function withDelay({ message, delaySeconds }: Failure): string {
  return delaySeconds > 0 ? `${message}; next attempt in ${delaySeconds} s` : message;
}
