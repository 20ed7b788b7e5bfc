import type { CounterAnswer } from './instance.ts';
import type { BalancedCall } from './load-balancer.ts';

/** Milliseconds after the end of a process in which a sender of a call may not know of that end yet. */
const UNAWARE_MS = 1_000;

/** A process that was killed on purpose, and whose calls it may have taken with it. */
export interface Kill {
  readonly what: string;
  readonly functions: readonly string[];
  /** On the monotonic clock, in milliseconds. */
  readonly at: number;
}

type Ending = 'answered' | 'unknown' | 'failed';

/** How every call of a run ended, and whether that is as it may be. */
export class CallTally {
  readonly #calls: BalancedCall[] = [];
  readonly #kills: Kill[] = [];

  add(call: BalancedCall): void {
    this.#calls.push(call);
  }

  killed(what: string, functions: readonly string[]): void {
    this.#kills.push({ what, functions, at: performance.now() });
  }

  get total(): number {
    return this.#calls.length;
  }

  count(ending: Ending): number {
    return this.#calls.filter((call) => endingOf(call) === ending).length;
  }

  /** Calls that were neither answered by their function nor told as unknown. */
  failures(): readonly string[] {
    return this.#calls.filter((call) => endingOf(call) === 'failed').map((call) => this.#told(call));
  }

  /** Calls of unknown outcome though nothing was killed that could have had them. */
  unexplained(): readonly string[] {
    return this.#calls
      .filter((call) => endingOf(call) === 'unknown' && !this.#kills.some((kill) => mayHaveHit(kill, call)))
      .map((call) => this.#told(call));
  }

  /**
   * Runs without a call: a function counts its calls, so that no two answers of one process have the same number, and
   * no number is higher than the calls that were answered by it or are unknown.
   */
  repeated(): readonly string[] {
    const answered = this.#calls.filter((call) => endingOf(call) === 'answered');
    const found: string[] = [];
    for (const [process, calls] of Map.groupBy(answered, (call) => counterOf(call).bootId)) {
      const name = calls[0]?.functionName ?? '';
      const counters = calls.map((call) => counterOf(call).counter);
      const highest = Math.max(...counters);
      const unknown = this.#calls.filter((call) => call.functionName === name && endingOf(call) === 'unknown').length;
      if (new Set(counters).size < counters.length) {
        found.push(`${name}: two answers of process ${process} have the same number`);
      }
      if (highest > counters.length + unknown) {
        found.push(
          `${name}: process ${process} ran ${highest} calls; ${counters.length} were answered, ${unknown} are unknown`,
        );
      }
    }
    return found;
  }

  summary(): string {
    const took = this.#calls.map(({ beganAt, endedAt }) => endedAt - beganAt).toSorted((a, b) => a - b);
    const at = (share: number): number => Math.round(took[Math.ceil(share * took.length) - 1] ?? 0);
    const ends = (calls: readonly BalancedCall[]): string =>
      (['answered', 'unknown', 'failed'] as const)
        .map((ending) => `${calls.filter((call) => endingOf(call) === ending).length} ${ending}`)
        .join(', ');
    const passedOver = this.#calls.filter((call) => call.passedOver > 0).length;
    return [
      `${this.total} calls: ${ends(this.#calls)}; ${passedOver} went to a second gateway; p50 ${at(0.5)}, p99 ${at(0.99)}, longest ${at(1)} ms`,
      ...[...Map.groupBy(this.#calls, ({ functionName }) => functionName)].map(
        ([name, calls]) => `  ${name}: ${ends(calls)}`,
      ),
      ...this.#kills.map((kill) => {
        const hit = this.#calls.filter((call) => endingOf(call) === 'unknown' && mayHaveHit(kill, call));
        return `  ${kill.what} killed: ${hit.length} calls unknown`;
      }),
    ].join('\n');
  }

  #told(call: BalancedCall): string {
    const { answer, fault, functionName, beganAt, endedAt } = call;
    const what = answer === undefined ? fault : `${answer.status} ${answer.text.slice(0, 300)}`;
    const since = Math.round(beganAt - Math.min(...this.#calls.map((each) => each.beganAt)));
    return `${functionName}, begun after ${since} ms, over after ${Math.round(endedAt - beganAt)} ms: ${what}`;
  }
}

/** Result of a call: `failed` is neither the function's own answer nor reported as unknown. */
export function endingOf({ answer, functionName }: BalancedCall): Ending {
  if (answer?.status !== 200) {
    return 'failed';
  }
  if (answer.headers['x-amz-function-error'] !== undefined) {
    return answer.headers['x-esb-outcome'] === 'unknown' ? 'unknown' : 'failed';
  }
  return (JSON.parse(answer.text) as CounterAnswer).message === `hello from ${functionName}` ? 'answered' : 'failed';
}

function counterOf({ answer }: BalancedCall): CounterAnswer {
  return JSON.parse(answer?.text ?? '{}') as CounterAnswer;
}

function mayHaveHit({ at, functions }: Kill, { beganAt, endedAt, functionName }: BalancedCall): boolean {
  return functions.includes(functionName) && beganAt < at + UNAWARE_MS && endedAt > at - 50;
}
