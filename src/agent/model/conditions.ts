import { readyReasons } from '../../api/condition.ts';
import type { WorkerPhase } from '../../api/lambda-worker.ts';
import { unreachable } from '../../common/errors.ts';
import { formatHostPort } from '../../common/host-port.ts';
import type { EnsureStep, WorkerInfo } from '../../runtime/contract/runtime.ts';
import type { DesiredWorker } from './desired-worker.ts';
import type { Goal } from './goal.ts';
import type { Action, Observed } from './plan.ts';
import type { ConditionView, WorkerView } from './worker-state.ts';

/** Why a worker is not what it should be. */
export interface Failure {
  /** The code of the error, or of the way in which the process ended. */
  readonly code: string;
  readonly message: string;
  /** Whether the worker's own process ended, as opposed to never having been started. */
  readonly exited: boolean;
  /** Seconds that the next attempt is put off for; 0 when it comes at once. */
  readonly delaySeconds: number;
}

/** How the replacement of a container that serves goes. */
export interface Replacement {
  /** How far the new one is. */
  readonly step: EnsureStep | undefined;
  /** More of the same, as text. */
  readonly detail: string | undefined;
  readonly failure: Failure | undefined;
  /** Why the node has no room for the new one, when it has none. */
  readonly nodeFull: string | undefined;
}

export interface StatusInput {
  readonly desired: DesiredWorker;
  readonly goal: Goal;
  readonly observed: Observed['kind'];
  /** Whether nothing has been known of the container for too long to show it as it was before. */
  readonly shownUnknown: boolean;
  /** Whether something of an earlier container may be left. */
  readonly traces: boolean;
  readonly info: WorkerInfo | undefined;
  readonly acting: Action['kind'] | undefined;
  /** How far an `Ensure` is. */
  readonly step: EnsureStep | undefined;
  /** More of how far it is, for people. */
  readonly detail: string | undefined;
  readonly failure: Failure | undefined;
  /** Wall-clock milliseconds at which the calls that are in it are over at the latest; undefined for none. */
  readonly callUntil: number | undefined;
  /** Why the node has no room for it, when it has none. */
  readonly nodeFull: string | undefined;
  /** Whether the warm-up call is still to come. */
  readonly cold: boolean;
  /** Whether the container that calls go to is of another shape than the resource asks for. */
  readonly outdated: boolean;
  /** Present while the container that serves is of an earlier shape. */
  readonly replacement: Replacement | undefined;
  /** Whether the last call was over before the function was loaded. */
  readonly loadTimedOut: boolean;
  readonly previous: WorkerView | undefined;
}

export interface Status {
  readonly phase: WorkerPhase;
  readonly transient: boolean;
  readonly conditions: WorkerView['conditions'];
}

const imageCodes: ReadonlySet<string> = new Set([
  'ImageNotFound',
  'ImagePullFailed',
  'ImageInvalid',
  'RegistryUnreachable',
  'PullSecretForbidden',
  'PullSecretUnreadable',
]);
const networkCodes: ReadonlySet<string> = new Set(['NetworkFailed', 'AddressesExhausted']);

/** Phase and conditions of a worker. */
export function statusOf(input: StatusInput): Status {
  const { phase, transient } = phaseOf(input);
  const imageReady = imageCondition(input);
  const networkReady = networkCondition(input);
  const upToDate = upToDateCondition(input, phase);
  const limitsReached = limitsCondition(input) ?? loadCondition(input);
  const handlerIgnored = handlerCondition(input);
  const withinPolicy = policyCondition(input);
  const cleanedUp = cleanedUpCondition(input);
  return {
    phase,
    transient,
    conditions: {
      ...(imageReady === undefined ? {} : { ImageReady: imageReady }),
      ...(networkReady === undefined ? {} : { NetworkReady: networkReady }),
      Ready: readyCondition(input, phase),
      ...(upToDate === undefined ? {} : { UpToDate: upToDate }),
      ...(limitsReached === undefined ? {} : { LimitsReached: limitsReached }),
      ...(handlerIgnored === undefined ? {} : { HandlerIgnored: handlerIgnored }),
      ...(withinPolicy === undefined ? {} : { WithinPolicy: withinPolicy }),
      ...(cleanedUp === undefined ? {} : { CleanedUp: cleanedUp }),
    },
  };
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
      // Made again after it failed: until it succeeds nothing has changed.
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
        return input.observed === 'Missing' ? resting('Absent') : passing('Terminating');
      }
      if (input.failure !== undefined && input.failure.delaySeconds > 0) {
        return resting('Failed');
      }
      return input.nodeFull === undefined ? passing('Pending') : resting('Pending');
    default:
      return unreachable(input.observed);
  }
}

/** Whether it runs and could be called, but for a warm-up call that failed. */
function isWarmUpFailed({ cold, failure, observed }: StatusInput): boolean {
  return observed === 'Running' && cold && failure?.code === readyReasons.warmUpFailed;
}

/** Whether a replacement goes on, as opposed to one that failed and is tried again later. */
function isUnderWay(replacement: Replacement | undefined): boolean {
  return replacement !== undefined && replacement.failure === undefined && replacement.nodeFull === undefined;
}

/** Why the generation asked for does not serve while an earlier container does. */
function replacementCondition({ detail, failure, nodeFull, step }: Replacement): ConditionView {
  if (nodeFull !== undefined) {
    return no(readyReasons.nodeFull, `the earlier container serves on, its replacement waits: ${nodeFull}`);
  }
  if (failure !== undefined) {
    const code = failure.exited ? readyReasons.crashLoopBackOff : failure.code;
    return no(
      readyReasons.replacementFailed,
      `${code}: ${failure.message}; the earlier container serves on, and the replacement is tried again`,
    );
  }
  const pulled =
    step === 'Pulling' ? `; its image is being pulled${detail === undefined ? '' : `: ${detail}`}` : '';
  return no(readyReasons.replacing, `the earlier container serves until its replacement is ready${pulled}`);
}

/** Whether calls reach what the spec asks for. Undefined for a worker that is to go. */
function upToDateCondition(input: StatusInput, phase: WorkerPhase): ConditionView | undefined {
  if (input.goal.kind === 'Gone') {
    return undefined;
  }
  if (input.replacement !== undefined) {
    return replacementCondition(input.replacement);
  }
  switch (phase) {
    case 'Running':
    case 'Pausing':
    case 'Paused':
    case 'Resuming':
      return input.outdated
        ? no(readyReasons.replacing, 'the earlier container is being replaced')
        : yes('UpToDate', 'this generation serves');
    case 'Absent':
      return yes(readyReasons.absent, 'nothing exists on the node; the next start is of this generation');
    case 'Pending':
    case 'Pulling':
    case 'Creating':
    case 'Terminating':
    case 'Failed':
    case 'Unknown':
      return readyItself(input, phase);
    default:
      return unreachable(phase);
  }
}

/** The same condition, with what becomes of the container's replacement. */
function withReplacement(condition: ConditionView, replacement: Replacement | undefined): ConditionView {
  if (replacement === undefined) {
    return condition;
  }
  const { detail, failure, nodeFull, step } = replacement;
  const reason = (own: string): string => (condition.status === 'True' ? own : condition.reason);
  if (nodeFull !== undefined) {
    return {
      ...condition,
      reason: reason(readyReasons.replacementFailed),
      message: `${condition.message}; the earlier container serves on, its replacement waits: ${nodeFull}`,
    };
  }
  if (failure === undefined) {
    return {
      ...condition,
      reason: reason(readyReasons.replacing),
      message: `${condition.message}; by the earlier container, until its replacement is ready${
        step === 'Pulling' ? ` (pulling its image${detail === undefined ? '' : `: ${detail}`})` : ''
      }`,
    };
  }
  const again = failure.delaySeconds > 0 ? `, and is tried again in ${failure.delaySeconds} s` : '';
  return {
    ...condition,
    reason: reason(readyReasons.replacementFailed),
    message: `${condition.message}; the earlier container serves on, its replacement failed${again}: ${failure.message}`,
  };
}

function readyCondition(input: StatusInput, phase: WorkerPhase): ConditionView {
  return withReplacement(readyItself(input, phase), input.replacement);
}

function readyItself(input: StatusInput, phase: WorkerPhase): ConditionView {
  const { failure, desired } = input;
  switch (phase) {
    case 'Running':
      return yes(readyReasons.running, 'calls are answered');
    case 'Paused':
    case 'Pausing':
    case 'Resuming':
      return desired.wakePolicy === 'Never' && desired.restingState !== 'Running'
        ? no(readyReasons.pausedByOwner, 'paused by its owner: wakePolicy Never refuses calls')
        : yes(readyReasons.paused, 'frozen; the next call resumes it');
    case 'Absent':
      return no(
        readyReasons.absent,
        desired.wakePolicy === 'Never'
          ? 'nothing exists on the node, and wakePolicy Never refuses calls'
          : 'nothing exists on the node; the next call starts it',
      );
    case 'Terminating':
      return no('Terminating', failure === undefined ? 'being removed' : failure.message);
    case 'Pending':
      if (input.nodeFull !== undefined) {
        return no(readyReasons.nodeFull, input.nodeFull);
      }
      return failure === undefined ? no('Pending', 'about to be started') : no(failure.code, failure.message);
    case 'Pulling':
      return no('Pulling', pulling(input));
    case 'Creating':
      return failure === undefined
        ? no('Creating', 'being started')
        : no('Restarting', `being started again after: ${failure.message}`);
    case 'Failed':
      return failedCondition(failure);
    case 'Unknown':
      return { status: 'Unknown', reason: 'Unknown', message: 'the state of the container is not known' };
    default:
      return unreachable(phase);
  }
}

function failedCondition(failure: Failure | undefined): ConditionView {
  if (failure === undefined) {
    return no('Failed', 'could not be started');
  }
  return failure.exited
    ? no(readyReasons.crashLoopBackOff, `starts again in ${failure.delaySeconds} s: ${failure.message}`)
    : no(failure.code, failure.message);
}

function imageCondition(input: StatusInput): ConditionView | undefined {
  const { failure, info, step, detail, desired } = input;
  if (input.acting === 'Ensure') {
    if (step === 'Creating' || step === 'Starting') {
      return yes('Present', `${desired.image} is on the node`);
    }
    if (step === 'Pulling' && detail !== undefined) {
      return no('Pulling', `pulling ${desired.image}: ${detail}`);
    }
    if (failure === undefined) {
      return step === 'Pulling' ? no('Pulling', pulling(input)) : input.previous?.conditions.ImageReady;
    }
    // Until the new attempt has got further, the last one's trouble is the truth.
    return input.previous?.conditions.ImageReady;
  }
  const trouble = input.replacement?.failure;
  if (trouble !== undefined && imageCodes.has(trouble.code)) {
    return no(trouble.code, trouble.message);
  }
  if (info !== undefined) {
    return yes('Present', info.image === '' ? `${desired.image} is on the node` : info.image);
  }
  if (failure !== undefined) {
    return imageCodes.has(failure.code)
      ? no(failure.code, withDelay(failure))
      : input.previous?.conditions.ImageReady;
  }
  return undefined;
}

function pulling({ desired, detail }: StatusInput): string {
  return `pulling ${desired.image}${detail === undefined ? '' : `: ${detail}`}`;
}

function networkCondition(input: StatusInput): ConditionView | undefined {
  const { failure, info } = input;
  if (info?.address !== undefined) {
    const { ip, port } = info.address;
    return yes('Attached', formatHostPort({ host: ip, port }));
  }
  if (failure !== undefined && networkCodes.has(failure.code)) {
    return no(failure.code, failure.message);
  }
  return undefined;
}

/** Without numbers: a worker that goes on running into its limits must not have its status written each time. */
function limitsCondition({ info, desired }: StatusInput): ConditionView | undefined {
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

function loadCondition({ desired, loadTimedOut }: StatusInput): ConditionView | undefined {
  return loadTimedOut
    ? yes(
        'LoadTimeout',
        `the function takes longer to load than spec.timeoutSeconds (${desired.timeoutSeconds}): loading counts against the time of the call, and every call begins it anew. Raise spec.timeoutSeconds`,
      )
    : undefined;
}

function handlerCondition({ desired, info }: StatusInput): ConditionView | undefined {
  const taken = info?.handlerInItsPlace;
  return taken === undefined || desired.handler === undefined
    ? undefined
    : yes(
        'HandlerInImage',
        `spec.handler ${desired.handler} has no effect: the command of the image or of the resource names ${taken}, and its runtime goes by that. Write spec.command without a handler, or leave spec.handler out`,
      );
}

function policyCondition({ desired }: StatusInput): ConditionView | undefined {
  const { permission } = desired;
  if (permission === undefined) {
    return undefined;
  }
  switch (permission.kind) {
    case 'MadeBefore':
      return no('MadeBeforePolicy', permission.message);
    case 'Refused':
      return no('PolicyRefused', permission.message);
    default:
      return unreachable(permission.kind);
  }
}

function cleanedUpCondition(input: StatusInput): ConditionView | undefined {
  if (input.goal.kind !== 'Gone') {
    return undefined;
  }
  if (input.observed === 'Missing' && !input.traces && input.acting === undefined) {
    return yes('CleanedUp', 'nothing is left on the node');
  }
  if (input.failure !== undefined) {
    return no(input.failure.code, input.failure.message);
  }
  const until = input.callUntil === undefined ? undefined : new Date(input.callUntil).toISOString();
  return no(
    'Removing',
    until === undefined
      ? 'being removed from the node'
      : `the call that is in it has until ${until} to end; then it is removed from the node`,
  );
}

function withDelay({ message, delaySeconds }: Failure): string {
  return delaySeconds > 0 ? `${message}; next attempt in ${delaySeconds} s` : message;
}

function yes(reason: string, message: string): ConditionView {
  return { status: 'True', reason, message };
}

function no(reason: string, message: string): ConditionView {
  return { status: 'False', reason, message };
}
