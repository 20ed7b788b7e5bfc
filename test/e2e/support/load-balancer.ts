import { Agent, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../../src/common/errors.ts';
import { TaskGroup } from '../../../src/common/task-group.ts';

/** Milliseconds between two looks at whether a gateway is ready. */
const LOOK_MS = 100;
/** Milliseconds after which a call without an answer counts as failed. */
const CALL_DEADLINE_MS = 90_000;

/** Where a gateway takes calls, and where it says whether it is ready. */
export interface BalancedGateway {
  readonly url: string;
  readonly ready: string;
}

/** Final answer to a client. */
export interface BalancedAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly text: string;
}

/** A call and how it went, on the monotonic clock in milliseconds. */
export interface BalancedCall {
  readonly functionName: string;
  readonly beganAt: number;
  readonly endedAt: number;
  /** Gateways that took no connection or answered 503, before the one that counts. */
  readonly passedOver: number;
  /** Undefined where the connection was lost, or no gateway took the call. */
  readonly answer: BalancedAnswer | undefined;
  readonly fault: string | undefined;
}

/**
 * Calls gateways as a load balancer does it: over kept-alive connections, in turns, at those that say that they are
 * ready. A call goes on to the next gateway, once each, where one takes no connection or answers 503, since it has run
 * nowhere then. Nothing else is repeated: what was sent and lost is a failure.
 */
export class LoadBalancer {
  readonly #gateways: readonly BalancedGateway[];
  readonly #ready: Set<BalancedGateway>;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 256 });
  readonly #looks = new TaskGroup((_name, error) => {
    throw error;
  });
  #next = 0;

  constructor(gateways: readonly BalancedGateway[]) {
    this.#gateways = gateways;
    this.#ready = new Set(gateways);
    for (const gateway of gateways) {
      this.#looks.run(gateway.url, (signal) => this.#look(gateway, signal));
    }
  }

  async call(functionName: string, event: object): Promise<BalancedCall> {
    const beganAt = performance.now();
    let passedOver = 0;
    const ended = (answer: BalancedAnswer | undefined, fault?: string): BalancedCall => ({
      functionName,
      beganAt,
      endedAt: performance.now(),
      passedOver,
      answer,
      fault,
    });
    let refusal = 'no gateway is ready';
    for (const gateway of this.#inTurn()) {
      try {
        const answer = await this.#post(gateway, functionName, JSON.stringify(event));
        if (answer.status !== 503) {
          return ended(answer);
        }
        refusal = `503 ${answer.text}`;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED') {
          return ended(undefined, messageOf(error));
        }
        refusal = messageOf(error);
      }
      passedOver += 1;
    }
    return ended(undefined, refusal);
  }

  async close(): Promise<void> {
    await this.#looks.stop();
    this.#agent.destroy();
  }

  /** Targets that are ready, and after them the others, which may have become ready since they were asked. */
  #inTurn(): readonly BalancedGateway[] {
    this.#next += 1;
    const from = this.#next % this.#gateways.length;
    const turned = [...this.#gateways.slice(from), ...this.#gateways.slice(0, from)];
    return turned.toSorted((a, b) => Number(this.#ready.has(b)) - Number(this.#ready.has(a)));
  }

  async #look(gateway: BalancedGateway, signal: AbortSignal): Promise<void> {
    for (;;) {
      const answer = await fetch(gateway.ready, {
        signal: AbortSignal.any([signal, AbortSignal.timeout(2_000)]),
      }).catch(() => undefined);
      await answer?.body?.cancel();
      if (answer?.ok === true) {
        this.#ready.add(gateway);
      } else {
        this.#ready.delete(gateway);
      }
      await delay(LOOK_MS, undefined, { signal });
    }
  }

  #post(gateway: BalancedGateway, functionName: string, body: string): Promise<BalancedAnswer> {
    const done = Promise.withResolvers<BalancedAnswer>();
    const outgoing = request(
      `${gateway.url}/2015-03-31/functions/${functionName}/invocations`,
      { agent: this.#agent, method: 'POST', headers: { 'content-length': Buffer.byteLength(body) } },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', done.reject);
        incoming.on('end', () =>
          done.resolve({
            status: incoming.statusCode ?? 0,
            headers: incoming.headers,
            text: Buffer.concat(chunks).toString(),
          }),
        );
      },
    );
    outgoing.setTimeout(CALL_DEADLINE_MS, () => outgoing.destroy(new Error(`no answer in ${CALL_DEADLINE_MS} ms`)));
    outgoing.on('error', done.reject);
    outgoing.end(body);
    return done.promise;
  }
}
