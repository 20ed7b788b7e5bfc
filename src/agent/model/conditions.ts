import { no, type Verdict, type Verdicts, type WorkerReason, yes } from '../../api/condition.ts';
import type { WorkerPhase } from '../../api/lambda-worker.ts';
import { unreachable } from '../../common/errors.ts';
import { formatHostPort } from '../../common/host-port.ts';
import { pulling, readinessOf, type Words } from './readiness.ts';
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
      // Room is looked for at a start: the pause after a failure is over where there was none.
      if (input.nodeFull !== undefined) {
        return resting('Pending');
      }
      return input.failure !== undefined && input.failure.delaySeconds > 0 ? resting('Failed') : passing('Pending');
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
