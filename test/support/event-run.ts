import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { FakeCall } from './fake-agent.ts';
import type { GatewayProcess, LaunchedGateway } from './gateway-process.ts';
import { waitFor } from './wait-for.ts';

/** Behaviour of a function of the run. */
export const EVENT_FUNCTIONS = ['steady', 'flaky', 'broken', 'posted'] as const;
export type EventFunction = (typeof EVENT_FUNCTIONS)[number];

/** A moment at which a gateway is killed. */
export const MOMENTS = ['accepted', 'posted', 'begun', 'answered', 'starting', 'any'] as const;
export type Moment = (typeof MOMENTS)[number];

/** One run of an event as the agent saw it. */
export interface SeenRun {
  readonly at: number;
  readonly functionName: string;
  readonly requestId: string;
  readonly failed: boolean;
}

/** Result of a run. */
export interface EventRunResult {
  /** Request ids that were answered with 202, and by which function. */
  readonly accepted: ReadonlyMap<string, EventFunction>;
  readonly runs: readonly SeenRun[];
  /** When gateways were killed, and at which moments. */
  readonly kills: readonly { readonly at: number; readonly moment: Moment }[];
  /**
   * Request ids in the records that the function `letters` succeeded with or failed for good, and those that the
   * endpoint took.
   */
  readonly letters: readonly string[];
  readonly posts: readonly string[];
  /** Request ids in the records of success that the endpoint took. */
  readonly successes: readonly string[];
}

export interface EventRunOptions {
  readonly gateway: GatewayProcess;
  /** All that may be killed: gateways, or the role that keeps their events. */
  readonly targets: readonly LaunchedGateway[];
  /** The gateways that are called; the targets by default. */
  readonly called?: readonly LaunchedGateway[];
  readonly events: number;
  /** Gives 0 to below 1. */
  readonly random: () => number;
  /** Makes due at once what waits for its next try: minutes go by in no time. */
  readonly hurry: () => Promise<void>;
  /** Whether {@link EventRunOptions.hurry} works while gateways run, or only while they are dead. */
  readonly hurriesAlive: boolean;
  /** Further work while a gateway is dead. */
  readonly disturb?: (kill: number) => Promise<void>;
}

/** Kills after the last event was accepted, where time can be made to go by without them. */
const LAST_KILLS = 6;
/** Milliseconds that gateways have for their work between two of them. */
const CALM_MS = 3_000;

/** Senders at work at a time, and the milliseconds that each rests between two events at most. */
const SENDERS = 8;
const REST_MS = 600;

/**
 * Sends events to gateways that are killed again and again at chosen moments, until every event has been accepted and
 * every one that was accepted has come to its end. Calls may fail on the way: only a 202 counts. Half of the events are
 * kept for kills that wait for a moment, until each moment has had one.
 */
export async function runEvents(options: EventRunOptions): Promise<EventRunResult> {
  const { called = options.targets, events, gateway, random, targets } = options;
  const accepted = new Map<string, EventFunction>();
  const runs: SeenRun[] = [];
  const kills: { at: number; moment: Moment }[] = [];
  const letters: string[] = [];
  const posts: string[] = [];
  const successes: string[] = [];
  const hooks = new Map<Moment, () => void>();
  const reached = (moment: Moment): void => hooks.get(moment)?.();

  const endpoint = await startEndpoint((record) => {
    reached('posted');
    // One in three is not taken at first.
    if (random() < 0.33) {
      return 503;
    }
    // A letter that its function failed with three times comes as the record of a record.
    const inner = record.requestPayload.requestContext?.requestId;
    if (record.requestContext.condition === 'Success') {
      successes.push(record.requestContext.requestId);
    } else if (inner === undefined) {
      posts.push(record.requestContext.requestId);
    } else {
      letters.push(inner);
    }
    return 200;
  });
  const failedOnce = new Set<string>();
  gateway.agent.onInvoke((call) => {
    reached('begun');
    void delay(random() * 30).then(() => {
      const failed = answer(call, failedOnce, letters, random);
      const { worker, requestId } = call.request;
      runs.push({ at: performance.now(), functionName: worker.name, requestId, failed });
      reached('answered');
    });
  });
  await addFunctions(gateway, endpoint.url);
  await Promise.all(targets.map((target) => target.ready()));

  let isSending = true;
  let isDrained = false;
  let lastKills = 0;
  const killer = async (): Promise<void> => {
    for (let turn = 0; !isDrained || turn < MOMENTS.length; turn += 1) {
      const target = targets[turn % targets.length];
      if (target === undefined) {
        throw new Error('there has to be a gateway');
      }
      lastKills += isSending ? 0 : 1;
      if (options.hurriesAlive && lastKills > LAST_KILLS) {
        await options.hurry();
        await delay(CALM_MS);
        continue;
      }
      const moment = await nextMoment(turn, kills, hooks, random, events);
      kills.push({ at: performance.now(), moment });
      await target.kill();
      await options.disturb?.(kills.length);
      await options.hurry();
      await target.start();
      // One that is killed while it starts is not waited for; and once all are sent, gateways get time to do their
      // work.
      if (!isStarting(turn + 1)) {
        await target.ready();
      }
      if (!isSending) {
        await delay(CALM_MS);
      }
    }
    await Promise.all(targets.map((target) => target.ready()));
  };
  const killing = killer();
  const send = async (): Promise<void> => {
    await Promise.all(
      Array.from({ length: SENDERS }, async (_, sender) => {
        for (let index = sender; index < events; index += SENDERS) {
          // On a slow machine all would be sent before the second gateway was killed.
          while (index >= events / 2 && hooks.size === 0 && !isDrained && !haveAllCome(kills)) {
            await delay(20);
          }
          const functionName = EVENT_FUNCTIONS[index % EVENT_FUNCTIONS.length] ?? 'steady';
          accepted.set(await sendOne(called, functionName, index, random), functionName);
          reached('accepted');
          await delay(random() * REST_MS);
        }
      }),
    );
    isSending = false;
    await waitFor(
      'every accepted event to come to its end',
      () => [...accepted].every(([id, name]) => hasEnded(id, name, { runs, letters, posts, successes })),
      { timeoutMs: 240_000 + events * 200, everyMs: 200 },
    );
  };
  try {
    // Without end but by a failure, until the sending is over.
    await Promise.race([send(), killing]);
  } finally {
    isDrained = true;
    await killing;
    endpoint.server.close();
    endpoint.server.closeAllConnections();
  }
  return { accepted, runs, kills, letters, posts, successes };
}

/** Whether what was promised of an event has happened. */
export function hasEnded(
  requestId: string,
  functionName: EventFunction,
  { letters, posts, runs, successes }: Pick<EventRunResult, 'letters' | 'posts' | 'runs' | 'successes'>,
): boolean {
  switch (functionName) {
    case 'steady':
      return runs.some((run) => run.requestId === requestId && !run.failed);
    case 'flaky':
      return successes.includes(requestId);
    case 'broken':
      return letters.includes(requestId);
    case 'posted':
      return posts.includes(requestId);
    default:
      throw new Error(`there is no function ${String(functionName)}`);
  }
}

/** Answers as the function would; whether it failed. */
function answer(call: FakeCall, failedOnce: Set<string>, letters: string[], random: () => number): boolean {
  const { worker, requestId, payload } = call.request;
  const fail = (): true => {
    call.answer('{"errorType":"Broken","errorMessage":"on purpose"}');
    return true;
  };
  switch (worker.name) {
    case 'broken':
    case 'posted':
      return fail();
    case 'flaky':
      if (!failedOnce.has(requestId)) {
        failedOnce.add(requestId);
        return fail();
      }
      break;
    case 'letters': {
      // The destination of another function fails now and then too.
      if (random() < 0.2) {
        return fail();
      }
      const record = JSON.parse(payload.toString()) as { requestContext: { requestId: string } };
      letters.push(record.requestContext.requestId);
      break;
    }
    default:
  }
  call.answer('{}');
  return false;
}

async function addFunctions(gateway: GatewayProcess, url: string): Promise<void> {
  const settings = (maximumRetryAttempts: number, destinations: object) => ({
    asyncInvoke: { maximumRetryAttempts, maximumEventAgeSeconds: 21_600, ...destinations },
  });
  await gateway.addWorker('steady');
  await gateway.addWorker('flaky', settings(2, { onSuccess: { url } }));
  await gateway.addWorker('letters', settings(2, { onFailure: { url } }));
  await gateway.addWorker('broken', settings(1, { onFailure: { functionName: 'letters' } }));
  await gateway.addWorker('posted', settings(0, { onFailure: { url } }));
}

/** Whether a gateway was killed at each of the moments. */
function haveAllCome(kills: EventRunResult['kills']): boolean {
  return MOMENTS.every((moment) => kills.some((kill) => kill.moment === moment));
}

/** Every third kill but one is at no moment of an event: while the gateway starts, or any time. */
function isStarting(turn: number): boolean {
  return turn % 6 === 2;
}

/**
 * Resolves when a gateway is to be killed: at the first of the moments that have come least so far. In a long run kills
 * are farther apart.
 */
async function nextMoment(
  turn: number,
  kills: EventRunResult['kills'],
  hooks: Map<Moment, () => void>,
  random: () => number,
  events: number,
): Promise<Moment> {
  if (isStarting(turn) || turn % 6 === 5) {
    await delay(random() * (isStarting(turn) ? 1_000 : events * 10));
    return isStarting(turn) ? 'starting' : 'any';
  }
  const counts = (['accepted', 'posted', 'begun', 'answered'] as const).map((moment) => ({
    moment,
    count: kills.filter((kill) => kill.moment === moment).length,
  }));
  const least = Math.min(...counts.map(({ count }) => count));
  const came = Promise.withResolvers<Moment>();
  for (const { moment } of counts.filter(({ count }) => count === least)) {
    // A record that is posted is the rarest of them.
    let left = moment === 'posted' ? 1 : 2 + Math.floor((random() * events) / 16);
    hooks.set(moment, () => {
      left -= 1;
      if (left === 0) {
        came.resolve(moment);
      }
    });
  }
  // Late in a run, with nothing left but tries that wait, none of them may come.
  const moment = await Promise.race([came.promise, delay(2_000 + events * 10).then((): Moment => 'any')]);
  hooks.clear();
  return moment;
}

/** Sends an event until a gateway accepts it; returns the request id. */
async function sendOne(
  targets: readonly LaunchedGateway[],
  functionName: string,
  index: number,
  random: () => number,
): Promise<string> {
  const end = performance.now() + 120_000;
  let last = '';
  while (performance.now() < end) {
    const target = targets[Math.floor(random() * targets.length)];
    try {
      const answered = await fetch(
        `http://127.0.0.1:${target?.port ?? 0}/2015-03-31/functions/${functionName}/invocations`,
        {
          method: 'POST',
          headers: { 'x-amz-invocation-type': 'Event' },
          body: JSON.stringify({ index }),
          signal: AbortSignal.timeout(10_000),
        },
      );
      await answered.arrayBuffer();
      if (answered.status === 202) {
        return answered.headers.get('x-amzn-requestid') ?? '';
      }
      last = `status ${answered.status}`;
    } catch (error) {
      // The gateway is dead, or has died under the call.
      last = String(error);
    }
    await delay(50);
  }
  throw new Error(`event ${index} was never accepted: ${last}`);
}

/** The part of a record that is looked at; its payload may be one too. */
interface SeenRecord {
  readonly requestContext: { readonly requestId: string; readonly condition?: string };
  readonly requestPayload: { readonly requestContext?: { readonly requestId: string } };
}

/** An endpoint for records; `take` gives the status. */
async function startEndpoint(
  take: (record: SeenRecord) => number,
): Promise<{ readonly server: Server; readonly url: string }> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const record = JSON.parse(Buffer.concat(chunks).toString()) as SeenRecord;
      response.writeHead(take(record)).end();
    });
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  const { port } = server.address() as AddressInfo;
  return { server, url: `http://127.0.0.1:${port}/failed` };
}
