import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, describe, expect, it } from 'vitest';
import { Random } from '../../chaos/random.ts';
import { type EventRunResult, hasEnded, MOMENTS, runEvents } from '../../support/event-run.ts';
import { startGatewayProcess } from '../../support/gateway-process.ts';
import { startPostgresServer } from '../../support/postgres-server.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Events of one run: 100 every time, 1,000 for the whole proof. */
const EVENTS = Number(process.env.ESB_EVENT_CALLS ?? '50');
const SEED = Number(process.env.ESB_EVENT_SEED ?? Date.now() % 1_000_000);
const TIMEOUT_MS = 180_000 + EVENTS * 1_000;

/** Ends of the role under events that run: 20 of events of 30 s for the whole proof. */
const ENDS = Number(process.env.ESB_EVENT_ENDS ?? '4');
const LONG_MS = Number(process.env.ESB_EVENT_LONG_MS ?? '4000');

const FLAGS = ['--authentication', 'off', '--log-level', 'warn'];

function randomOf(seed: number): () => number {
  const random = new Random(seed);
  return () => random.next();
}

const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) {
    await close();
  }
});

/** Tries of one event of each function that come to an end of the function: none is given again that has ended. */
const MOST_RUNS: Readonly<Record<string, number>> = { steady: 1, flaky: 2, broken: 2, posted: 1, letters: 3 };

/** Nothing that was accepted is lost, and a gateway was killed at each of the moments. */
function expectNothingLost(result: EventRunResult): void {
  const { accepted, kills } = result;
  expect(accepted.size).toBe(EVENTS);
  const lost = [...accepted].filter(([id, name]) => !hasEnded(id, name, result));
  expect(lost).toEqual([]);
  expect(new Set(kills.map(({ moment }) => moment))).toEqual(new Set(MOMENTS));
}

/** Ended events ran in no second worker, in spite of all kills. */
function expectNoneRunAgain({ runs }: EventRunResult): void {
  const again = [...Map.groupBy(runs, ({ requestId }) => requestId).values()].filter(
    (seen) =>
      seen.length > (MOST_RUNS[seen[0]?.functionName ?? ''] ?? 0) || seen.slice(0, -1).some(({ failed }) => !failed),
  );
  expect(again).toEqual([]);
}

/** Second runs are of events that a killed gateway had under way: this store does not tell where a try was sent. */
function expectRunAgainByKillsAlone({ kills, runs }: EventRunResult): void {
  const successes = Map.groupBy(
    runs.filter(({ failed }) => !failed),
    ({ requestId }) => requestId,
  );
  const unexplained = [...successes.values()].flatMap((seen) =>
    seen.slice(1).filter((run, index) => {
      const before = seen[index]?.at ?? 0;
      // The end of the first run was not written down: its gateway was killed before it could, or while it ran.
      return !kills.some(({ at }) => at > before - 500 && at < run.at);
    }),
  );
  expect(unexplained).toEqual([]);
}

describe(`${EVENTS} events through gateways or a role that are killed again and again (ESB_EVENT_SEED=${SEED})`, () => {
  it('are all brought to their end from SQLite, by a role that keeps them for two gateways', {
    tags: ['G11'],
    timeout: TIMEOUT_MS,
  }, async () => {
    const gateway = await startGatewayProcess(FLAGS, { role: true });
    closers.push(gateway.close);
    const peer = await gateway.startPeer();
    const { role } = gateway;
    if (role === undefined) {
      throw new Error('there is no role');
    }
    let turns = 0;
    const result = await runEvents({
      gateway,
      targets: [role],
      called: [gateway, peer],
      events: EVENTS,
      random: randomOf(SEED),
      hurriesAlive: false,
      hurry: async () => {
        turns += 1;
        // Every other time the role itself is the first to open what it left.
        if (turns % 2 === 0) {
          return;
        }
        const database = new DatabaseSync(join(role.stateDir, 'events.db'));
        database.exec('UPDATE events SET visible_at = visible_at - 300000 WHERE claim IS NULL');
        database.close();
      },
    });
    expectNothingLost(result);
    expectNoneRunAgain(result);
    console.log(summary('SQLite', result));
  });

  it('are all brought to their end from PostgreSQL, by two gateways, while the database is killed too', {
    tags: ['G11'],
    timeout: TIMEOUT_MS,
  }, async () => {
    const server = await startPostgresServer();
    closers.push(server.stop);
    const database = await server.createDatabase('events');
    const gateway = await startGatewayProcess([...FLAGS, '--event-store', 'postgres'], {
      env: { ...process.env, ESB_EVENT_DATABASE: database },
    });
    closers.push(gateway.close);
    const peer = await gateway.startPeer();
    const result = await runEvents({
      gateway,
      targets: [gateway, peer],
      events: EVENTS,
      random: randomOf(SEED),
      disturb: async (kill) => {
        if (kill % 5 === 0) {
          await server.kill();
          await server.start();
        }
      },
      hurriesAlive: true,
      hurry: async () => {
        await server.query(
          "UPDATE esb_events SET visible_at = visible_at - interval '300 seconds' WHERE claim IS NULL",
          'events',
        );
      },
    });
    // So that the database was killed too.
    expect(result.kills.length).toBeGreaterThanOrEqual(5);
    expectNothingLost(result);
    expectRunAgainByKillsAlone(result);
    console.log(summary('PostgreSQL', result));
  });
});

describe(`a role that ends ${ENDS} times, every other time killed, with events of ${LONG_MS} ms under way`, () => {
  it('has none of them run twice', { tags: ['G11'], timeout: 120_000 + ENDS * (LONG_MS + 30_000) }, async () => {
    const gateway = await startGatewayProcess(FLAGS, { role: true });
    closers.push(gateway.close);
    const { role } = gateway;
    if (role === undefined) {
      throw new Error('there is no role');
    }
    const begun: string[] = [];
    let ended = 0;
    gateway.agent.onInvoke((call) => {
      begun.push(call.request.requestId);
      const timer = setTimeout(() => {
        ended += 1;
        call.answer('{}');
      }, LONG_MS);
      closers.push(async () => clearTimeout(timer));
    });
    const names = ['long-0', 'long-1', 'long-2', 'long-3'];
    for (const name of names) {
      await gateway.addWorker(name, { timeoutSeconds: Math.ceil(LONG_MS / 1_000) + 30 });
    }
    const accepted: string[] = [];
    for (let turn = 0; turn < ENDS; turn += 1) {
      for (const name of names) {
        const url = `http://127.0.0.1:${gateway.port}/2015-03-31/functions/${name}/invocations`;
        const answer = await fetch(url, { method: 'POST', headers: { 'x-amz-invocation-type': 'Event' }, body: '{}' });
        expect(answer.status).toBe(202);
        accepted.push(answer.headers.get('x-amzn-requestid') ?? '');
      }
      await waitFor('all workers to have an event', () => begun.length - ended === names.length, {
        timeoutMs: 60_000 + 2 * LONG_MS,
        everyMs: 5,
      });
      if (turn % 2 === 0) {
        await role.kill();
      } else {
        role.process.signal('SIGTERM');
        await waitFor('the role to end', () => role.process.ended(), { timeoutMs: 70_000, everyMs: 20 });
      }
      await role.start();
      await role.ready();
    }
    await waitFor('all events to have run', () => ended >= accepted.length, {
      timeoutMs: 60_000 + 2 * LONG_MS,
      everyMs: 50,
    });
    await waitFor('the store to be empty', async () => (await role.metric('esb_gateway_events_pending')) === 0, {
      timeoutMs: 60_000,
    });
    expect(begun.toSorted()).toEqual(accepted.toSorted());
  });
});

function summary(store: string, { accepted, runs, kills, letters, posts, successes }: EventRunResult): string {
  const good = runs.filter(({ failed }) => !failed).map(({ requestId }) => requestId);
  return `${store}: ${accepted.size} accepted, ${kills.length} kills, ${runs.length} runs, ${good.length - new Set(good).size} of them again after a success, ${letters.length} letters, ${posts.length} posts, ${successes.length} records of success`;
}
