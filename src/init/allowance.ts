import type { Clock } from '../common/clock.ts';
import { InitBreach } from './frames.ts';

/** Work that an init may cause at once, and in a second from then on. A piece of it is a small part of an answer. */
const BURST = 4_000;
const PER_SECOND = 2_000;
/** Work that the words of all inits of a node may cause in a second: a tenth of a processor, by what words cost. */
const NODE_PER_SECOND = 25_000;
/** Milliseconds between two looks at who talks. */
const STEP_MS = 20;
/** Work that the containers of a namespace may cause at once, together: an eighth of a second of a processor. */
const NAMESPACE_BURST = 30_000;
/** Work from which on, or from a whole burst on, an init is below its share. */
const QUIET = BURST / 4;
/** Seconds above its share that an init is forgiven for each second below its share. */
const FORGIVEN = 10;
/** Bytes from which a part of an answer, or a read, is free: the window of its call bounds it. */
const FREE_BYTES = 1024;
/** Work that each call allows beyond. */
const FOR_CALL = 150;
const FOR_READ = 4;
const FOR_WORDS = 10;
/** Words that lead to no decision. */
const FOR_IDLE_WORDS = 2;
const FOR_NEWS = 20;
/** A socket is made for each connection. An init that does nothing but connect is above its share. */
const FOR_CONNECTION = 300;
/**
 * Bytes of words that count as one piece of work, words that are thrown away, and parts of answers that are. After a
 * restart of the agent, inits send the beginnings of all answers that they keep.
 */
const WORD_BYTES = 256;
const IDLE_BYTES = 1024;
const UNREAD_BYTES = 4096;
/** Milliseconds that a pause takes at least: each costs as much as some reads. */
const LEAST_PAUSE_MS = 20;
/** Milliseconds for which an init may say more than its share without a call. */
const ABUSE_MS = 30_000;
/** Most bytes of a frame with a part of an answer. */
const PART_BYTES = 64 * 1024;
/** Bytes that words of all inits of a node may have the agent keep. */
const NODE_BYTES = 40 * 2 ** 20;

interface Namespace {
  bytes: number;
  readonly holding: Set<Allowance>;
  readonly talking: Set<Allowance>;
}

/**
 * Bounds what the inits of a node have the agent do and keep. A worker whose code takes the place of its init may say
 * what it likes. Work is shared equally by the namespaces that talk, and in each by the workers that do. No namespace
 * has the agent keep more bytes than are free: N that are greedy leave 1/(N + 1) to the next.
 */
export class Allowances {
  readonly #clock: Clock;
  readonly #maxBytes: number;
  readonly #namespaces = new Map<string, Namespace>();
  readonly #talking = new Set<Namespace>();
  #bytes = 0;
  #at: number;

  constructor(clock: Clock, maxBytes = NODE_BYTES) {
    this.#clock = clock;
    this.#maxBytes = maxBytes;
    this.#at = clock.monotonic();
  }

  /** Bytes that the agent keeps of words of inits. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @param onFull called where the container holds most of a namespace that holds too much */
  open(namespace: string, onFull: (breach: string) => void): Allowance {
    return new Allowance(this.#clock, this, namespace, onFull);
  }

  /** For {@link Allowance}. Work of one container in a second, as many talk now. */
  rateOf(namespace: string): number {
    const workers = this.#namespaces.get(namespace)?.talking.size ?? 0;
    const all = Math.max(1, this.#talking.size) * Math.max(1, workers);
    return Math.min(PER_SECOND, NODE_PER_SECOND / all);
  }

  /** For {@link Allowance}. Work of one container at once, as many talk now. */
  burstOf(namespace: string): number {
    return Math.min(BURST, NAMESPACE_BURST / Math.max(1, this.#namespaces.get(namespace)?.talking.size ?? 0));
  }

  /** For {@link Allowance}. */
  talks(namespace: string, allowance: Allowance): void {
    const each = this.#of(namespace);
    each.talking.add(allowance);
    this.#talking.add(each);
  }

  /** For {@link Allowance}. */
  falls(namespace: string, allowance: Allowance): void {
    const each = this.#of(namespace);
    each.talking.delete(allowance);
    if (each.talking.size === 0) {
      this.#talking.delete(each);
    }
    this.#dropEmpty(namespace, each);
  }

  /** For {@link Allowance}. Gives each container that talks its share of the time since. */
  settle(): void {
    const now = this.#clock.monotonic();
    const seconds = (now - this.#at) / 1_000;
    if (seconds * 1_000 < STEP_MS) {
      return;
    }
    this.#at = now;
    const share = (seconds * NODE_PER_SECOND) / Math.max(1, this.#talking.size);
    for (const { talking } of [...this.#talking]) {
      const each = Math.min(seconds * PER_SECOND, share / talking.size);
      for (const allowance of [...talking]) {
        allowance.receive(each, seconds);
      }
    }
  }

  /**
   * For {@link Allowance}.
   *
   * @throws {InitBreach} where the container is the one of its namespace that holds most
   */
  keep(bytes: number, namespace: string, by: Allowance): void {
    const each = this.#of(namespace);
    this.#add(bytes, each);
    each.holding.add(by);
    while (bytes > 0 && each.bytes > this.#maxBytes - this.#bytes) {
      const most = [...each.holding].reduce((one, other) => (other.bytes > one.bytes ? other : one), by);
      const breach = 'the init has the agent keep more than its namespace may';
      if (most === by) {
        throw new InitBreach(breach);
      }
      most.end(breach);
    }
    if (by.bytes === 0) {
      each.holding.delete(by);
      this.#dropEmpty(namespace, each);
    }
  }

  #add(bytes: number, each: Namespace): void {
    this.#bytes += bytes;
    each.bytes += bytes;
  }

  #of(namespace: string): Namespace {
    const each = this.#namespaces.get(namespace) ?? { bytes: 0, holding: new Set(), talking: new Set() };
    this.#namespaces.set(namespace, each);
    return each;
  }

  #dropEmpty(namespace: string, { holding, talking }: Namespace): void {
    if (holding.size + talking.size === 0) {
      this.#namespaces.delete(namespace);
    }
  }
}

/** Work and bytes of one container, over all connections of its init. */
export class Allowance {
  readonly #clock: Clock;
  readonly #all: Allowances;
  readonly #namespace: string;
  readonly #onFull: (breach: string) => void;
  /** Work that is left for parts of answers, which no other container shares. */
  #parts = BURST;
  #partsAt: number;
  /** Work that is left for words. */
  #words = BURST;
  #overSince: number | undefined;
  #bytes = 0;
  #frameBytes = 0;

  constructor(clock: Clock, all: Allowances, namespace: string, onFull: (breach: string) => void) {
    this.#clock = clock;
    this.#all = all;
    this.#namespace = namespace;
    this.#onFull = onFull;
    this.#partsAt = clock.monotonic();
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether more may be read at once. */
  get hasLeft(): boolean {
    return this.#parts > 0 && this.#words > 0;
  }

  /** Milliseconds for which the init has now said more than its share. */
  get overMs(): number {
    // Since the last word on the node, or while the agent stood still, time may have passed.
    this.#all.settle();
    return this.#overSince === undefined ? 0 : this.#clock.monotonic() - this.#overSince;
  }

  /** Counts a read. Bytes that wait come together, so a later one costs less. */
  spendRead(bytes: number, hadParts: boolean): void {
    if (hadParts) {
      this.#parts -= bytes < FREE_BYTES ? FOR_READ : 0;
    } else {
      this.#spend(bytes < FREE_BYTES ? FOR_READ : 0);
    }
  }

  /** Counts a part of an answer. */
  spendPart(bytes: number): void {
    this.#parts -= bytes < FREE_BYTES ? 1 : 0;
  }

  /** Counts words of an init, which lead to decisions. */
  spendWords(bytes: number): void {
    this.#spend(FOR_WORDS + bytes / WORD_BYTES);
  }

  /** Counts words that are noted, or thrown away. */
  spendIdle(bytes: number): void {
    this.#spend(FOR_IDLE_WORDS + bytes / IDLE_BYTES);
  }

  /** Counts a part of an answer for which no caller waits. */
  spendUnread(bytes: number): void {
    this.#spend(FOR_IDLE_WORDS + bytes / UNREAD_BYTES);
  }

  /** Counts what the agent decides upon the words of a read. */
  spendNews(): void {
    this.#spend(FOR_NEWS);
  }

  spendConnection(): void {
    this.#spend(FOR_CONNECTION);
  }

  allowCall(): void {
    this.#parts += FOR_CALL;
    this.#words += FOR_CALL;
    this.#overSince = undefined;
  }

  /**
   * Counts the frame that has come in part, once the words of a read were taken. An init with a call has a reason for its
   * words.
   *
   * @throws {InitBreach} where an init without a call has said more than its share for too long; see {@link keep}
   */
  endTurn(heldBytes: number, hasCalls: boolean): void {
    // A part of an answer on its way is bounded, and a frame of it is no larger than that.
    this.#keepFrame(hasCalls ? Math.max(0, heldBytes - PART_BYTES) : heldBytes);
    if (hasCalls) {
      this.#overSince = undefined;
    } else if (this.overMs >= ABUSE_MS) {
      throw new InitBreach('the init has said more than its share for 30 seconds, without a call');
    }
  }

  /** Milliseconds until more may be read; 0 for at once. */
  waitMs(): number {
    const now = this.#clock.monotonic();
    this.#parts = Math.min(BURST, this.#parts + ((now - this.#partsAt) / 1_000) * PER_SECOND);
    this.#partsAt = now;
    this.#all.settle();
    if (this.#words <= 0) {
      this.#overSince ??= now;
    }
    return Math.max(pauseMs(this.#parts, PER_SECOND), pauseMs(this.#words, this.#all.rateOf(this.#namespace)));
  }

  /**
   * Counts bytes that the agent keeps of words, or, below 0, does not keep any more.
   *
   * @throws {InitBreach} where the namespace would hold too much, and this container holds most of it
   */
  keep(bytes: number): void {
    if (bytes !== 0) {
      this.#bytes += bytes;
      this.#all.keep(bytes, this.#namespace, this);
    }
  }

  /** Counts a frame that has come in part, instead of the one before. */
  #keepFrame(bytes: number): void {
    const more = bytes - this.#frameBytes;
    this.#frameBytes = bytes;
    this.keep(more);
  }

  /** Nothing is kept any more. */
  keepNothing(): void {
    this.#frameBytes = 0;
    this.keep(-this.#bytes);
  }

  /** For {@link Allowances}. */
  end(breach: string): void {
    this.#onFull(breach);
    this.keepNothing();
  }

  /** For {@link Allowances}. */
  receive(work: number, seconds: number): void {
    const burst = this.#all.burstOf(this.#namespace);
    this.#words = Math.min(burst, this.#words + work);
    if (this.#overSince !== undefined && this.#words >= Math.min(burst, QUIET)) {
      const since = this.#overSince + FORGIVEN * seconds * 1_000;
      this.#overSince = since < this.#clock.monotonic() ? since : undefined;
    }
    if (this.#words === burst) {
      this.#all.falls(this.#namespace, this);
    }
  }

  /** The container is gone. */
  close(): void {
    this.keepNothing();
    this.#all.falls(this.#namespace, this);
  }

  #spend(work: number): void {
    this.#all.talks(this.#namespace, this);
    this.#words = Math.min(this.#words, this.#all.burstOf(this.#namespace)) - work;
  }
}

function pauseMs(left: number, perSecond: number): number {
  return left > 0 ? 0 : Math.max(LEAST_PAUSE_MS, Math.ceil((-left / perSecond) * 1_000) + 1);
}
