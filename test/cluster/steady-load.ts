// Calls functions without a pause until it is told to end (SIGTERM), and then prints what became of the calls. The
// program runs on a node of the cluster, in a process of its own, and finds the gateway as any program there does: by
// its Service.
//   ESB_LOAD_TOKEN=... node steady-load.ts ORIGIN FUNCTION[,FUNCTION...] CLIENTS [OPTIONS]
// OPTIONS is the JSON of LoadCallOptions.
import { randomUUID } from 'node:crypto';
import { Agent, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

/** Output of the program at its end. */
export interface LoadResult {
  readonly answered: number;
  /** Names of the calls of type Event that were answered with 202. */
  readonly accepted: readonly string[];
  /** Of the calls that failed, the first ten thousand but one, and the last. */
  readonly failures: readonly LoadFailure[];
  readonly failed: number;
  readonly longestMs: number;
}

export interface LoadCallOptions {
  /** Payload of each call beside its own name. */
  readonly event?: object | undefined;
  /** Default RequestResponse. */
  readonly type?: 'Event';
  /** Milliseconds between an answer and the next call of the same client. Default 20. */
  readonly thinkMs?: number;
  /** Milliseconds for a call. Default: longer than any call takes while its worker moves. */
  readonly timeoutMs?: number;
}

export interface LoadFailure {
  readonly at: string;
  readonly functionName: string;
  /** Its name, which no other call has. */
  readonly call: string;
  /** Outcome as the gateway's header tells it, if there is one. */
  readonly outcome: string;
  readonly afterMs: number;
  readonly why: string;
}

const KEPT_FAILURES = 10_000;

const [origin = '', names = '', clients = '1', given = '{}'] = process.argv.slice(2);
const { event = {}, thinkMs = 20, timeoutMs = 120_000, type } = JSON.parse(given) as LoadCallOptions;
const load = randomUUID();
const functions = names.split(',');
const failures: LoadFailure[] = [];
const accepted: string[] = [];
let answered = 0;
let failed = 0;
let longestMs = 0;
let ending = false;

type Failure = Pick<LoadFailure, 'outcome' | 'why'>;

/** One call; gives why it failed. */
function call(functionName: string, payload: string, agent: Agent): Promise<Failure | undefined> {
  const done = Promise.withResolvers<Failure | undefined>();
  let outcome = '';
  const fail = (why: string): void => done.resolve({ outcome, why });
  const sent = request(`${origin}/2015-03-31/functions/${functionName}/invocations`, {
    method: 'POST',
    agent,
    timeout: timeoutMs,
    headers: {
      authorization: `Bearer ${process.env.ESB_LOAD_TOKEN ?? ''}`,
      ...(type === undefined ? {} : { 'x-amz-invocation-type': type }),
    },
  });
  sent.on('timeout', () => sent.destroy(new Error('no answer in time')));
  sent.on('error', (error: NodeJS.ErrnoException) => fail(`${error.code ?? ''} ${error.message}`));
  sent.on('response', (response) => {
    const chunks: Buffer[] = [];
    outcome = String(response.headers['x-esb-outcome'] ?? '');
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', (error) => fail(`in the answer: ${error.message}`));
    response.on('end', () => {
      const text = Buffer.concat(chunks).toString();
      const good =
        type === 'Event'
          ? response.statusCode === 202
          : response.statusCode === 200 &&
            response.headers['x-amz-function-error'] === undefined &&
            text.includes(payload);
      if (good) {
        done.resolve(undefined);
      } else {
        fail(`${response.statusCode} ${text.slice(0, 300)}`);
      }
    });
  });
  sent.end(JSON.stringify({ ...event, echo: payload }));
  return done.promise;
}

/**
 * Half of the clients keep their connection, and half open a new one each time, to the gateway that the Service
 * chooses.
 */
async function client(number: number): Promise<void> {
  const agent = new Agent(number % 2 === 0 ? { keepAlive: true, maxSockets: 1 } : { keepAlive: false });
  for (let turn = 0; !ending; turn++) {
    const functionName = functions[(number + turn) % functions.length] ?? '';
    const began = performance.now();
    const name = `${load} client ${number} turn ${turn}`;
    const failure = await call(functionName, name, agent);
    const afterMs = Math.round(performance.now() - began);
    longestMs = Math.max(longestMs, afterMs);
    if (failure === undefined) {
      answered += 1;
      if (type === 'Event') {
        accepted.push(name);
      }
    } else {
      failed += 1;
      const index = Math.min(failures.length, KEPT_FAILURES - 1);
      failures[index] = { at: new Date().toISOString(), functionName, call: name, afterMs, ...failure };
    }
    await delay(thinkMs);
  }
  agent.destroy();
}

process.on('SIGTERM', () => {
  ending = true;
});
// How far it is, a line each time.
const telling = setInterval(() => process.stdout.write(`${answered}\n`), 200);
await Promise.all(Array.from({ length: Number(clients) }, (_, number) => client(number)));
clearInterval(telling);
process.stdout.write(`${JSON.stringify({ answered, accepted, failed, longestMs, failures } satisfies LoadResult)}\n`);
