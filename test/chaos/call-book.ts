import { Agent, request } from 'undici';
import { unreachable } from '../../src/common/errors.ts';
import { waitFor } from '../support/wait-for.ts';
import type { Executions } from './journal.ts';

/** Milliseconds after which a call that has no answer counts as hanging. */
const HUNG_AFTER_MS = 150_000;
/** A worker that does not run for so long in the middle of a call is taken for frozen. */
const FROZEN_AFTER_MS = 3_000;

/** End of a call in the caller's view. */
export type CallEnd =
  | { readonly kind: 'answered'; readonly id: string; readonly boot: string; readonly counter: number }
  /** The function failed or ran out of time; it may have begun or not. */
  | { readonly kind: 'failed'; readonly type: string }
  | { readonly kind: 'refused'; readonly status: number; readonly why: string }
  | { readonly kind: 'unknown'; readonly why: string }
  /** The gateway went away under it: unknown as well. */
  | { readonly kind: 'lost'; readonly why: string }
  | { readonly kind: 'hung' }
  | { readonly kind: 'nonsense'; readonly what: string };

export interface Call {
  readonly id: string;
  readonly step: number;
  readonly worker: string;
  readonly gateway: number;
  readonly beganAt: number;
  readonly tookMs: number;
  readonly end: CallEnd;
}

/** Notes of workers about the calls that they ran. */
export interface Witness {
  executions(id: string): Executions;
}

/** Set by the owner of the faults: whether the notes of a call may be missing or late for a good reason. */
export interface Excuses {
  /** The output of that worker may have been lost: its shim was killed, the disk was full. */
  mayMissOutput(call: Call): boolean;
  /** Its process was stopped on purpose, or everything was slow. */
  mayStall(call: Call): boolean;
}

const endings = ['answered', 'failed', 'refused', 'unknown', 'lost', 'hung', 'nonsense'] as const;

/** Makes calls, keeps how each ended, and judges them all when everything is over. */
export class CallBook {
  readonly #gateways: readonly string[];
  readonly #calls: Call[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #agent = new Agent({ connections: 256, headersTimeout: 0, bodyTimeout: 0 });
  #next = 0;

  constructor(gateways: readonly string[]) {
    this.#gateways = gateways;
  }

  /** Calls that have ended. */
  get calls(): readonly Call[] {
    return this.#calls;
  }

  /** Makes a call in the background. */
  start(step: number, worker: string, gateway: number, payload: object): void {
    const running = this.call(step, worker, gateway, payload).then(() => undefined);
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  async call(step: number, worker: string, gateway: number, payload: object): Promise<Call> {
    this.#next += 1;
    const id = `call-${step}-${this.#next}`;
    const beganAt = performance.now();
    const first = await this.#send(worker, gateway, { ...payload, id });
    // As a load balancer does it: who takes no connection has been sent nothing, so that another one may have the call.
    const isUnsent = first.kind === 'lost' && first.why.includes('ECONNREFUSED');
    const end = isUnsent ? await this.#send(worker, 3 - gateway, { ...payload, id }) : first;
    const call: Call = { id, step, worker, gateway, beganAt, tookMs: performance.now() - beganAt, end };
    this.#calls.push(call);
    return call;
  }

  /**
   * Waits until a gateway has heard of a worker, which takes some seconds after an outage of the API server, and for
   * half a minute at most. A dry run calls nothing.
   */
  async untilKnown(worker: string, gateway: number): Promise<void> {
    const url = `${this.#gateways[gateway - 1]}/2015-03-31/functions/${worker}/invocations`;
    const headers = { 'x-amz-invocation-type': 'DryRun' };
    await waitFor(`gateway-${gateway} to know ${worker}`, async () => {
      const signal = AbortSignal.timeout(5_000);
      const answer = await request(url, { method: 'POST', headers, dispatcher: this.#agent, signal });
      await answer.body.dump();
      return answer.statusCode === 204;
    }).catch(() => undefined);
  }

  async untilAllEnded(): Promise<void> {
    while (this.#running.size > 0) {
      await Promise.all(this.#running);
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  /** Contradictions to the promise that a call is answered once, refused and not started, or unknown. */
  verdicts(witness: Witness, excuses: Excuses): string[] {
    const wrong: string[] = [];
    const seen = new Map<string, Call>();
    for (const call of this.#calls) {
      for (const what of judge(call, witness, excuses)) {
        wrong.push(`${call.id} of ${call.worker} by gateway-${call.gateway}: ${what}: ${JSON.stringify(call)}`);
      }
      if (call.end.kind === 'answered') {
        const run = `${call.worker} ${call.end.boot} ${call.end.counter}`;
        const other = seen.get(run);
        if (other !== undefined) {
          wrong.push(`${call.id} and ${other.id} were answered with the same run of ${call.worker}`);
        }
        seen.set(run, call);
      }
    }
    return wrong;
  }

  /** How many ended in which way, and the longest that one took. */
  summary(): string {
    const counts = endings
      .map((kind) => [kind, this.#calls.filter((call) => call.end.kind === kind).length] as const)
      .filter(([, count]) => count > 0)
      .map(([kind, count]) => `${count} ${kind}`);
    const longest = Math.max(0, ...this.#calls.map((call) => call.tookMs));
    const refusals = new Map<string, number>();
    for (const { end } of this.#calls) {
      if (end.kind === 'refused') {
        refusals.set(String(end.status), (refusals.get(String(end.status)) ?? 0) + 1);
      }
    }
    const by = [...refusals].map(([status, count]) => `${status}: ${count}`).join(', ');
    return `${this.#calls.length} calls: ${counts.join(', ')}; refusals by status: ${by || 'none'}; longest ${Math.round(longest)} ms`;
  }

  async #send(worker: string, gateway: number, payload: object): Promise<CallEnd> {
    const signal = AbortSignal.timeout(HUNG_AFTER_MS);
    try {
      const answer = await request(`${this.#gateways[gateway - 1]}/2015-03-31/functions/${worker}/invocations`, {
        method: 'POST',
        body: JSON.stringify(payload),
        dispatcher: this.#agent,
        signal,
      });
      const text = await answer.body.text();
      return endOf(answer.statusCode, answer.headers, text);
    } catch (error) {
      return signal.aborted ? { kind: 'hung' } : { kind: 'lost', why: String(error) };
    }
  }
}

function endOf(
  status: number,
  headers: Readonly<Record<string, string | string[] | undefined>>,
  text: string,
): CallEnd {
  if (status >= 400) {
    return { kind: 'refused', status, why: text.slice(0, 300) };
  }
  let body: Readonly<Record<string, unknown>>;
  try {
    body = JSON.parse(text) as Readonly<Record<string, unknown>>;
  } catch {
    return { kind: 'nonsense', what: `${status} ${text.slice(0, 200)}` };
  }
  if (headers['x-esb-outcome'] === 'unknown') {
    return { kind: 'unknown', why: String(body.errorMessage) };
  }
  if (headers['x-amz-function-error'] !== undefined) {
    return { kind: 'failed', type: String(body.errorType) };
  }
  const { id, boot, counter } = body;
  return typeof id === 'string' && typeof boot === 'string' && typeof counter === 'number'
    ? { kind: 'answered', id, boot, counter }
    : { kind: 'nonsense', what: `${status} ${text.slice(0, 200)}` };
}

/** Fault in the end of one call, given the notes of workers about it. */
export function judge(call: Call, witness: Witness, excuses: Excuses): string[] {
  const { began, stalledMs } = witness.executions(call.id);
  const wrong: string[] = [];
  if (began > 1) {
    wrong.push(`ran ${began} times`);
  }
  if (stalledMs > FROZEN_AFTER_MS && !excuses.mayStall(call)) {
    wrong.push(`its worker did not run for ${stalledMs} ms in the middle of it`);
  }
  switch (call.end.kind) {
    case 'answered':
      if (call.end.id !== call.id) {
        wrong.push(`got the answer of ${call.end.id}`);
      }
      if (began === 0 && !excuses.mayMissOutput(call)) {
        wrong.push('was answered, and no worker says that it ran');
      }
      break;
    case 'failed':
      if (!['Sandbox.Timedout', 'Runtime.ExitError', 'Esb.OutcomeUnknown'].includes(call.end.type)) {
        wrong.push('failed in a way that its function does not have');
      }
      break;
    case 'refused':
      if (began > 0) {
        wrong.push('was refused as not started, and ran');
      }
      break;
    case 'unknown':
    case 'lost':
      break;
    case 'hung':
      wrong.push(`had no answer after ${HUNG_AFTER_MS} ms`);
      break;
    case 'nonsense':
      wrong.push('had an answer that makes no sense');
      break;
    default:
      return unreachable(call.end);
  }
  return wrong;
}
