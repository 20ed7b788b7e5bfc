import { Client, type ClientDuplexStream, credentials, Metadata } from '@grpc/grpc-js';
import { AbortedError, type CallOptions } from '../common/deadline.ts';
import { containerdError } from './containerd-error.ts';
import { ContainerdProto } from './containerd-proto.ts';

export interface ContainerdChannelOptions {
  readonly socketPath: string;
  /** Sent with every call. */
  readonly namespace: string;
}

/** Options of a call that may make unreferenced content. */
export interface LeasedCallOptions extends CallOptions {
  /** Lease for everything that the call makes. */
  readonly lease?: string | undefined;
}

/** Milliseconds by which containerd's timer of a deadline may fire before ours. */
const SERVER_AHEAD_MS = 250;
/** Limit of containerd's own client. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
const DEFAULT_DEADLINE_MS = 10_000;

/**
 * One connection to containerd. Calls fail at once while there is none; the next attempt follows within half a second,
 * since the socket is on this machine. No keep-alive pings: containerd's server punishes more than one in five minutes.
 * The deadlines of the calls reveal a connection that hangs.
 */
export class ContainerdChannel {
  readonly proto = new ContainerdProto();
  readonly #client: Client;
  readonly #namespace: string;

  constructor(options: ContainerdChannelOptions) {
    this.#namespace = options.namespace;
    this.#client = new Client(`unix://${options.socketPath}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 500,
      // Channels of one process must not share a connection: one of them may close it.
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  /**
   * Makes a call with one answer.
   *
   * @param options deadline of 10,000 ms unless another is given; `Infinity` for none
   */
  unary<Response>(
    service: string,
    name: string,
    request: Readonly<Record<string, unknown>>,
    options: LeasedCallOptions = {},
  ): Promise<Response> {
    const { signal } = options;
    const what = describe(service, name);
    if (signal?.aborted === true) {
      return Promise.reject(new AbortedError(what, signal.reason));
    }
    const deadline = deadlineAfter(options.deadlineMs ?? DEFAULT_DEADLINE_MS);
    const done = Promise.withResolvers<Response>();
    const call = this.#client.makeUnaryRequest(
      ...this.#method(service, name),
      request,
      this.#metadata(options.lease),
      { deadline },
      (error, response) => {
        signal?.removeEventListener('abort', cancel);
        if (error === null) {
          done.resolve(response as Response);
        } else {
          done.reject(containerdError(what, error, signal, Date.now() >= deadline - SERVER_AHEAD_MS));
        }
      },
    );
    const cancel = (): void => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    return done.promise;
  }

  /** Makes a call whose answer is a stream. Signal, deadline, or leaving the loop ends the call. */
  async *serverStream<Response>(
    service: string,
    name: string,
    request: Readonly<Record<string, unknown>>,
    options: CallOptions = {},
  ): AsyncGenerator<Response, void, undefined> {
    const { signal } = options;
    const what = describe(service, name);
    if (signal?.aborted === true) {
      throw new AbortedError(what, signal.reason);
    }
    const deadline = deadlineAfter(options.deadlineMs ?? DEFAULT_DEADLINE_MS);
    const method = this.#method(service, name);
    const call = this.#client.makeServerStreamRequest(...method, request, this.#metadata(), { deadline });
    // Leaving the loop early destroys the stream, whose cancellation then has no listener.
    call.on('error', () => undefined);
    const cancel = (): void => call.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      for await (const message of call) {
        yield message as Response;
      }
    } catch (error) {
      throw containerdError(what, error, signal);
    } finally {
      signal?.removeEventListener('abort', cancel);
      call.cancel();
    }
  }

  /** Opens a stream both ways, without a deadline; the caller ends it. */
  duplex(service: string, name: string): ClientDuplexStream<unknown, unknown> {
    return this.#client.makeBidiStreamRequest(...this.#method(service, name), this.#metadata());
  }

  close(): void {
    this.#client.close();
  }

  #method(service: string, name: string) {
    const { path, requestSerialize, responseDeserialize } = this.proto.method(service, name);
    return [path, requestSerialize, responseDeserialize] as const;
  }

  #metadata(lease?: string): Metadata {
    const metadata = new Metadata();
    metadata.set('containerd-namespace', this.#namespace);
    if (lease !== undefined) {
      metadata.set('containerd-lease', lease);
    }
    return metadata;
  }
}

function describe(service: string, name: string): string {
  return `containerd ${service.slice(service.lastIndexOf('.') + 1)}.${name}`;
}

function deadlineAfter(deadlineMs: number): number {
  return deadlineMs === Number.POSITIVE_INFINITY ? deadlineMs : Date.now() + deadlineMs;
}
