import { AbortedError } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';
import { containerdError } from './containerd-error.ts';
import type { AnyValue } from './containerd-proto.ts';

const SERVICE = 'containerd.services.streaming.v1.Streaming';

/** A stream that other calls name by its id. */
export interface OpenStream {
  readonly id: string;
  send(message: AnyValue): void;
  close(): void;
}

export interface StreamingService {
  /**
   * Opens a stream under a name of our choice and waits until containerd knows it. `onMessage` gets the messages. The
   * end of the stream is not reported: the call that uses the stream fails then.
   */
  open(id: string, onMessage: (message: AnyValue) => void, signal?: AbortSignal): Promise<OpenStream>;
}

export function createStreamingService(channel: ContainerdChannel): StreamingService {
  return {
    async open(id, onMessage, signal) {
      if (signal?.aborted === true) {
        throw new AbortedError('containerd Streaming.Stream', signal.reason);
      }
      const stream = channel.duplex(SERVICE, 'Stream');
      const registered = Promise.withResolvers<void>();
      const abort = (): void => stream.cancel();
      let known = false;
      stream.on('data', (message: AnyValue) => {
        // The first message only confirms the registration.
        if (known) {
          onMessage(message);
        }
        known = true;
        registered.resolve();
      });
      stream.on('error', (error) => {
        registered.reject(containerdError('containerd Streaming.Stream', error, signal));
      });
      stream.on('end', () => {
        registered.reject(containerdError('containerd Streaming.Stream', new Error('ended at once'), signal));
      });
      signal?.addEventListener('abort', abort, { once: true });
      try {
        stream.write(channel.proto.pack('containerd.services.streaming.v1.StreamInit', { id }));
        await registered.promise;
      } catch (error) {
        stream.cancel();
        throw error;
      } finally {
        signal?.removeEventListener('abort', abort);
      }
      return {
        id,
        send: (message) => {
          stream.write(message);
        },
        close: () => stream.cancel(),
      };
    },
  };
}
