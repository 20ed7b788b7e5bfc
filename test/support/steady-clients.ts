import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { onTestFinished } from 'vitest';

export interface SteadyClientsOptions {
  readonly url: string;
  readonly clients: number;
  /** Milliseconds between an answer and the next request of the same client, from 0 up to this. */
  readonly thinkMs: number;
}

/** Results of all requests. */
export interface SteadyTally {
  readonly answered: number;
  /** Connections that were refused: nothing was sent. */
  readonly refused: number;
  /** Requests that were sent and not answered, by the code of the error. */
  readonly lost: Readonly<Record<string, number>>;
}

export interface SteadyClients {
  /** Answers so far. */
  answered(): number;
  /** Tells them to go elsewhere, as a load balancer does: no further request is begun. */
  leave(): void;
  /** Waits until every client was refused or has left. */
  result(): Promise<SteadyTally>;
}

// Each client has one connection, which it keeps as long as it may.
const program = `
const { parentPort, workerData } = require('node:worker_threads');
const http = require('node:http');
const { url, clients, thinkMs, counter } = workerData;
const answered = new Int32Array(counter);
const tally = { refused: 0, lost: {} };
let leaving = false;
parentPort.on('message', () => { leaving = true; });
function call(agent) {
  return new Promise((resolve) => {
    const request = http.request(url, { method: 'POST', agent }, (response) => {
      response.resume();
      response.on('end', () => { Atomics.add(answered, 0, 1); resolve(true); });
      response.on('error', (error) => { fail(error); resolve(false); });
    });
    const fail = (error) => {
      if (error.code === 'ECONNREFUSED') { tally.refused += 1; }
      else { tally.lost[error.code] = (tally.lost[error.code] ?? 0) + 1; }
    };
    request.on('error', (error) => { fail(error); resolve(false); });
    request.end('{}');
  });
}
async function client() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  while (!leaving && await call(agent)) {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * thinkMs));
  }
  agent.destroy();
}
Promise.all(Array.from({ length: clients }, client)).then(() => {
  parentPort.postMessage(tally);
  parentPort.close();
});
`;

/**
 * Starts clients that call all the time, on a thread of their own: they and the server run at the same time.
 */
export function startSteadyClients(options: SteadyClientsOptions): SteadyClients {
  const counter = new SharedArrayBuffer(4);
  const answered = new Int32Array(counter);
  const worker = new Worker(program, { eval: true, workerData: { ...options, counter } });
  const tally = once(worker, 'message');
  tally.catch(() => undefined);
  onTestFinished(async () => {
    await worker.terminate();
  });
  return {
    answered: () => Atomics.load(answered, 0),
    leave: () => worker.postMessage('leave'),
    async result() {
      const [told] = (await tally) as [Omit<SteadyTally, 'answered'>];
      return { ...told, answered: Atomics.load(answered, 0) };
    },
  };
}
