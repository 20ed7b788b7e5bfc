import type { AnswerTaker, Found, InitAnswer } from './contract.ts';
import { FoundAnswer } from './found-answer.ts';
import type { CallTold } from './messages.ts';
import type { AnswerPart, SentCall } from './sent-call.ts';

export interface FoundCallsListener {
  /** The init may throw the answer away. */
  onLost(id: string): void;
  /** The answer has ended, and was passed on in whole. */
  onRead(id: string, call: SentCall): void;
  /** Somebody has begun to wait for an answer, or waits no more. */
  onAsked(): void;
  /** The init is to tell of the call, under a number. */
  onTell(id: string, number: number): void;
  /** Nothing is known of the call any more. */
  onDropped(id: string): void;
}

/**
 * Calls of an earlier run of the agent, which an init names when it connects. Their answers are the init's, which tells
 * of one when somebody asks for it; the ids are kept for as long as callers can ask.
 */
export class FoundCalls {
  readonly #listener: FoundCallsListener;
  /** Calls that have not ended, and whether the answer is thrown away. */
  readonly #running = new Map<string, boolean>();
  readonly #ended = new Set<string>();
  readonly #asked = new Map<string, FoundAnswer>();
  /** Running calls for whose answer somebody waits. */
  readonly #awaited = new Set<string>();
  /** Calls whose time to be asked for is over, of which the init has yet to hear. */
  #expiring: string[] = [];
  #orders = 0;
  #expired = false;

  constructor(listener: FoundCallsListener) {
    this.#listener = listener;
  }

  /**
   * Calls that have not ended.
   *
   * @param isIdle whether the worker waits for the next call: each has ended, also where the end has yet to be told. One
   * whose answer goes to somebody counts as under way all the same, so that the worker stays
   */
  running(isIdle: boolean): Found {
    const ids = isIdle ? this.#awaited : this.#running;
    return { running: ids.size, requestId: ids.keys().next().value };
  }

  has(id: string): boolean {
    return this.#running.has(id) || this.#ended.has(id);
  }

  /** Calls whose answers are read, by id. */
  get read(): Iterable<readonly [string, { readonly sent: SentCall }]> {
    return this.#asked;
  }

  /**
   * Takes what the init tells of a call. Says whether it has ended with that.
   *
   * @throws {InitBreach}
   */
  told(told: CallTold): boolean {
    const { end, id } = told;
    if (!this.has(id)) {
      this.#running.set(id, false);
    }
    const isLost = this.#running.get(id) === true;
    const hasEnded = end !== undefined && this.#running.delete(id);
    if (hasEnded) {
      this.#awaited.delete(id);
      if (isLost) {
        this.#listener.onDropped(id);
      } else {
        this.#ended.add(id);
      }
    }
    const answer = this.#asked.get(id);
    const outcome = answer?.told(told);
    if (answer !== undefined && outcome === 'Read') {
      this.#asked.delete(id);
      this.#listener.onRead(id, answer.sent);
    } else if (outcome === 'Gone') {
      this.#lose(id);
    }
    return hasEnded;
  }

  /**
   * Takes a part of an answer. Says whether there was anything new in it for somebody.
   *
   * @throws {InitBreach}
   */
  takeData(part: AnswerPart & { readonly id: string }): boolean {
    const outcome = this.#asked.get(part.id)?.takeData(part);
    if (outcome === 'Gone') {
      this.#lose(part.id);
    }
    return outcome === 'New';
  }

  /**
   * Has the init tell the answer of a call, and passes it on from a byte on; undefined where it is not kept. The newest
   * taker has it: an earlier one is told that the outcome is unknown.
   */
  recover(id: string, from: number, taker: AnswerTaker): Promise<InitAnswer> | undefined {
    if (!this.#ended.has(id) && this.#running.get(id) !== false) {
      return undefined;
    }
    const message = 'the answer was asked for once more, and has gone there';
    this.#asked.get(id)?.sent.settle({ kind: 'Unknown', message });
    this.#orders += 1;
    const answer = new FoundAnswer(taker, from, this.#orders);
    this.#asked.set(id, answer);
    if (this.#running.has(id)) {
      this.#awaited.add(id);
    }
    taker.signal?.addEventListener('abort', () => this.#gone(id, answer), { once: true });
    this.#listener.onTell(id, this.#orders);
    this.#listener.onAsked();
    return answer.sent.answer;
  }

  /** Forgets a call that has ended: another with its id begins. Says whether the id is free. */
  drop(id: string): boolean {
    if (this.#ended.has(id)) {
      this.#lose(id);
    }
    return !this.has(id);
  }

  /** The init was told to forget these. */
  forgotten(ids: readonly string[]): void {
    for (const id of ids) {
      if (this.#ended.delete(id)) {
        this.#unask(id, 'the answer is not kept any more');
        this.#listener.onDropped(id);
      }
    }
  }

  /** The time is over in which callers ask. {@link giveUp} tells the init. */
  expire(): void {
    this.#expired = true;
    this.#expiring = [...this.#ended, ...this.#running.keys()].filter((id) => !this.#isAwaited(id));
  }

  /** Gives up answers that no caller waits for, while there is room for the words of that. */
  giveUp(hasRoom: () => boolean): void {
    while (this.#expiring.length > 0 && hasRoom()) {
      const id = this.#expiring.pop() ?? '';
      if (!this.#isAwaited(id)) {
        this.#lose(id);
      }
    }
  }

  /** The connection to the init has ended. */
  close(message: string): void {
    for (const { sent } of this.#asked.values()) {
      sent.settle({ kind: 'Unknown', message });
    }
    this.#asked.clear();
  }

  /** The one who asked waits no more. */
  #gone(id: string, answer: FoundAnswer): void {
    if (this.#asked.get(id) === answer) {
      this.#awaited.delete(id);
      if (this.#expired) {
        this.#lose(id);
      }
      this.#listener.onAsked();
    }
  }

  #isAwaited(id: string): boolean {
    return this.#asked.get(id)?.isAwaited === true;
  }

  #lose(id: string): void {
    this.#unask(id, 'the beginning of the answer was lost with the agent');
    const isRunning = this.#running.get(id) === false;
    if (isRunning) {
      // The call counts as under way until its end.
      this.#running.set(id, true);
    }
    const hasEnded = this.#ended.delete(id);
    if (isRunning || hasEnded) {
      this.#listener.onLost(id);
    }
    if (hasEnded) {
      this.#listener.onDropped(id);
    }
  }

  #unask(id: string, message: string): void {
    this.#asked.get(id)?.sent.settle({ kind: 'Unknown', message });
    this.#asked.delete(id);
    this.#awaited.delete(id);
  }
}
