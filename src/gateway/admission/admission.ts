import type { Clock } from '../../common/clock.ts';
import { strangerAt } from '../access/access-cache.ts';
import { type Principal, principalName } from '../access/principal.ts';
import type { FleetView, FunctionEntry } from '../agents/fleet-view.ts';
import type { FunctionCall } from '../agents/function-call.ts';
import type { Caller } from '../lambda/caller.ts';
import { CallerRates, type RateLimit } from '../lambda/caller-rate.ts';
import { decideEntry, overloaded, refusalFor } from './admission-policy.ts';
import { FunctionQueue, type Held } from './function-queue.ts';
import type { CountedCall, LoadMeter } from './load-meter.ts';
import type { Hold, Room } from './room.ts';

/** Callers that are remembered for their rates. */
const MAX_CALLERS = 20_000;

export interface AdmissionOptions {
  readonly view: Pick<FleetView, 'function' | 'onNextChange'>;
  /** Of calls that come by no other room. */
  readonly room: Room;
  readonly callerRate: RateLimit;
  /** Milliseconds that a call waits for a place. */
  readonly maxWaitMs: number;
  /** Draws for calls of aliases, and counts those by which functions are scaled; all go to $LATEST when absent. */
  readonly loadMeter?: Pick<LoadMeter, 'expect'>;
  /** Whether a function gets more workers where calls wait for one; none does when absent. */
  readonly mayGrow?: (functionName: string) => boolean;
  /** Another value once aliases of a function may name other versions; they never do when absent. */
  readonly meaningOf?: (functionName: string) => unknown;
  readonly clock: Clock;
}

/** A call that has its place. */
export interface Admitted {
  /** The number that decides for the call between the versions of an alias; undefined where nothing was drawn. */
  readonly draw: (() => number) | undefined;
  /** Milliseconds that the call waited for the place. */
  readonly queuedMs: number;
  /** Monotonic milliseconds at which the call came. All its waits for a place end as long after that as one may last. */
  readonly since: number | undefined;
  /**
   * Notes the bytes of the answer, if there is one; to be called before {@link Admitted.release}.
   *
   * @param hold of the request: the answer counts on against the function until it has gone out. Undefined for an
   * answer that no client has to read
   */
  answered(bytes: number, hold?: Pick<Hold, 'whenClosed'>): void;
  /** Gives the place back: to be called once, at the end of the call. */
  release(): void;
  /** Lends the place to another call while this one waits for a worker that is away. */
  stepAside(): void;
  /**
   * Takes a place again, of the version that the call goes to now, before all calls that have not had one. Resolves when
   * there is one; undefined for at once.
   *
   * @throws {LambdaError} TooManyRequestsException when the wait is too long
   */
  stepBack(caller: Caller): Promise<void> | undefined;
  /**
   * Takes a place of the version that the call goes to now, in exchange for that of another version, or of a function
   * whose name another one has by now. Otherwise as {@link Admitted.stepBack}.
   *
   * @param version undefined for $LATEST
   */
  move(target: FunctionEntry, version: number | undefined, caller: Caller): Promise<void> | undefined;
}

class Place implements Admitted {
  readonly queuedMs: number;
  readonly since: number;
  readonly #queueOf: (target: FunctionEntry) => FunctionQueue;
  readonly #held: Held;
  readonly #counted: CountedCall | undefined;
  #queue: FunctionQueue;
  #version: number | undefined;
  #running = true;

  constructor(
    queue: FunctionQueue,
    queueOf: (target: FunctionEntry) => FunctionQueue,
    held: Held,
    queuedMs: number,
    since: number,
    coming: Coming,
  ) {
    this.#queue = queue;
    this.#queueOf = queueOf;
    this.#held = held;
    this.queuedMs = queuedMs;
    this.since = since;
    this.#counted = coming.counted;
    this.#version = coming.version;
  }

  get draw(): (() => number) | undefined {
    return this.#counted?.draw;
  }

  answered(bytes: number, hold?: Pick<Hold, 'whenClosed'>): void {
    const queue = this.#queue;
    queue.answered(bytes);
    if (hold !== undefined) {
      const unread = { room: this.#held.room, bytes };
      queue.hold(unread, 1);
      hold.whenClosed(() => queue.hold(unread, -1));
    }
  }

  release(): void {
    this.#queue.hold(this.#held, -1);
    this.#counted?.end();
    this.stepAside();
  }

  stepAside(): void {
    if (this.#running) {
      this.#running = false;
      this.#queue.of(this.#version).leave();
    }
  }

  stepBack(caller: Caller): Promise<void> | undefined {
    if (this.#counted !== undefined) {
      // The alias may name another version since the call stepped aside.
      this.#version = this.#counted.version();
      this.#counted.move(this.#version);
    }
    const of = this.#queue.of(this.#version);
    if (!of.hasPlace) {
      return of.wait(caller, true, this.since, this.#counted, this.#held.room).then(({ version }) => {
        this.#version = version;
        this.#running = true;
      });
    }
    of.take();
    this.#running = true;
    return undefined;
  }

  move(target: FunctionEntry, version: number | undefined, caller: Caller): Promise<void> | undefined {
    if (target === this.#queue.target && version === this.#version) {
      return undefined;
    }
    this.#counted?.move(version);
    this.stepAside();
    this.#queue.hold(this.#held, -1);
    this.#queue = this.#queueOf(target);
    this.#queue.hold(this.#held, 1);
    this.#version = version;
    return this.stepBack(caller);
  }
}

/** The place of a call whose function has just gone: the invoker will find that out. */
const NOWHERE: Admitted = {
  draw: undefined,
  queuedMs: 0,
  since: undefined,
  answered: () => undefined,
  release: () => undefined,
  stepAside: () => undefined,
  stepBack: () => undefined,
  move: () => undefined,
};

/** A call that is counted, and the version that it was let in for. */
interface Coming {
  readonly version: number | undefined;
  readonly counted: CountedCall | undefined;
}

/**
 * Admits calls by the rate of their caller, the share of their function in the gateway, and the concurrency of the
 * function. Answers at once where nothing has to be waited for: a call then costs a few comparisons and its place.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  /** Undefined where rates are not limited. */
  readonly #rates: CallerRates | undefined;
  /** By the entry of the function, with which they go. */
  readonly #queues = new WeakMap<FunctionEntry, FunctionQueue>();
  readonly #queueOf = (target: FunctionEntry): FunctionQueue => {
    let queue = this.#queues.get(target);
    if (queue === undefined) {
      queue = new FunctionQueue(target, this.#options);
      this.#queues.set(target, queue);
    }
    return queue;
  };
  #waiting = 0;

  constructor(options: AdmissionOptions) {
    const { callerRate } = options;
    this.#options = options;
    this.#rates = callerRate.perSecond > 0 ? new CallerRates(callerRate, MAX_CALLERS) : undefined;
  }

  /** Calls that wait for a place, of all functions. */
  get waiting(): number {
    return this.#waiting;
  }

  /**
   * Checks that the rate of a caller has room for a request, without counting the request: its sender is not proved
   * yet.
   *
   * @throws {LambdaError} TooManyRequestsException with its Reason
   */
  look(principal: Principal, caller: Caller): void {
    if (this.#rates !== undefined) {
      refuseUntil(this.#rates.look(callerKey(principal, caller), this.#options.clock.monotonic()));
    }
  }

  /**
   * Counts a request against the rate of its caller: once for each, as soon as its sender is proved.
   *
   * @throws {LambdaError} TooManyRequestsException with its Reason
   */
  pass(principal: Principal, caller: Caller): void {
    if (this.#rates !== undefined) {
      refuseUntil(this.#rates.take(callerKey(principal, caller), this.#options.clock.monotonic()));
    }
  }

  /**
   * A place for a call that is to run now. Waits for one in the function's bounded queue, as long as the caller does.
   *
   * @param room that its request is in: the function has a share of each
   * @throws {LambdaError} TooManyRequestsException with its Reason
   */
  enter(call: FunctionCall, caller: Caller, room: Room = this.#options.room): Promise<Admitted> | Admitted {
    const { loadMeter, view } = this.#options;
    const target = view.function(call.reference.name);
    if (target === undefined) {
      return NOWHERE;
    }
    const queue = this.#queueOf(target);
    // Bytes that arrived since the request was taken in may have left no room for an answer.
    if (room.freeBytes < 0) {
      throw overloaded();
    }
    const bytes = call.payload.length;
    const coming = loadMeter?.expect(call.reference);
    const of = queue.of(coming?.version);
    const entry = decideEntry(of, queue.heldIn(room), { requests: room.freeRequests, bytes: room.freeBytes });
    if (entry === 'Enter' || entry === 'Wait') {
      const counted = { version: coming?.version, counted: coming?.count() };
      const held: Held = { room, bytes };
      queue.hold(held, 1);
      if (entry === 'Wait') {
        return this.#wait(queue, held, caller, counted);
      }
      of.take();
      return new Place(queue, this.#queueOf, held, 0, this.#options.clock.monotonic(), counted);
    }
    throw refusalFor(entry, target.name);
  }

  /**
   * A place for the run of an event that is kept already: the run counts against its function, and its caller is gone.
   *
   * @throws {LambdaError} TooManyRequestsException with its Reason
   */
  enterEvent(call: FunctionCall, caller: Caller, room: Room): Promise<Admitted> | Admitted {
    if (room.overload() !== undefined) {
      throw overloaded();
    }
    return this.enter(call, caller, room);
  }

  async #wait(queue: FunctionQueue, held: Held, caller: Caller, coming: Coming): Promise<Admitted> {
    const { clock } = this.#options;
    const since = clock.monotonic();
    this.#waiting += 1;
    try {
      const { counted } = coming;
      const { version } = await queue.of(coming.version).wait(caller, false, since, counted, held.room);
      return new Place(queue, this.#queueOf, held, clock.monotonic() - since, since, { version, counted });
    } catch (error) {
      coming.counted?.end();
      queue.hold(held, -1);
      throw error;
    } finally {
      this.#waiting -= 1;
    }
  }
}

/** The name under which the requests of a caller are counted: the address, for a caller without a name. */
export function callerKey(principal: Principal, caller: Caller): string {
  const name = principalName(principal);
  return name === '' ? strangerAt(caller.address).name : `${principal.kind} ${name}`;
}

function refuseUntil(waitMs: number): void {
  if (waitMs > 0) {
    throw refusalFor('CallerRateLimitExceeded', '', Math.ceil(waitMs / 1000));
  }
}
