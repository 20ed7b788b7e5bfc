import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { quantile } from '../bench/distribution.ts';
import { Random } from '../chaos/random.ts';
import { functionManifest } from '../support/function-manifest.ts';
import { patience } from '../support/patience.ts';
import { waitFor } from '../support/wait-for.ts';
import { type CounterAnswer, instance } from './support/instance.ts';
import { Parts } from './support/parts.ts';

/** Number of gateways that are called, two or three. A third makes the test twice as long. */
const GATEWAYS = Number(process.env.ESB_FAIR_GATEWAYS ?? 2);
const WORKERS = 4;
/** Seconds that a call runs: any time between these. */
const [SHORTEST, LONGEST] = [0.1, 0.5];
/** Calls a second that the workers of one function take. */
const CAPACITY = WORKERS / ((SHORTEST + LONGEST) / 2);
const QUEUED = { concurrency: { queueDepth: 1_000 } };

/** Functions with as many workers as ever, by their mode. */
const functions = {
  auto: { scaling: { mode: 'Auto', minWorkers: WORKERS, maxWorkers: WORKERS } },
  fixed: { scaling: { mode: 'Fixed', minWorkers: WORKERS } },
  reserved: { scaling: { mode: 'Fixed', minWorkers: WORKERS }, reservedConcurrency: WORKERS },
} as const;
const names = Object.keys(functions);

/** Enough calls that each smaller gateway gets as many as the one beside a single other. */
const loads = [
  { load: 0.9, calls: 240 * (GATEWAYS - 1) },
  { load: 1.3, calls: 300 * (GATEWAYS - 1) },
] as const;

/** A call that was answered, on the monotonic clock in milliseconds. */
interface Served {
  readonly gateway: number;
  readonly waitMs: number;
  readonly endedAt: number;
}

describe(`${GATEWAYS} gateways, of which the first has nine of ten calls,`, () => {
  const esb = instance();
  const parts = new Parts(esb);

  async function call(url: string, name: string, seconds: number): Promise<CounterAnswer> {
    const answer = await fetch(`${url}/2015-03-31/functions/${name}/invocations`, {
      method: 'POST',
      body: JSON.stringify({ sleep: seconds }),
      signal: AbortSignal.timeout(120_000 * patience()),
    });
    const text = await answer.text();
    expect(answer.status, text).toBe(200);
    return JSON.parse(text) as CounterAnswer;
  }

  /** Makes the functions, and waits until each gateway has had an answer of each of their workers. */
  async function ready(urls: readonly string[]): Promise<void> {
    onTestFinished(async () => {
      await esb.kubectl(['delete', 'lf', ...names, '--ignore-not-found', `--timeout=${90 * patience()}s`]);
    }, 120_000 * patience());
    for (const [name, spec] of Object.entries(functions)) {
      const template = { spec: { image: esb.image('python-counter'), timeoutSeconds: 20, ...QUEUED } };
      await esb.kubectl(['apply', '-f', '-'], { input: functionManifest(name, { ...spec, template }) });
    }
    await esb.kubectl(['wait', 'lf', ...names, '--for=condition=Ready', `--timeout=${120 * patience()}s`]);
    for (const name of names) {
      for (const url of urls) {
        await waitFor(`every worker of ${name} to answer at ${url}`, async () => {
          const answers = await Promise.all(Array.from({ length: WORKERS }, () => call(url, name, LONGEST)));
          return new Set(answers.map(({ bootId }) => bootId)).size === WORKERS;
        });
      }
    }
  }

  /** Calls a function at random times, however long the calls before take, each tenth time at a smaller gateway. */
  async function serve(urls: readonly string[], name: string, perSecond: number, calls: number) {
    const random = new Random(names.indexOf(name));
    const served: Promise<Served>[] = [];
    let dueAt = performance.now();
    for (let number = 0; number < calls; number += 1) {
      dueAt -= (Math.log(1 - random.next()) * 1_000) / perSecond;
      // The pace of the calls.
      await delay(Math.max(0, dueAt - performance.now()));
      const gateway = number % 10 === 9 ? 1 + (Math.floor(number / 10) % (urls.length - 1)) : 0;
      const seconds = SHORTEST + (LONGEST - SHORTEST) * random.next();
      const askedAt = performance.now();
      const ended = call(urls[gateway] ?? '', name, seconds).then(() => {
        const endedAt = performance.now();
        return { gateway, waitMs: endedAt - askedAt - seconds * 1_000, endedAt };
      });
      ended.catch(() => undefined);
      served.push(ended);
    }
    return { lastAt: performance.now(), served: await Promise.all(served) };
  }

  it(
    'have their shares of the workers, below and above what these take',
    async () => {
      const urls = [...(await parts.gateways())];
      if (GATEWAYS > urls.length) {
        const further = await parts.furtherGateway();
        onTestFinished(() => further.stop(), 60_000);
        urls.push(further.url);
      }
      expect(urls).toHaveLength(GATEWAYS);
      const numbers = urls.keys().toArray();
      await ready(urls);
      for (const { load, calls } of loads) {
        const runs = await Promise.all(
          names.map(async (name) => ({ name, ...(await serve(urls, name, load * CAPACITY, calls)) })),
        );
        for (const { lastAt, name, served } of runs) {
          const what = `${name}, ${load} × capacity`;
          const answered = served.filter(({ endedAt }) => endedAt <= lastAt);
          const shareOf = (of: readonly Served[], at: number): number =>
            of.filter(({ gateway }) => gateway === at).length / of.length;
          const slowest = numbers.map((at) =>
            quantile(
              served.filter(({ gateway }) => gateway === at).map(({ waitMs }) => waitMs),
              0.99,
            ),
          );
          const shares = numbers.map((at) => shareOf(answered, at) / shareOf(served, at));
          const told = `shares ${shares.map((each) => each.toFixed(2)).join(', ')}`;
          const waits = `waits ${slowest.map((each) => each.toFixed()).join(', ')} ms`;
          console.log(`${what}: ${answered.length} of ${served.length} answered, ${told}, ${waits}`);
          expect(Math.min(...shares), what).toBeGreaterThanOrEqual(0.8);
          expect(Math.max(...slowest), what).toBeLessThan(3 * Math.min(...slowest));
          // Else no call has waited for another one.
          expect(answered.length < 0.9 * served.length, what).toBe(load > 1);
        }
      }
    },
    300_000 * (GATEWAYS - 1) * patience(),
  );
});
