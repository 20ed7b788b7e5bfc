import { findCondition, workerConditions } from '../../api/condition.ts';
import { unreachable } from '../../common/errors.ts';
import { functionBusy } from '../admission/admission-policy.ts';
import type { FleetView, FunctionEntry, WorkerEntry } from '../agents/fleet-view.ts';
import type { Refusal } from '../agents/refusals.ts';
import { obstacleOf } from '../agents/routing.ts';
import { NO_DRAW, type VersionBook } from '../agents/version-book.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import { functionStateOf } from '../lambda/function-state.ts';
import { LambdaError, throttled, unavailable } from '../lambda/lambda-error.ts';

const NOT_ASSIGNED_YET = { reason: '', message: 'it has not been assigned yet' };

export interface FunctionFinderOptions {
  readonly view: FleetView;
  /** Whether the view is complete: a function that is not in it does not exist. */
  readonly isViewCurrent: () => boolean;
  readonly book: VersionBook;
}

/** The function and the workers that a reference names. */
export interface Target {
  readonly entry: FunctionEntry;
  /** Undefined for $LATEST. */
  readonly version: number | undefined;
  readonly workers: readonly WorkerEntry[];
}

interface Absence {
  readonly error: LambdaError;
  /** Whether no worker is on its way. */
  readonly isLasting: boolean;
}

/** Finds the workers that references name, and says in Lambda's words why there are none. */
export class FunctionFinder {
  readonly #options: FunctionFinderOptions;

  constructor(options: FunctionFinderOptions) {
    this.#options = options;
  }

  /**
   * The function of a reference, and the workers that it names. There may be none at the moment of a function that has
   * a LambdaFunction, and of a version that an alias names.
   *
   * @param draw for an alias that shares its calls; the version that gets most of what is left when absent
   * @throws {LambdaError} ResourceNotFoundException, or ServiceException (503) where the function may exist, or the
   *   version has no workers
   */
  find(reference: FunctionReference, draw: () => number = () => NO_DRAW): Target {
    const { name, qualifier } = reference;
    const { book, isViewCurrent, view } = this.#options;
    const entry = view.function(name);
    const found = book.resolve(name, qualifier, draw);
    const version = found.kind === 'Version' ? found.version : undefined;
    const workers = entry?.byVersion.get(version) ?? [];
    switch (found.kind) {
      case 'Latest':
        if (entry !== undefined && (workers.length > 0 || book.function(name) !== undefined)) {
          return { entry, version, workers };
        }
        break;
      case 'Version':
        if (entry !== undefined && (workers.length > 0 || found.isNamed)) {
          return { entry, version, workers };
        }
        if (found.isPublished) {
          throw unavailable(
            `Version ${found.version} of the function ${name} has no workers: name the version by an alias in its LambdaFunction.`,
          );
        }
        break;
      case 'Coming':
        throw unavailable(
          `The alias ${qualifier} of the function ${name} is not in effect yet: workers of a version that it names are not ready.`,
        );
      case 'Unknown':
        break;
      default:
        unreachable(found);
    }
    if (!book.isCurrent || (workers.length === 0 && !isViewCurrent())) {
      const what = entry === undefined ? `the function ${name}` : `${qualifier} of the function ${name}`;
      throw unavailable(
        `The gateway does not know ${what}, and cannot hear from the Kubernetes API server whether it exists.`,
      );
    }
    throw new LambdaError('ResourceNotFoundException', `Function not found: ${functionArn(reference)}`);
  }

  /**
   * The error for a call of a function without workers, in Lambda's words for the state of the function; undefined where
   * the function has no LambdaFunction.
   */
  absenceOf(reference: FunctionReference): Absence | undefined {
    const owner = this.#options.book.function(reference.name);
    if (owner === undefined) {
      return undefined;
    }
    const { State, StateReason = 'It has no worker.' } = functionStateOf(owner, []);
    if (State === 'Pending') {
      const message = `The operation cannot be performed at this time. The function is currently in the following state: ${State}`;
      return {
        isLasting: false,
        error: new LambdaError('ResourceConflictException', message, { retryAfterSeconds: 1 }),
      };
    }
    const error = unavailable(`The function ${functionArn(reference)} has no worker (${State}): ${StateReason}`);
    return { isLasting: State === 'Inactive', error };
  }

  /** The refusal after the wait is over. */
  exhausted(target: FunctionEntry, workers: readonly WorkerEntry[], passing: Refusal | undefined): LambdaError {
    if (passing !== undefined) {
      return unavailable(`No worker took the call: ${passing.message} (${passing.reason}).`);
    }
    const { view } = this.#options;
    let hasShare = true;
    const isConnected = (nodeName: string): boolean => view.connected.has(nodeName);
    for (const worker of workers) {
      const obstacle = obstacleOf(worker, isConnected);
      const node = worker.assignment?.nodeName ?? '';
      switch (obstacle) {
        case 'Unassigned': {
          const scheduled = findCondition(worker.resource.status?.conditions, workerConditions.scheduled);
          const { reason, message } = scheduled?.status === 'False' ? scheduled : NOT_ASSIGNED_YET;
          const text = `Worker ${worker.name} has no node: ${message}`;
          return reason === 'NoneFits' || reason === 'PinnedNodeUnfit'
            ? throttled(text, 'ConcurrentInvocationLimitExceeded', 5)
            : unavailable(text);
        }
        case 'AgentUnreachable':
          return unavailable(`The agent of node ${node}, which has worker ${worker.name}, cannot be reached.`);
        case 'NotTakenOver':
          return unavailable(`Node ${node} has not taken over worker ${worker.name} yet.`);
        case 'NoShare':
          hasShare = false;
          break;
        case undefined:
          break;
        default:
          unreachable(obstacle);
      }
    }
    return hasShare ? unavailable('No worker took the call.') : functionBusy(target.name);
  }
}
