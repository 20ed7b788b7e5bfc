import { ServerInterceptingCall, type ServerInterceptingCallInterface } from '@grpc/grpc-js';
import type { CallBudget } from './call-budget.ts';
import { toGrpcStatus } from './grpc-status.ts';

/** A call of which no byte is read before there is room for its first message. */
export class GatedRead extends ServerInterceptingCall {
  readonly #begin: () => void;
  #begun = false;

  /**
   * @param ready resolves once calls are served
   * @param isStream whether more messages follow the first one
   */
  constructor(
    call: ServerInterceptingCallInterface,
    budget: CallBudget,
    ready: () => Promise<unknown>,
    isStream: boolean,
  ) {
    const gone = new AbortController();
    let release = (): void => undefined;
    super(call, {
      start: (next) =>
        next({
          // The handler takes over what has come in this very step.
          onReceiveMessage: (message, pass) => {
            if (isStream) {
              release();
            }
            pass(message);
          },
          onReceiveHalfClose: (pass) => {
            release();
            pass();
          },
          onCancel: () => {
            gone.abort();
            release();
          },
        }),
    });
    this.#begin = () => {
      ready()
        .then(() => budget.read(call.getPeer(), gone.signal))
        .then(
          (given) => {
            if (gone.signal.aborted) {
              given();
              return;
            }
            release = given;
            super.startRead();
          },
          (error: unknown) => this.sendStatus(toGrpcStatus(error)),
        );
    };
  }

  override startRead(): void {
    if (this.#begun) {
      super.startRead();
    } else {
      this.#begun = true;
      this.#begin();
    }
  }
}
