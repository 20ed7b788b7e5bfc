import type { Socket } from 'node:net';
import { callbackify } from 'node:util';
import { buildConnector, Client, type Dispatcher } from 'undici';
import type { Clock, Timer } from '../../common/clock.ts';
import { MAX_RESPONSE_BYTES } from '../../common/emulator-answer.ts';
import { EsbError, isShortage, messageOf } from '../../common/errors.ts';
import type { Arrival } from '../../init/contract.ts';
import type { WorkerAddress } from '../../runtime/contract/runtime.ts';
import { isShared, listensOn } from '../../runtime/start/port-owner.ts';
import type { AnswerHead, FunctionEnd } from '../model/invocation.ts';

/** Path of calls at the emulator, for every function name. */
const invokePath = '/2015-03-31/functions/function/invocations';
const traceIdForm = /^[\x21-\x7e]{1,2048}$/;
/** Milliseconds until a connection to a worker on this very node counts as impossible. */
const connectMs = 2_000;
/** Milliseconds that an unused connection is kept: longer than any freeze that matters. */
const keepAliveMs = 24 * 3_600_000;
/** Milliseconds that the last bytes of an answer may take once the time of the call is over. */
const maxBodyMs = 5_000;
/** Bytes of an answer that are read before everything else of this thread has its turn. */
const turnBytes = 256 * 1024;
/** Least size that a piece of an answer counts: a worker may send single bytes, and each costs a call. */
const pieceBytes = 256;

export interface WorkerRequest {
  readonly functionName: string;
  /** Number of the version of the function; absent for $LATEST. */
  readonly version?: number | undefined;
  readonly payload: Buffer;
  readonly requestId: string;
  /** Base64; empty for none. */
  readonly clientContext: string;
  /** With a qualifier; empty or absent for the ARN without one. The emulator has one of its own. */
  readonly invokedFunctionArn?: string | undefined;
  /** Trace header as the caller sent it; empty or absent for none. */
  readonly traceId?: string | undefined;
  /** Seconds that the function has. */
  readonly timeoutSeconds: number;
  /** Milliseconds from the first byte sent until the worker counts as silent. */
  readonly timeoutMs: number;
  /** Called in the same synchronous step as the first byte is sent, just before it. */
  readonly onSending: () => void;
  readonly onHead: (head: AnswerHead) => void;
  /** Pieces of at most {@link MAX_RESPONSE_BYTES} + 1 bytes together: what is more is not read. */
  readonly onChunk: (chunk: Buffer) => void;
  /** Asked after a chunk: settles once more may be read. Does not reject. Undefined, or absent, for at once. */
  readonly room?: (() => Promise<unknown> | undefined) | undefined;
  /** Of a worker with an init: {@link Invocation.arrival}. */
  readonly arrival?: (() => Arrival) | undefined;
}

/** Whether a header can carry the text. Enough for every sender of traces. */
export function isTraceId(text: string): boolean {
  return traceIdForm.test(text);
}

/** How far a request came. */
export type WorkerAnswer =
  /**
   * Not a byte reached the worker. `own` where that is the agent's or the node's fault, and says nothing of the worker.
   */
  | { readonly kind: 'NotSent'; readonly message: string; readonly own?: boolean }
  /** Sent, and the connection ended before the whole answer was there. */
  | { readonly kind: 'Unknown'; readonly message: string }
  | { readonly kind: 'Answered'; readonly status: number; readonly end?: FunctionEnd }
  /** The answer was larger than a function may give: the rest was not read, and the connection is over. */
  | { readonly kind: 'CutOff'; readonly status: number }
  | { readonly kind: 'TimedOut' };

/** The way to one worker: one request at a time. */
export interface WorkerLink {
  /** Never rejects. */
  call(request: WorkerRequest): Promise<WorkerAnswer>;
  /** Ends the requests under way: the outcome of each is `Unknown`, or `NotSent`. */
  abort(message: string): void;
  /** Closes the connection, and ends the requests under way. */
  close(): void;
  /** Ends the wait for the requests under way, whose answers are kept for the next run of the agent; absent for none. */
  leave?(): void;
}

/** A kept-alive HTTP connection. A frozen worker keeps its own. */
export class WorkerConnection implements WorkerLink {
  readonly #clock: Clock;
  readonly #client: Client;
  #abort: ((message: string) => void) | undefined;

  /**
   * @param pid first process of the worker, to which a port of the node has to belong; 0 where the process is not
   * known, and every listener is taken for the worker
   */
  constructor(address: WorkerAddress, clock: Clock, pid = 0) {
    this.#clock = clock;
    const host = address.ip.includes(':') ? `[${address.ip}]` : address.ip;
    this.#client = new Client(`http://${host}:${address.port}`, {
      pipelining: 1,
      connect: isShared(address) && pid > 0 ? ownConnector(pid, address.port) : { timeout: connectMs },
      // The time of a call is ours to measure.
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: keepAliveMs,
      keepAliveMaxTimeout: keepAliveMs,
      allowH2: false,
    });
  }

  call(request: WorkerRequest): Promise<WorkerAnswer> {
    return new Promise((resolve) => {
      const exchange = new Exchange(request, this.#clock, (answer) => {
        this.#abort = undefined;
        resolve(answer);
      });
      this.#abort = (message) => exchange.end(message);
      const headers = ['content-type', 'application/json', 'x-amzn-requestid', request.requestId];
      if (request.clientContext !== '') {
        headers.push('x-amz-client-context', request.clientContext);
      }
      // No call is to fail for the sake of its trace.
      if (request.traceId !== undefined && isTraceId(request.traceId)) {
        headers.push('x-amzn-trace-id', request.traceId);
      }
      try {
        this.#client.dispatch({ path: invokePath, method: 'POST', headers, body: request.payload }, exchange);
      } catch (error) {
        exchange.onResponseError(undefined, error);
      }
    });
  }

  abort(message: string): void {
    this.#abort?.(message);
  }

  close(): void {
    this.abort('the connection was closed');
    this.#client.destroy().catch(() => undefined);
  }
}

/**
 * Connects to a worker in the network of the node. The port of one that has died may be somebody else's before its
 * agent hears of that: a connection counts once the worker's process is seen to listen there after it was made.
 */
function ownConnector(pid: number, port: number): buildConnector.connector {
  const connect = buildConnector({ timeout: connectMs });
  const connectOwn = async (options: buildConnector.Options): Promise<Socket> => {
    const socket = await new Promise<Socket>((resolve, reject) => {
      connect(options, (...[error, made]) => (error === null ? resolve(made) : reject(error)));
    });
    const own = await listensOn(pid, port).catch((error: unknown) => {
      socket.destroy();
      throw error;
    });
    if (!own || socket.destroyed) {
      socket.destroy();
      throw new EsbError(`port ${port} of the node is not the worker's`, { code: 'NotListening' });
    }
    return socket;
  };
  const begin = callbackify(connectOwn);
  return (options, callback) => {
    begin(options, (error, socket) => (error === null ? callback(null, socket) : callback(error, null)));
  };
}

class Exchange implements Dispatcher.DispatchHandler {
  readonly #request: WorkerRequest;
  readonly #clock: Clock;
  readonly #settle: (answer: WorkerAnswer) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #timer: Timer | undefined;
  #status = 0;
  #bytes = 0;
  /** Counts against {@link turnBytes}. */
  #taken = 0;
  /** Whether the other end of the answer has no room for more of it. */
  #roomless = false;
  #turn: NodeJS.Immediate | undefined;
  #sent = false;
  #settled = false;
  #late = false;

  constructor(request: WorkerRequest, clock: Clock, settle: (answer: WorkerAnswer) => void) {
    this.#request = request;
    this.#clock = clock;
    this.#settle = settle;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#settled) {
      controller.abort(new Error('given up before it was sent'));
      return;
    }
    this.#request.onSending();
    this.#sent = true;
    this.#timer = this.#clock.setTimer(() => this.#timeOut(), this.#request.timeoutMs);
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    this.#status = status;
    const contentType = headers['content-type'];
    this.#request.onHead({ status, contentType: typeof contentType === 'string' ? contentType : '' });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#settled) {
      return;
    }
    const left = MAX_RESPONSE_BYTES + 1 - this.#bytes;
    this.#bytes += chunk.length;
    // One byte beyond the limit goes on, so that the counter of the caller sees it.
    this.#request.onChunk(chunk.length > left ? chunk.subarray(0, left) : chunk);
    if (this.#bytes > MAX_RESPONSE_BYTES) {
      this.#finish({ kind: 'CutOff', status: this.#status });
      controller.abort(new Error('the answer is larger than a function may give'));
      return;
    }
    const room = this.#roomless ? undefined : this.#request.room?.();
    if (room !== undefined) {
      this.#roomless = true;
      controller.pause();
      void room.then(() => {
        this.#roomless = false;
        controller.resume();
      });
    }
    this.#taken += Math.max(pieceBytes, chunk.length);
    if (this.#taken >= turnBytes) {
      controller.pause();
    }
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined;
      this.#taken = 0;
      if (!this.#roomless) {
        controller.resume();
      }
    });
  }

  onResponseEnd(): void {
    this.#finish({ kind: 'Answered', status: this.#status });
  }

  onResponseError(_controller: unknown, error: unknown): void {
    const message = messageOf(error);
    this.#finish(
      this.#sent
        ? { kind: 'Unknown', message }
        : { kind: 'NotSent', message, ...(isShortage(error) ? { own: true } : {}) },
    );
  }

  end(message: string): void {
    this.#finish({ kind: this.#sent ? 'Unknown' : 'NotSent', message });
    this.#controller?.abort(new Error(message));
  }

  #timeOut(): void {
    if (this.#status !== 0 && !this.#late) {
      // The function has answered in time; what is left is a few bytes on a wire within this machine.
      this.#late = true;
      this.#timer = this.#clock.setTimer(() => this.#timeOut(), maxBodyMs);
      return;
    }
    this.#finish({ kind: 'TimedOut' });
    this.#controller?.abort(new Error('the worker was silent for too long'));
  }

  #finish(answer: WorkerAnswer): void {
    if (!this.#settled) {
      this.#settled = true;
      this.#timer?.cancel();
      clearImmediate(this.#turn);
      this.#settle(answer);
    }
  }
}
