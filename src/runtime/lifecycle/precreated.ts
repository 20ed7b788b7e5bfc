import { isDeepStrictEqual } from 'node:util';
import { hasCode, undefinedIf } from '../../common/errors.ts';
import { refuseForeign } from '../contract/matches.ts';
import type { EnsureRequest, WorkerInfo, WorkerShape } from '../contract/runtime.ts';

/** Creation of workers in two steps. `Made` is the first step's result. */
export interface TwoStepCreation<Made> {
  make(request: EnsureRequest, signal: AbortSignal): Promise<Made>;
  launch(request: EnsureRequest, made: Made, signal: AbortSignal): Promise<WorkerInfo>;
}

interface Held<Made> {
  readonly request: EnsureRequest;
  /** Absent during the first step. */
  readonly made?: Made;
}

/**
 * Containers that were made in advance and not started. Until the start or removal of such a container, its worker has
 * none for all callers. After a crash of the agent these containers are leftovers, and removed.
 */
export class PrecreatedTasks<Made> {
  readonly #creation: TwoStepCreation<Made>;
  readonly #held = new Map<string, Held<Made>>();

  constructor(creation: TwoStepCreation<Made>) {
    this.#creation = creation;
  }

  /** Whether a container is made in advance, or about to be. */
  has(containerId: string): boolean {
    return this.#held.has(containerId);
  }

  async make(request: EnsureRequest, signal: AbortSignal): Promise<void> {
    const { containerId } = request;
    // Hidden before its first part exists.
    this.#held.set(containerId, { request });
    try {
      this.#held.set(containerId, { request, made: await this.#creation.make(request, signal) });
    } catch (error) {
      this.#held.delete(containerId);
      throw error;
    }
  }

  /** Drops a container, which the caller removes or replaces. Returns whether there was one. */
  forget(containerId: string): boolean {
    return this.#held.delete(containerId);
  }

  /**
   * Starts the container that was made for this very request.
   *
   * @returns undefined when there is none, one for another request, or one whose process ended meanwhile: the caller
   *   replaces it then
   * @throws {EsbError} `CreateFailed` for the container of another worker, which stays
   */
  async start(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo | undefined> {
    const { containerId } = request;
    const held = this.#held.get(containerId);
    refuseForeign(held?.request.identity.uid ?? '', request);
    this.#held.delete(containerId);
    if (held?.made === undefined || !isFor(held.request, request)) {
      return undefined;
    }
    const launched = this.#creation.launch(request, held.made, signal);
    return await undefinedIf(launched, (error) => hasCode(error, 'StartFailed'));
  }
}

/** A shape without the function that reads its pull secrets, which differs each time. */
function comparable({ image, ...rest }: WorkerShape): object {
  const { pullPolicy, pullSecretNames, reference } = image;
  return { ...rest, pullPolicy, pullSecretNames, reference };
}

/** Whether a container serves a request. Secrets are part of the shape and not of its hash, and may have changed. */
function isFor(prepared: EnsureRequest, wanted: EnsureRequest): boolean {
  return (
    prepared.epoch === wanted.epoch &&
    prepared.shapeHash === wanted.shapeHash &&
    isDeepStrictEqual(comparable(prepared.shape), comparable(wanted.shape))
  );
}
