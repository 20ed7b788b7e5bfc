import type { Clock } from '../../common/clock.ts';
import type { AnswerHead, Invocation, InvocationResult, Recovery } from '../model/invocation.ts';

/** Milliseconds that an answer is kept after the end of its call: a process that was killed comes back before. */
const KEEP_MS = 10 * 60_000;
/** Bytes of an answer that are kept: more goes into no record of an event. */
const MAX_ANSWER_BYTES = 2 ** 20;
/** Bounds of all calls of a node that are kept. */
const MAX_BYTES = 16 * 2 ** 20;
const MAX_CALLS = 8_192;

/** The part of a call that a later caller names to get its answer. */
type CallKey = Pick<Invocation, 'uid' | 'requestId'>;

/** Receives an answer as it comes. */
type Taker = Pick<Invocation, 'onHead' | 'onChunk'>;

interface KeptCall {
  readonly key: string;
  readonly namespace: string;
  readonly result: Promise<InvocationResult>;
  isRefused: boolean;
  head: AnswerHead | undefined;
  /** Undefined once there is no room for the answer. */
  chunks: Buffer[] | undefined;
  bytes: number;
  /** Monotonic milliseconds of the end; undefined while the call is under way. */
  endedAt: number | undefined;
  /** The newest of those who have asked before the end. */
  asker: { readonly taker: Taker; readonly answer: PromiseWithResolvers<InvocationResult> } | undefined;
}

/** Calls of one namespace that have ended, in the order of their ends. */
interface EndedCalls {
  readonly calls: Set<KeptCall>;
  bytes: number;
}

/**
 * Calls whose answers are kept for another process than the one that sent them: the role of events, which may be killed
 * before the answer has come, or before its end is written down. Where there is no room, the oldest answer goes of the
 * namespace that has most.
 */
export class KeptCalls {
  readonly #clock: Clock;
  readonly #calls = new Map<string, KeptCall>();
  readonly #ended = new Map<string, EndedCalls>();
  /** Calls that have ended, and bytes of all answers. */
  #count = 0;
  #bytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Bytes of the answers that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Runs a call and keeps its answer, in place of that of an earlier call with its request id.
   *
   * @param namespace of its worker
   * @param run begins the call
   */
  run(
    namespace: string,
    key: CallKey,
    taker: Taker,
    run: (taker: Taker) => Promise<InvocationResult>,
  ): Promise<InvocationResult> {
    const ended = Promise.withResolvers<InvocationResult>();
    ended.promise.catch(() => undefined);
    const kept: KeptCall = {
      key: textOf(key),
      namespace,
      result: ended.promise,
      isRefused: false,
      head: undefined,
      chunks: [],
      bytes: 0,
      endedAt: undefined,
      asker: undefined,
    };
    this.#forget(this.#calls.get(kept.key));
    this.#calls.set(kept.key, kept);
    run({
      onHead: (head) => {
        kept.head = head;
        taker.onHead(head);
        kept.asker?.taker.onHead(head);
      },
      onChunk: (chunk) => {
        this.#keep(kept, chunk);
        taker.onChunk(chunk);
        kept.asker?.taker.onChunk(chunk);
      },
    })
      .then((result) => {
        kept.isRefused = result.kind === 'Refused';
        ended.resolve(result);
      }, ended.reject)
      .finally(() => {
        kept.asker?.answer.resolve(kept.result);
        kept.asker = undefined;
        this.#end(kept);
      });
    return kept.result;
  }

  /**
   * The answer of a call that is kept, from its beginning. Undefined where there is none, or too large a one. An
   * earlier asker is told that the outcome is unknown: one that has lost its connection is not kept beside each next.
   *
   * @param namespaces that the asker serves
   */
  recover(
    { from, onChunk, onHead, requestId, uid }: Pick<Recovery, 'uid' | 'requestId' | 'from' | 'onHead' | 'onChunk'>,
    namespaces: ReadonlySet<string>,
  ): Promise<InvocationResult> | undefined {
    const kept = this.#calls.get(textOf({ uid, requestId }));
    if (kept?.chunks === undefined || !namespaces.has(kept.namespace)) {
      return undefined;
    }
    let left = from;
    const taker: Taker = {
      onHead,
      onChunk: (chunk) => {
        const part = chunk.subarray(left);
        left = Math.max(0, left - chunk.length);
        if (part.length > 0) {
          onChunk(part);
        }
      },
    };
    if (kept.head !== undefined) {
      onHead(kept.head);
    }
    for (const chunk of kept.chunks) {
      taker.onChunk(chunk);
    }
    if (kept.endedAt !== undefined) {
      return kept.result;
    }
    const message = 'the answer was asked for once more, and has gone there';
    kept.asker?.answer.resolve({ kind: 'Unknown', reason: 'ConnectionLost', message, stamp: '' });
    const answer = Promise.withResolvers<InvocationResult>();
    kept.asker = { taker, answer };
    return answer.promise;
  }

  #keep(kept: KeptCall, chunk: Buffer): void {
    if (kept.chunks === undefined) {
      return;
    }
    kept.bytes += chunk.length;
    this.#bytes += chunk.length;
    // A chunk may be a view of a larger buffer.
    kept.chunks.push(Buffer.from(chunk));
    this.#makeRoom();
    if (kept.bytes > MAX_ANSWER_BYTES || this.#bytes > MAX_BYTES) {
      this.#drop(kept);
    }
  }

  #end(kept: KeptCall): void {
    if (this.#calls.get(kept.key) !== kept) {
      this.#drop(kept);
      return;
    }
    if (kept.isRefused) {
      // A refused call has no answer, and takes the place of none.
      this.#forget(kept);
      return;
    }
    kept.endedAt = this.#clock.monotonic();
    const { namespace } = kept;
    const ended = this.#ended.get(namespace) ?? { calls: new Set(), bytes: 0 };
    this.#ended.set(namespace, ended);
    ended.calls.add(kept);
    ended.bytes += kept.bytes;
    this.#count += 1;
    this.#makeRoom();
  }

  #makeRoom(): void {
    const since = this.#clock.monotonic() - KEEP_MS;
    for (const { calls } of this.#ended.values()) {
      for (const kept of calls) {
        if ((kept.endedAt ?? 0) > since) {
          break;
        }
        this.#forget(kept);
      }
    }
    while (this.#count > 0 && (this.#bytes > MAX_BYTES || this.#count > MAX_CALLS)) {
      const most = this.#bytes > MAX_BYTES ? 'bytes' : 'count';
      const [oldest] = greediestOf(this.#ended.values(), most)?.calls ?? [];
      this.#forget(oldest);
    }
  }

  #drop(kept: KeptCall): void {
    this.#bytes -= kept.bytes;
    kept.bytes = 0;
    kept.chunks = undefined;
  }

  #forget(kept: KeptCall | undefined): void {
    if (kept === undefined) {
      return;
    }
    const ended = this.#ended.get(kept.namespace);
    if (ended?.calls.delete(kept) === true) {
      this.#count -= 1;
      ended.bytes -= kept.bytes;
      if (ended.calls.size === 0) {
        this.#ended.delete(kept.namespace);
      }
    }
    this.#drop(kept);
    this.#calls.delete(kept.key);
  }
}

function greediestOf(all: Iterable<EndedCalls>, most: 'bytes' | 'count'): EndedCalls | undefined {
  const held = ({ bytes, calls }: EndedCalls): number => (most === 'bytes' ? bytes : calls.size);
  return [...all].reduce<EndedCalls | undefined>(
    (greediest, each) => (greediest === undefined || held(each) > held(greediest) ? each : greediest),
    undefined,
  );
}

function textOf({ requestId, uid }: CallKey): string {
  return `${uid}/${requestId}`;
}
