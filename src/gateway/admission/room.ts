import { type Load, type LoadLimits, type Overload, overloadOf, type Pressure } from './load-shed.ts';

/** Requests of strangers may be one of as many that the gateway has room for. */
const STRANGERS_PART = 4;

/** What one request holds of the room. */
export class Hold {
  readonly #room: Room;
  #bytes = 0;
  #open = true;
  /** The name that it has a place among strangers by. */
  #stranger: string | undefined;

  constructor(room: Room) {
    this.#room = room;
  }

  /**
   * Takes a place among the requests of whom it is not proved yet who makes them. False when there is none: they have a part of the room, so
   * that those who are known at once find the rest. Of that part nobody takes more than is still free for others.
   *
   * @param name of the access key that is claimed, or of the address
   */
  takeStranger(name: string): boolean {
    if (this.#stranger === undefined && this.#open && this.#room.takeStranger(name)) {
      this.#stranger = name;
    }
    return this.#stranger !== undefined;
  }

  /** It is known who makes the request. */
  known(): void {
    if (this.#stranger !== undefined) {
      this.#room.leaveStranger(this.#stranger);
      this.#stranger = undefined;
    }
  }

  /**
   * Takes bytes for what has come of a body. False when there is no room for them, and then none are taken.
   *
   * No request may hold more than is still free, so that large bodies are refused before small ones are.
   */
  take(bytes: number): boolean {
    if (!this.#open || this.#bytes + bytes > this.#room.freeBytes) {
      return false;
    }
    this.add(bytes);
    return true;
  }

  /** Takes bytes that are held already, such as those of an answer, whether or not there is room. */
  add(bytes: number): void {
    if (this.#open) {
      this.#bytes += bytes;
      this.#room.change(0, bytes);
    }
  }

  /** Gives back bytes of a body that was dropped. */
  drop(): void {
    this.#room.change(0, -this.#bytes);
    this.#bytes = 0;
  }

  /** The request is over. */
  close(): void {
    if (this.#open) {
      this.known();
      this.#open = false;
      this.#room.change(-1, -this.#bytes);
      this.#bytes = 0;
    }
  }
}

/** The room that a gateway has for requests, from their head to the last byte of their answer. */
export class Room implements Load {
  readonly limits: LoadLimits;
  readonly #pressure: Pressure;
  readonly #maxStrangers: number;
  #requests = 0;
  #bytes = 0;
  #strangers = 0;
  readonly #strangersOf = new Map<string, number>();

  constructor(limits: LoadLimits, pressure: Pressure) {
    this.limits = limits;
    this.#pressure = pressure;
    this.#maxStrangers = Math.ceil(limits.maxRequests / STRANGERS_PART);
  }

  get requests(): number {
    return this.#requests;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Why one more request is too much now; undefined when it is not. */
  overload(): Overload | undefined {
    return overloadOf(this, this.#pressure, this.limits);
  }

  /** Takes in a request, whether or not it is to be refused: it has come. */
  open(): Hold {
    this.#requests += 1;
    return new Hold(this);
  }

  /** Requests, and bytes, that may come yet. */
  get freeRequests(): number {
    return this.limits.maxRequests - this.#requests;
  }

  get freeBytes(): number {
    return this.limits.maxBytes - this.#bytes;
  }

  hasRoomFor(bytes: number): boolean {
    return this.#bytes + bytes <= this.limits.maxBytes;
  }

  /** For {@link Hold} alone. */
  takeStranger(name: string): boolean {
    const free = this.#maxStrangers - this.#strangers;
    const taken = this.#strangersOf.get(name) ?? 0;
    if (free <= 0 || taken > free) {
      return false;
    }
    this.#strangers += 1;
    this.#strangersOf.set(name, taken + 1);
    return true;
  }

  /** For {@link Hold} alone. */
  leaveStranger(name: string): void {
    const left = (this.#strangersOf.get(name) ?? 0) - 1;
    this.#strangers -= 1;
    if (left > 0) {
      this.#strangersOf.set(name, left);
    } else {
      this.#strangersOf.delete(name);
    }
  }

  /** For {@link Hold} alone. */
  change(requests: number, bytes: number): void {
    this.#requests += requests;
    this.#bytes += bytes;
  }
}
