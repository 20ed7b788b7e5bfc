import type { Principal } from '../access/principal.ts';
import type { FunctionCall } from '../agents/function-call.ts';
import type { Caller } from '../lambda/caller.ts';

/** A call that has its place. */
export interface Admitted {
  /** Milliseconds that it waited for the place. */
  readonly queuedMs: number;
  /** Told the bytes of the answer, if there is one, before {@link Admitted.release}. */
  answered(bytes: number): void;
  /** Gives the place back: to be called once, at the end of the call. */
  release(): void;
  /** Lets another call have the place while this one waits for a worker that is away. */
  stepAside(): void;
  /**
   * Takes a place again, before all calls that have not had one. Resolves when there is one; undefined for at once.
   *
   * @throws {LambdaError} TooManyRequestsException when there is none for too long
   */
  stepBack(caller: Caller): Promise<void> | undefined;
}

/** Decides which requests are served, and when. Answers at once where nothing has to be waited for. */
export interface Admission {
  /**
   * Whether the rate of a caller has room for a request, which is not counted: nobody has proved yet that it is that caller's.
   *
   * @throws {LambdaError} TooManyRequestsException with its Reason
   */
  look(principal: Principal, caller: Caller): void;
  /**
   * Counts a request against the rate of its caller: once for each, as soon as it is proved whose it is, whatever becomes of it.
   *
   * @throws {LambdaError} TooManyRequestsException with its Reason
   */
  pass(principal: Principal, caller: Caller): void;
  /**
   * A place for a call that is to run now. Waits for one in the function's bounded queue, and no longer than its caller does.
   *
   * @throws {LambdaError} TooManyRequestsException with its Reason
   */
  enter(call: FunctionCall, caller: Caller): Promise<Admitted> | Admitted;
  /**
   * A place for the run of an event that is kept already: it counts against its function, and its caller is gone.
   *
   * @throws {LambdaError} TooManyRequestsException with its Reason
   */
  enterEvent(call: FunctionCall, caller: Caller): Promise<Admitted> | Admitted;
}
