import { errorMembersIn, runtimeErrorIn, timedOutAfter } from '../../common/emulator-answer.ts';

/** Bytes of the answer to a warm-up call that are looked at: a failure is shorter. */
const MAX_BYTES = 64 * 1024;

/** The answer to a warm-up call, as far as its failure can be told from it. */
export class WarmUpAnswer {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  take(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes <= MAX_BYTES) {
      this.#chunks.push(chunk);
    }
  }

  /**
   * Why the call failed; undefined when it did not.
   *
   * @param status the emulator's: it answers 200 to most failures, and only the body tells
   */
  failure(status: number, timeoutSeconds: number): string | undefined {
    if (this.#bytes > MAX_BYTES) {
      return undefined;
    }
    const body = Buffer.concat(this.#chunks);
    if (timedOutAfter(body) !== undefined) {
      return `it was not answered within spec.timeoutSeconds (${timeoutSeconds}), and loading the function counts against that: raise spec.timeoutSeconds`;
    }
    const failed = status < 200 || status > 299;
    const error = failed ? errorMembersIn(body) : runtimeErrorIn(body);
    if (error !== undefined) {
      return `${error.errorType}: ${error.errorMessage}`;
    }
    return failed || body.length === 0 ? 'the runtime ended without an answer' : undefined;
  }
}
