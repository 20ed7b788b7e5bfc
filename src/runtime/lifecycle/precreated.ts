import { isDeepStrictEqual } from 'node:util';
import { hasCode } from '../../common/errors.ts';
import { refuseForeign } from '../contract/matches.ts';
import type { EnsureRequest, WorkerInfo, WorkerShape } from '../contract/runtime.ts';

/** Makes workers in two steps. `Made` is what the first one leaves for the second. */
export interface TwoStepCreation<Made> {
  make(request: EnsureRequest, signal: AbortSignal): Promise<Made>;
  launch(request: EnsureRequest, made: Made, signal: AbortSignal): Promise<WorkerInfo>;
}

interface Held<Made> {
  readonly request: EnsureRequest;
  /** Absent while it is being made. */
  readonly made?: Made;
}

/**
 * Containers that were made in advance and not started. They are known here alone: to everybody else such a worker has no
 * container, until it is started or removed. After a crash of the agent they are what a crash leaves, and removed.
 */
export class PrecreatedTasks<Made> {
  readonly #creation: TwoStepCreation<Made>;
  readonly #held = new Map<string, Held<Made>>();

  constructor(creation: TwoStepCreation<Made>) {
    this.#creation = creation;
  }

  /** Whether a container is one of them, or about to be. */
  has(containerId: string): boolean {
    return this.#held.has(containerId);
  }

  async make(request: EnsureRequest, signal: AbortSignal): Promise<void> {
    const { containerId } = request;
    // Hidden before the first part of it is there.
    this.#held.set(containerId, { request });
    try {
      this.#held.set(containerId, { request, made: await this.#creation.make(request, signal) });
    } catch (error) {
      this.#held.delete(containerId);
      throw error;
    }
  }

  /** It is one of them no more: whoever forgets it removes it, or makes it anew. */
  forget(containerId: string): boolean {
    return this.#held.delete(containerId);
  }

  /**
   * Starts the container that was made for this very request.
   *
   * @returns undefined when there is none, or it is not as asked for, or did not outlive the wait: what is left of it is
   * removed and made anew then
   * @throws {EsbError} `CreateFailed` when it was made for another worker, whose it stays
   */
  async start(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo | undefined> {
    const { containerId } = request;
    const held = this.#held.get(containerId);
    refuseForeign(held?.request.identity.uid ?? '', request);
    this.#held.delete(containerId);
    if (held?.made === undefined || !isFor(held.request, request)) {
      return undefined;
    }
    try {
      return await this.#creation.launch(request, held.made, signal);
    } catch (error) {
      if (hasCode(error, 'StartFailed')) {
        return undefined;
      }
      throw error;
    }
  }
}

/** A shape without what reads its pull secrets, which is another one each time. */
function comparable({ image, ...rest }: WorkerShape): object {
  const { pullPolicy, pullSecretNames, reference } = image;
  return { ...rest, pullPolicy, pullSecretNames, reference };
}

/** Secrets may have changed since, which are part of the shape and not of its hash. */
function isFor(prepared: EnsureRequest, wanted: EnsureRequest): boolean {
  return (
    prepared.epoch === wanted.epoch &&
    prepared.shapeHash === wanted.shapeHash &&
    isDeepStrictEqual(comparable(prepared.shape), comparable(wanted.shape))
  );
}
