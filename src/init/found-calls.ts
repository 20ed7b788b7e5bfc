import type { AnswerTaker, FoundCall, InitAnswer } from './contract.ts';
import { FoundAnswer } from './found-answer.ts';
import type { CallTold } from './messages.ts';
import type { AnswerPart, SentCall } from './sent-call.ts';

/** Bytes of answers that wait to be asked for, of one init. */
const MAX_WAITING_BYTES = 256 * 1024;

export interface FoundCallsListener {
  /** The init may throw the answer away. */
  onLost(id: string): void;
  /** The answer has ended, and was passed on in whole. */
  onRead(id: string, call: SentCall): void;
  /** Somebody has begun to wait for an answer, or waits no more. */
  onAsked(): void;
  /** The init is to tell of the call once more, under a number. */
  onTellAgain(id: string, number: number): void;
}

/** Calls of an earlier run of the agent, which an init names when it connects. Their answers wait to be asked for. */
export class FoundCalls {
  readonly #listener: FoundCallsListener;
  readonly #calls = new Map<string, FoundAnswer>();
  #orders = 0;
  #expired = false;
  /** Whether the init tells of a call once more when it is asked. Of others, each answer is passed on once. */
  tellsAgain = false;

  constructor(listener: FoundCallsListener) {
    this.#listener = listener;
  }

  /**
   * @param isIdle whether the worker waits for the next call: each has ended, also where the end has yet to be told. One
   * whose answer goes to somebody counts as under way all the same, so that the worker stays
   */
  list(isIdle: boolean): readonly FoundCall[] {
    return [...this.#calls].map(([requestId, { ended, isAwaited }]) => ({
      requestId,
      ended: ended || (isIdle && !isAwaited),
    }));
  }

  has(id: string): boolean {
    return this.#calls.has(id);
  }

  /** Calls whose answers are read, by id. */
  get read(): readonly (readonly [string, SentCall])[] {
    if (this.#calls.size === 0) {
      // Asked for after each read of the connection.
      return [];
    }
    return [...this.#calls].flatMap(([id, { sent }]) => (sent === undefined ? [] : [[id, sent] as const]));
  }

  /**
   * Takes what the init tells of a call. Says whether it has ended with that.
   *
   * @throws {InitBreach}
   */
  told({ again, end, head, id }: CallTold): boolean {
    const call = this.#calls.get(id) ?? new FoundAnswer();
    this.#calls.set(id, call);
    const hasEnded = end !== undefined && !call.ended;
    call.ended ||= hasEnded;
    if (!call.hears(again)) {
      return hasEnded;
    }
    if (head !== undefined) {
      call.sent?.takeHead(head);
    }
    if (end !== undefined) {
      if (!call.begin(end.size)) {
        this.#lose(id, call);
      }
      call.sent?.checkEnd(end);
      call.sent?.settle({ kind: 'Ended', end });
      call.isWhole = true;
      this.#noteRead(id, call);
    }
    return hasEnded;
  }

  /**
   * Takes a part of an answer. Says whether there was anything new in it.
   *
   * @throws {InitBreach}
   */
  takeData(part: AnswerPart & { readonly id: string }): boolean {
    const { id, offset } = part;
    const call = this.#calls.get(id);
    if (call?.sent === undefined || !call.hears(undefined)) {
      return false;
    }
    if (!call.begin(offset)) {
      this.#lose(id, call);
      return false;
    }
    const isNew = call.sent.takeData(part);
    if (isNew && this.#waitingBytes > MAX_WAITING_BYTES) {
      if (this.tellsAgain) {
        call.drop();
      } else {
        this.#lose(id, call);
      }
    }
    return isNew;
  }

  /**
   * Passes the answer of a call on from a byte on; undefined where it is not there from that one on. The newest taker
   * has it: an earlier one is told that the outcome is unknown.
   */
  recover(id: string, from: number, taker: AnswerTaker): Promise<InitAnswer> | undefined {
    const call = this.#calls.get(id);
    if (call === undefined) {
      return undefined;
    }
    if (call.needsTelling && this.tellsAgain) {
      this.#orders += 1;
      call.awaitTelling(this.#orders);
      this.#listener.onTellAgain(id, this.#orders);
    }
    if (!call.take(from, taker)) {
      return undefined;
    }
    const onGone = (): void => {
      if (this.#expired) {
        this.#giveUp(id, call);
      }
      this.#listener.onAsked();
    };
    taker.signal?.addEventListener('abort', onGone, { once: true });
    this.#noteRead(id, call);
    this.#listener.onAsked();
    return call.sent?.answer;
  }

  /** Forgets a call that has ended: another with its id begins. Says whether the id is free. */
  drop(id: string): boolean {
    const call = this.#calls.get(id);
    if (call?.ended === true) {
      this.#lose(id, call);
      this.#calls.delete(id);
    }
    return !this.#calls.has(id);
  }

  /** The init was told to forget these. */
  forgotten(ids: readonly string[]): void {
    for (const id of ids) {
      this.#calls.get(id)?.lose('the answer is not kept any more');
    }
  }

  /** Gives up the answers that no caller waits for. */
  expire(): void {
    this.#expired = true;
    for (const [id, call] of this.#calls) {
      this.#giveUp(id, call);
    }
  }

  /** The connection to the init has ended. */
  close(message: string): void {
    for (const { sent } of this.#calls.values()) {
      sent?.settle({ kind: 'Unknown', message });
    }
  }

  get #waitingBytes(): number {
    return [...this.#calls.values()].reduce((sum, { waitingBytes }) => sum + waitingBytes, 0);
  }

  #noteRead(id: string, { isWhole, sent, taken }: FoundAnswer): void {
    if (isWhole && taken && sent !== undefined) {
      this.#listener.onRead(id, sent);
    }
  }

  #giveUp(id: string, call: FoundAnswer): void {
    if (!call.isAwaited) {
      this.#lose(id, call);
    }
  }

  #lose(id: string, call: FoundAnswer): void {
    if (call.lose('the beginning of the answer was lost with the agent')) {
      this.#listener.onLost(id);
    }
  }
}
