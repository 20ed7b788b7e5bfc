import { Agent } from 'node:http';
import { type BenchResult, compare } from './bench-result.ts';
import { distributionOf } from './distribution.ts';
import type { Scenario } from './scenario.ts';
import { times } from './scenario.ts';
import { timedPost } from './timed-call.ts';
import { startTwoHopProxy } from './two-hop-proxy.ts';

const CONNECTIONS = 64;
const SLICE_MS = 4_000;
/** The path of the emulator, answered at once. */
const instantWorker =
  "require('http').createServer((q,s)=>{q.resume();q.on('end',()=>{s.setHeader('content-type','application/json');s.end('{}')})}).listen(8080,'0.0.0.0')";

/** Calls a second over 64 connections for one slice of time. */
async function rate(url: string): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const end = performance.now() + SLICE_MS;
  let calls = 0;
  const began = performance.now();
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      while (performance.now() < end) {
        await timedPost(agent, url, '{}');
        calls += 1;
      }
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  agent.destroy();
  return calls / seconds;
}

/** 64 connections to one worker that answers at once, against the bare two-hop proxy of the same transport. */
export const warmThroughput: Scenario = {
  name: 'warm-throughput',
  async run(bench): Promise<BenchResult> {
    const { instance } = bench;
    await instance.apply('instant', {
      image: instance.image('nodejs-counter'),
      command: ['node', '-e', instantWorker],
      resources: { limits: { memory: '256Mi' } },
    });
    const { status } = await instance.waitForPhase('instant', 'Running');
    const direct = `http://${status?.address?.ip}:${status?.address?.port}/`;
    const wide = await startTwoHopProxy(direct, CONNECTIONS);
    const narrow = await startTwoHopProxy(direct, 1);
    try {
      const ours: number[] = [];
      const baseline: number[] = [];
      const one: number[] = [];
      const url = instance.functionUrl('instant');
      await rate(url);
      await rate(wide.url);
      await rate(narrow.url);
      for (let round = 0; round < times(bench, 12); round += 1) {
        baseline.push(await rate(wide.url));
        ours.push(await rate(url));
        one.push(await rate(narrow.url));
      }
      const narrowRate = distributionOf(one).p50;
      return compare({
        name: 'warm-throughput',
        unit: 'calls/s',
        ours,
        baseline: { what: 'bare two-hop proxy, HTTP/1.1, gRPC over mutual TLS, HTTP/1.1', sample: baseline },
        budget: 'p50 ≥ 0.9 × bare',
        met: (mine, bareOnes) => mine.p50 >= 0.9 * bareOnes.p50,
        note: `the same proxy with one connection to the worker: ${narrowRate.toFixed(0)} calls/s, ours is ${(distributionOf(ours).p50 / narrowRate).toFixed(2)} × that`,
      });
    } finally {
      await wide.stop();
      await narrow.stop();
      await instance.delete('instant');
    }
  },
};
