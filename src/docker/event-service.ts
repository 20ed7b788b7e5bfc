import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { DockerChannel } from './docker-channel.ts';
import { dockerError } from './docker-error.ts';

/** An event of a container. */
export interface DockerEvent {
  /** Such as `create`, `die`, `oom`, `pause`, `unpause` or `destroy`. */
  readonly action: string;
  readonly containerName: string;
}

interface EventMessage {
  readonly Action?: string;
  readonly Actor?: { readonly Attributes?: Readonly<Record<string, string>> };
}

const OVERLAP_MS = 1_000;
const OPEN_DEADLINE_MS = 30_000;

export type EventService = ReturnType<typeof createEventService>;

/**
 * Events of containers. Errors are those of `dockerError`.
 *
 * @param now milliseconds since the epoch, by the engine's clock
 */
export function createEventService({ docker, call }: DockerChannel, now: () => number) {
  return {
    /**
     * Events of containers with a label, until the engine or `signal` ends the subscription. Events of the last second
     * come first, so that none is lost while the subscription begins.
     *
     * @param onBegun called once the engine has accepted the subscription
     */
    async *follow(label: string, signal: AbortSignal, onBegun: () => void): AsyncIterable<DockerEvent> {
      const what = 'docker events';
      try {
        // The signal outlives the call, since it ends the stream as well.
        const stream = await call(what, { signal, deadlineMs: OPEN_DEADLINE_MS }, () =>
          docker.getEvents({
            since: Math.floor((now() - OVERLAP_MS) / 1000),
            filters: { type: ['container'], label: [label] },
            abortSignal: signal,
          }),
        );
        onBegun();
        for await (const line of createInterface({ input: stream as Readable })) {
          const { Action: action = '', Actor: actor } = JSON.parse(line) as EventMessage;
          yield { action, containerName: actor?.Attributes?.name ?? '' };
        }
        signal.throwIfAborted();
      } catch (error) {
        throw dockerError(what, error, signal);
      }
    },
  };
}
