import { spawn } from 'node:child_process';
import { compare } from './bench-result.ts';
import { closedLoop } from './closed-loop.ts';
import { type Scenario, times } from './scenario.ts';

const PLACES = 64;
const SLICE_MS = 4_000;

/** A function for Node.js that sleeps for 10 ms, with 64 calls at once: as many loops, as AWS's client makes them. */
const sleepingFunction = `
const http = require('http');
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true });
const ask = (method, path, body, take) => {
  const request = http.request({ host, port, agent, method, path: '/2018-06-01/runtime/invocation/' + path }, take);
  request.on('error', () => process.exit(1));
  request.end(body);
};
const next = () => ask('GET', 'next', undefined, (answer) => {
  answer.resume();
  answer.on('end', () => setTimeout(() => {
    ask('POST', answer.headers['lambda-runtime-aws-request-id'] + '/response', '{}', (told) => {
      told.resume();
      told.on('end', next);
    });
  }, 10));
});
for (let loop = 0; loop < ${PLACES}; loop++) next();
`;

/**
 * Calls a second over 64 connections to one worker that takes 64 calls at once, each of which sleeps for 10 ms, against
 * the same function as a process under a bare Runtime API of one page behind Fastify.
 */
export const runtimeConcurrent: Scenario = {
  name: 'runtime-concurrent',
  async run(bench) {
    const { instance, bare } = bench;
    const child = spawn(process.execPath, ['-e', sleepingFunction], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { AWS_LAMBDA_RUNTIME_API: bare.api.addressOn('127.0.0.1') },
    });
    const bareUrl = bare.api.urlOf('127.0.0.1');
    const url = instance.functionUrl('concurrent');
    const rate = async (to: string): Promise<number> => (await closedLoop(to, PLACES, { ms: SLICE_MS })).callsPerSecond;
    const ours: number[] = [];
    const baseline: number[] = [];
    try {
      await bare.api.untilWaiting(bareUrl);
      await instance.apply('concurrent', {
        image: instance.image('nodejs-counter'),
        command: ['node', '-e', sleepingFunction],
        concurrency: { perWorker: PLACES },
        resources: { limits: { memory: '256Mi' } },
      });
      await instance.waitForPhase('concurrent', 'Running');
      await rate(bareUrl);
      await rate(url);
      for (let round = 0; round < times(bench, 6); round += 1) {
        baseline.push(await rate(bareUrl));
        ours.push(await rate(url));
      }
    } finally {
      child.kill('SIGKILL');
      await instance.delete('concurrent');
    }
    return compare({
      name: 'runtime-concurrent',
      unit: 'calls/s',
      ours,
      baseline: { what: 'the same Node.js function under a bare Runtime API of one page', sample: baseline },
      budget: 'p50 ≥ 0.6 × bare',
      met: (mine, bareOnes) => mine.p50 >= 0.6 * bareOnes.p50,
    });
  },
};
