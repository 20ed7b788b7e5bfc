import type { WorkerAnswer, WorkerLink, WorkerRequest } from '../../src/agent/invoke/emulator-client.ts';
import type { WorkerAddress } from '../../src/runtime/contract/runtime.ts';

/** A call that is in a worker. */
export interface FakeCall {
  readonly address: WorkerAddress;
  readonly request: WorkerRequest;
  answer(text?: string, status?: number): void;
  /** Ends it in another way. */
  end(answer: WorkerAnswer): void;
}

/** The emulators of all workers of a node, in memory. Keeps watch over what must never happen to one. */
export class FakeEmulators {
  /** Calls that are in workers now. */
  readonly calls: FakeCall[] = [];
  /** Calls that are in workers, and whose answers have no taker. */
  readonly left: FakeCall[] = [];
  /** Request ids of all that were sent, in order. */
  readonly sent: string[] = [];
  /** Faults: calls that overlapped, calls into a frozen worker. */
  readonly violations: string[] = [];
  /** Handler of a call that arrives; by default it waits for {@link FakeCall.answer}. */
  onCall: (call: FakeCall) => void = () => undefined;
  /** State of the worker at that address. */
  stateOf: (address: WorkerAddress) => 'Running' | 'Paused' | 'Gone' = () => 'Running';
  /** Whether the agent cannot have seen yet that somebody else has frozen the worker at that address. */
  isFrozenUnseen: (address: WorkerAddress) => boolean = () => false;

  readonly connect = (address: WorkerAddress): WorkerLink => {
    const ended = new Map<FakeCall, (answer: WorkerAnswer) => void>();
    const abort = (message: string): void => {
      for (const [call, end] of ended) {
        // The worker goes on with the call: it has no notice.
        this.left.push(call);
        end({ kind: 'Unknown', message });
      }
    };
    return {
      abort,
      close: () => abort('the connection was closed'),
      call: (request) =>
        new Promise((resolve) => {
          const end = (answer: WorkerAnswer): void => {
            if (ended.delete(call)) {
              this.calls.splice(this.calls.indexOf(call), 1);
              if (answer.kind === 'NotSent') {
                this.sent.splice(this.sent.lastIndexOf(request.requestId), 1);
              }
              resolve(answer);
            }
          };
          const call: FakeCall = {
            address,
            request,
            end,
            answer: (text = '{}', status = 200) => {
              if (ended.has(call)) {
                request.onHead({ status, contentType: 'text/plain' });
                request.onChunk(Buffer.from(text));
                end({ kind: 'Answered', status });
              }
            },
          };
          const state = this.stateOf(address);
          if (state === 'Gone') {
            resolve({ kind: 'NotSent', message: 'connection refused' });
            return;
          }
          ended.set(call, end);
          if (state === 'Paused' && !this.isFrozenUnseen(address)) {
            this.violations.push(`${request.requestId} was sent to ${address.ip}, which is frozen`);
          }
          if ([...this.calls, ...this.left].some((other) => other.address.ip === address.ip)) {
            this.violations.push(`${request.requestId} overlaps with another call at ${address.ip}`);
          }
          this.calls.push(call);
          this.sent.push(request.requestId);
          request.onSending();
          this.onCall(call);
        }),
    };
  };

  /** The answers of the calls that are in workers have no taker any more. */
  leave(): void {
    this.left.push(...this.calls.splice(0));
  }

  /** The process at that address has ended, and with it the calls that an agent has left in it. */
  ended({ ip }: WorkerAddress): void {
    for (const call of this.left.filter(({ address }) => address.ip === ip)) {
      this.left.splice(this.left.indexOf(call), 1);
    }
  }

  /** Answers every call that is in a worker now. */
  answerAll(): void {
    for (const call of [...this.calls]) {
      call.answer();
    }
  }
}
