import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, describe, expect, it } from 'vitest';
import { Random } from '../../chaos/random.ts';
import { type EventRunResult, hasEnded, MOMENTS, runEvents } from '../../support/event-run.ts';
import { startGatewayProcess } from '../../support/gateway-process.ts';
import { startPostgresServer } from '../../support/postgres-server.ts';

/** Events of one run: 100 every time, 1,000 for the whole proof. */
const EVENTS = Number(process.env.ESB_EVENT_CALLS ?? '50');
const SEED = Number(process.env.ESB_EVENT_SEED ?? Date.now() % 1_000_000);
const TIMEOUT_MS = 180_000 + EVENTS * 1_000;

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

/** Nothing that was accepted is lost, and what was run again is what a killed gateway had under way. */
function expectNothingLost(result: EventRunResult): void {
  const { accepted, runs, kills } = result;
  expect(accepted.size).toBe(EVENTS);
  const lost = [...accepted].filter(([id, name]) => !hasEnded(id, name, result));
  expect(lost).toEqual([]);
  expect(new Set(kills.map(({ moment }) => moment))).toEqual(new Set(MOMENTS));
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
    console.log(summary('PostgreSQL', result));
  });
});

function summary(store: string, { accepted, runs, kills, letters, posts, successes }: EventRunResult): string {
  const good = runs.filter(({ failed }) => !failed).map(({ requestId }) => requestId);
  return `${store}: ${accepted.size} accepted, ${kills.length} kills, ${runs.length} runs, ${good.length - new Set(good).size} of them again after a success, ${letters.length} letters, ${posts.length} posts, ${successes.length} records of success`;
}
