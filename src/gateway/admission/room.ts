import { getHeapStatistics } from 'node:v8';
import type { Clock, Timer } from '../../common/clock.ts';
import { Tally } from '../../common/tally.ts';

/** Part of the gateway's requests that unproved senders have. */
const STRANGERS_PART = 1 / 4;
/** Part of the gateway's requests that operations have which run no function. Some of these wait for seconds. */
const OPERATIONS_PART = 1 / 8;
/**
 * Bytes beyond the limit, as a part of that, up to which answers go on coming in. Calls that run were let in before the
 * room was full, and most answers are small.
 */
const OVERFLOW_PART = 1 / 8;
/** Bytes of an answer that come in even if the room is full beyond {@link OVERFLOW_PART}. */
const SMALL_ANSWER_BYTES = 64 * 1024;
/**
 * Requests under way below which neither a late event loop nor a full heap is a reason to refuse: with so few requests
 * the cause is another, and refusing would not help. The gateway also recovers by these requests, since the heap is
 * collected only while there is work.
 */
const LEAST_LOAD = 64;
/** Milliseconds between two measurements. */
const PERIOD_MS = 200;

export interface Load {
  /** Requests that have arrived and whose answer has not gone out. */
  readonly requests: number;
  /** Bytes of bodies and answers of these. */
  readonly bytes: number;
}

export interface Pressure {
  /** Milliseconds by which the event loop is late. */
  readonly loopDelayMs: number;
  /** Part of the heap's limit that is in use, from 0 to 1. */
  readonly heapUse: number;
}

export interface LoadLimits {
  readonly maxRequests: number;
  readonly maxBytes: number;
  readonly maxLoopDelayMs: number;
  /** From 0 to 1. */
  readonly maxHeapUse: number;
}

/** The limits of a room beside another one, for a part of its requests and bytes. */
export function partOf(limits: LoadLimits, part: number): LoadLimits {
  const maxRequests = Math.ceil(limits.maxRequests * part);
  return { ...limits, maxRequests, maxBytes: Math.ceil(limits.maxBytes * part) };
}

export type Overload = 'Requests' | 'Bytes' | 'LoopDelay' | 'Heap';

/** Why one more request is too much; undefined when there is room. */
export function overloadOf(load: Load, pressure: Pressure, limits: LoadLimits): Overload | undefined {
  if (load.requests >= limits.maxRequests) {
    return 'Requests';
  }
  if (load.bytes >= limits.maxBytes) {
    return 'Bytes';
  }
  if (load.requests < LEAST_LOAD) {
    return undefined;
  }
  if (pressure.loopDelayMs > limits.maxLoopDelayMs) {
    return 'LoopDelay';
  }
  return pressure.heapUse > limits.maxHeapUse ? 'Heap' : undefined;
}

/** Measures the process a few times a second, so that reading the measurements costs nothing. */
export class ProcessPressure implements Pressure {
  readonly #clock: Clock;
  readonly #heapUse: () => number;
  #timer: Timer | undefined;
  #dueAt = 0;
  #lateness = 0;
  loopDelayMs = 0;
  heapUse = 0;

  /** @param heapUse part of the heap's limit that is in use; by default that of this process */
  constructor(clock: Clock, heapUse: () => number = ownHeapUse) {
    this.#clock = clock;
    this.#heapUse = heapUse;
  }

  start(): void {
    this.#dueAt = this.#clock.monotonic() + PERIOD_MS;
    this.#timer = this.#clock.setTimer(() => this.#measure(), PERIOD_MS);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #measure(): void {
    const lateness = Math.max(0, this.#clock.monotonic() - this.#dueAt);
    // One long turn, such as a garbage collection, is no load: the loop has to be late twice.
    this.loopDelayMs = Math.min(lateness, this.#lateness);
    this.#lateness = lateness;
    this.heapUse = this.#heapUse();
    this.start();
  }
}

function ownHeapUse(): number {
  const { heap_size_limit: limit, used_heap_size: used } = getHeapStatistics();
  return used / limit;
}

/** A part of the requests of a room. No name takes more of the part than is still free. */
class RoomPart {
  readonly #max: number;
  readonly #of = new Tally();
  #taken = 0;
  /** Bytes of their answers; changed by each {@link Hold} alone. */
  bytes = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** Takes one place under all of these names. False, and none taken, when one of them has no more. */
  take(names: readonly string[]): boolean {
    const free = this.#max - this.#taken;
    if (free <= 0 || names.some((name) => this.#of.get(name) > free)) {
      return false;
    }
    this.#count(names, 1);
    return true;
  }

  leave(names: readonly string[]): void {
    this.#count(names, -1);
  }

  #count(names: readonly string[], change: 1 | -1): void {
    this.#taken += change;
    for (const name of names) {
      this.#of.add(name, change);
    }
  }
}

/** The room that one request takes. */
export class Hold {
  readonly room: Room;
  #bytes = 0;
  #replyBytes = 0;
  #open = true;
  #onClose: (() => void) | undefined;
  /** The names under which the request has a place among unproved ones. */
  #stranger: readonly string[] | undefined;
  /** The names under which the request has a place among operations that run no function. */
  #operation: readonly string[] | undefined;

  constructor(room: Room) {
    this.room = room;
  }

  /**
   * Takes a place among the requests whose sender is not proved yet. False when there is none: these requests share a
   * part of the room, and the rest is for senders that are known at once. No name takes more of that part than is still
   * free.
   *
   * @param name the claimed access key, or the address
   */
  takeStranger(name: string): boolean {
    if (this.#stranger === undefined && this.#open && this.room.strangers.take([name])) {
      this.#stranger = [name];
    }
    return this.#stranger !== undefined;
  }

  /**
   * Takes a place among the requests that run no function. False when there is none: these share a part of the room, of
   * which neither a caller nor a function takes more than is still free.
   */
  takeOperation(caller: string, functionName: string): boolean {
    const names = [`caller ${caller}`, ...(functionName === '' ? [] : [`function ${functionName}`])];
    if (this.#operation === undefined && this.#open && this.room.operations.take(names)) {
      this.#operation = names;
    }
    return this.#operation !== undefined;
  }

  /** The sender of the request is proved. */
  known(): void {
    if (this.#stranger !== undefined) {
      this.room.strangers.leave(this.#stranger);
      this.#stranger = undefined;
    }
  }

  /**
   * Takes bytes for the arrived part of a body. False, and none taken, when there is no room for them.
   *
   * No request may hold more than is still free: large bodies are refused before small ones.
   */
  take(bytes: number): boolean {
    if (!this.#open || this.#bytes + bytes > this.room.freeBytes) {
      return false;
    }
    this.add(bytes);
    return true;
  }

  /**
   * Takes bytes for the answer of an operation that runs no function. False, and none taken, when there is no room for
   * them. Such answers hold no more together than is still free, as the calls of one function do.
   */
  takeReply(bytes: number): boolean {
    const { freeBytes, operations } = this.room;
    if (operations.bytes + bytes > freeBytes || !this.take(bytes)) {
      return false;
    }
    operations.bytes += bytes;
    this.#replyBytes += bytes;
    return true;
  }

  /** Takes bytes that are in memory already, such as those of an answer, even if there is no room. */
  add(bytes: number): void {
    if (this.#open) {
      this.#bytes += bytes;
      this.room.bytes += bytes;
    }
  }

  /**
   * Takes bytes of an answer that comes in. False, and none taken, for a large answer when the room is full by far: its
   * function has run, but the gateway cannot keep what it said.
   *
   * @param size bytes of the answer so far, with these
   */
  takeAnswer(bytes: number, size: number): boolean {
    const { limits } = this.room;
    if (size > SMALL_ANSWER_BYTES && this.room.bytes + bytes > limits.maxBytes * (1 + OVERFLOW_PART)) {
      return false;
    }
    this.add(bytes);
    return true;
  }

  /** Gives back bytes of a body that was dropped. */
  drop(): void {
    this.room.bytes -= this.#bytes;
    this.#bytes = 0;
  }

  /** Has the one listener called once the request takes no room any more, or at once where it takes none. */
  whenClosed(listener: () => void): void {
    if (this.#open) {
      this.#onClose = listener;
    } else {
      listener();
    }
  }

  close(): void {
    if (this.#open) {
      this.known();
      this.room.operations.bytes -= this.#replyBytes;
      if (this.#operation !== undefined) {
        this.room.operations.leave(this.#operation);
      }
      this.#open = false;
      this.room.requests -= 1;
      this.drop();
      this.#onClose?.();
    }
  }
}

/** The room of a gateway for requests, from their head to the last byte of their answer. */
export class Room implements Load {
  readonly limits: LoadLimits;
  readonly #pressure: Pressure;
  /** For {@link Hold} alone. */
  readonly strangers: RoomPart;
  /** For {@link Hold} alone. */
  readonly operations: RoomPart;
  requests = 0;
  /** Changed by each {@link Hold} alone. */
  bytes = 0;

  /** @param strangersPart part of the requests that unproved senders may have, from 0 to 1 */
  constructor(limits: LoadLimits, pressure: Pressure, strangersPart = STRANGERS_PART) {
    this.limits = limits;
    this.#pressure = pressure;
    this.strangers = new RoomPart(Math.ceil(limits.maxRequests * strangersPart));
    this.operations = new RoomPart(Math.ceil(limits.maxRequests * OPERATIONS_PART));
  }

  /** Why one more request is too much now; undefined when there is room. */
  overload(): Overload | undefined {
    return overloadOf(this, this.#pressure, this.limits);
  }

  /** Counts a request that has arrived, even if it is refused next. */
  open(): Hold {
    this.requests += 1;
    return new Hold(this);
  }

  /** Requests, and bytes, for which there is room. */
  get freeRequests(): number {
    return this.limits.maxRequests - this.requests;
  }

  get freeBytes(): number {
    return this.limits.maxBytes - this.bytes;
  }
}
