import type { Invocation, InvocationResult } from '../model/invocation.ts';

interface Caller {
  readonly invocation: Invocation;
  readonly promise: Promise<InvocationResult>;
  readonly resolve: (result: InvocationResult) => void;
  onHangUp: (() => void) | undefined;
}

/** The callers of one worker's calls, by the number of the call, from its arrival to its one result. */
export class Callers {
  readonly #callers = new Map<number, Caller>();
  #last = 0;

  add(invocation: Invocation): { readonly id: number; readonly promise: Promise<InvocationResult> } {
    const { promise, resolve } = Promise.withResolvers<InvocationResult>();
    this.#last += 1;
    this.#callers.set(this.#last, { invocation, promise, resolve, onHangUp: undefined });
    return { id: this.#last, promise };
  }

  invocationOf(id: number): Invocation | undefined {
    return this.#callers.get(id)?.invocation;
  }

  /** Settles when the caller is told how its call ended. */
  resultOf(id: number): Promise<InvocationResult> | undefined {
    return this.#callers.get(id)?.promise;
  }

  /** The first result counts. */
  answer(id: number, result: InvocationResult): void {
    const caller = this.#callers.get(id);
    if (caller !== undefined) {
      this.ignore(id);
      this.#callers.delete(id);
      caller.resolve(result);
    }
  }

  /** Hears when the caller of a call that waits hangs up. */
  listen(id: number, onHangUp: () => void): void {
    const caller = this.#callers.get(id);
    if (caller?.invocation.signal.aborted === true) {
      onHangUp();
    } else if (caller !== undefined && caller.onHangUp === undefined) {
      caller.onHangUp = onHangUp;
      caller.invocation.signal.addEventListener('abort', onHangUp, { once: true });
    }
  }

  /** A call that was sent goes on, whether its caller hangs up or not. */
  ignore(id: number): void {
    const caller = this.#callers.get(id);
    if (caller?.onHangUp !== undefined) {
      caller.invocation.signal.removeEventListener('abort', caller.onHangUp);
      caller.onHangUp = undefined;
    }
  }
}
