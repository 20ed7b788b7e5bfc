import { spawn } from 'node:child_process';
import { Agent } from 'node:http';
import { setTimeout as elapse } from 'node:timers/promises';
import { InvokeWithResponseStreamCommand, LambdaClient } from '@aws-sdk/client-lambda';
import type { BenchInstance } from './bench-instance.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { distributionOf } from './distribution.ts';
import { agentProcess, containerProcesses, gatewayProcess, residentMiB } from './processes.ts';
import { firstLine } from './program.ts';
import { type Scenario, times } from './scenario.ts';
import { plainStreamServer, streamFunction } from './stream-function.ts';
import { openStream, timedStream } from './stream-reader.ts';
import { startTwoHopProxy } from './two-hop-proxy.ts';

const MIB = 2 ** 20;
/** Bytes of one streamed answer. */
const BYTES = 64 * MIB;
/** Streams that stand still at once. */
const IDLE = 8;

/** Returns the id of the container. */
async function applyStreamFunction(instance: BenchInstance, name: string): Promise<string> {
  await instance.apply(name, {
    image: instance.image('nodejs-counter'),
    command: ['node', '-e', streamFunction],
    timeoutSeconds: 300,
    resources: { limits: { memory: '256Mi' } },
  });
  return (await instance.waitForPhase(name, 'Running')).status?.containerID ?? '';
}

/**
 * The first byte of an answer that a running Node.js function streams, against the same function under a bare Runtime
 * API, in turns.
 */
export const streamFirstByte: Scenario = {
  name: 'stream-first-byte',
  async run(bench) {
    const { instance, bare } = bench;
    const agent = new Agent({ keepAlive: true });
    const child = spawn(process.execPath, ['-e', streamFunction], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { AWS_LAMBDA_RUNTIME_API: bare.api.addressOn('127.0.0.1') },
    });
    const bareUrl = bare.api.urlOf('127.0.0.1');
    const ours: number[] = [];
    const baseline: number[] = [];
    try {
      await bare.api.untilWaiting(bareUrl);
      await applyStreamFunction(instance, 'streams');
      for (let round = 0; round < times(bench, 1000); round += 1) {
        const plain = await timedStream(agent, bareUrl, {});
        const streamed = await timedStream(agent, instance.streamUrl('streams'), {});
        if (round >= 50 || bench.scale < 0.1) {
          baseline.push(plain.firstByteMs);
          ours.push(streamed.firstByteMs);
        }
      }
    } finally {
      child.kill('SIGKILL');
      agent.destroy();
      await instance.delete('streams');
    }
    return compare({
      name: 'stream-first-byte',
      unit: 'ms',
      ours,
      baseline: { what: 'a bare Runtime API of one page, the same Node.js function', sample: baseline },
      budget: 'p50 ≤ bare + 2 ms',
      met: (mine, bareOnes) => mine.p50 - bareOnes.p50 <= 2,
    });
  },
};

/**
 * How fast a long answer comes, read as plain bytes against the bare two-hop proxy in front of a server that writes the
 * same, and through the SDK for JavaScript; and what streams cost that stand still.
 */
export const streamThroughput: Scenario = {
  name: 'stream-throughput',
  async run(bench): Promise<readonly BenchResult[]> {
    const { instance } = bench;
    const agent = new Agent({ keepAlive: true });
    const plain = await firstLine(
      spawn(process.execPath, ['-e', plainStreamServer], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    const proxy = await startTwoHopProxy(`http://127.0.0.1:${plain.line}/`, 1);
    const sdk = new LambdaClient({
      endpoint: instance.gateway,
      region: 'us-east-1',
      credentials: { accessKeyId: 'bench', secretAccessKey: 'bench' },
    });
    const ours: number[] = [];
    const bySdk: number[] = [];
    const baseline: number[] = [];
    try {
      await applyStreamFunction(instance, 'streams');
      for (let round = 0; round < times(bench, 8); round += 1) {
        const bareAnswer = await timedStream(agent, proxy.url, { bytes: BYTES });
        const answer = await timedStream(agent, instance.streamUrl('streams'), { bytes: BYTES });
        if (bareAnswer.bytes !== BYTES + 1 || answer.bytes < BYTES) {
          throw new Error(`the answers had ${bareAnswer.bytes} and ${answer.bytes} bytes`);
        }
        baseline.push(BYTES / MIB / (bareAnswer.totalMs / 1000));
        ours.push(BYTES / MIB / (answer.totalMs / 1000));
        bySdk.push(BYTES / MIB / (await secondsBySdk(sdk)));
      }
      const what = 'bare two-hop proxy with mutual TLS, to a server that writes the same';
      return [
        compare({
          name: 'stream-throughput',
          unit: 'MiB/s',
          ours,
          baseline: { what, sample: baseline },
          budget: 'p50 ≥ 0.6 × bare',
          met: (mine, bareOnes) => mine.p50 >= 0.6 * bareOnes.p50,
        }),
        compare({
          name: 'stream-throughput-sdk',
          unit: 'MiB/s',
          ours: bySdk,
          baseline: { what, sample: baseline },
          budget: 'p50 ≥ 20 MB/s through the SDK for JavaScript',
          met: (mine) => mine.p50 * MIB >= 20e6,
        }),
        await idleStreams(instance, agent),
      ];
    } finally {
      sdk.destroy();
      agent.destroy();
      await proxy.stop();
      plain.stop();
      await instance.delete('streams');
    }
  },
};

async function secondsBySdk(sdk: LambdaClient): Promise<number> {
  const began = performance.now();
  const { EventStream } = await sdk.send(
    new InvokeWithResponseStreamCommand({ FunctionName: 'streams', Payload: JSON.stringify({ bytes: BYTES }) }),
  );
  let bytes = 0;
  for await (const event of EventStream ?? []) {
    bytes += event.PayloadChunk?.Payload?.length ?? 0;
  }
  if (bytes !== BYTES + 1) {
    throw new Error(`the SDK read ${bytes} bytes`);
  }
  return (performance.now() - began) / 1000;
}

/** Resident set that streams add to each part, where the function writes on and their callers do not read. */
async function idleStreams(instance: BenchInstance, agent: Agent): Promise<BenchResult> {
  const names = Array.from({ length: IDLE }, (_, index) => `idle-${index}`);
  const containers = await Promise.all(names.map((name) => applyStreamFunction(instance, name)));
  for (const name of names) {
    await timedStream(agent, instance.streamUrl(name), { bytes: MIB });
  }
  const parts = async (): Promise<readonly number[]> => {
    await elapse(3_000);
    const { pid: gateway } = await gatewayProcess(instance);
    const { pid: node } = await agentProcess(instance);
    const inits = (await Promise.all(containers.map(containerProcesses)))
      .flat()
      .filter(({ commandLine }) => commandLine.startsWith('/run/esb/init '));
    const sizes = await Promise.all(inits.map(({ pid }) => residentMiB(pid)));
    return [await residentMiB(gateway), await residentMiB(node), sizes.reduce((sum, each) => sum + each, 0)];
  };
  const before = await parts();
  const wide = new Agent({ maxSockets: IDLE });
  const streams = await Promise.all(
    names.map((name) => openStream(wide, instance.streamUrl(name), { bytes: 128 * MIB, hold: true })),
  );
  const after = await parts();
  for (const stream of streams) {
    stream.destroy();
  }
  wide.destroy();
  await Promise.all(names.map((name) => instance.delete(name)));
  const each = after.map((size, part) => (size - (before[part] ?? 0)) / IDLE);
  const [gateway = 0, node = 0, init = 0] = each;
  return compare({
    name: 'stream-idle-memory',
    unit: 'MiB',
    ours: each,
    baseline: { what: 'no stream', sample: each.map(() => 0) },
    budget: '≤ 8 MiB of each part',
    met: () => Math.max(...each) <= 8,
    note: `resident set of each of ${IDLE} streams without a reader: gateway ${gateway.toFixed(2)}, agent ${node.toFixed(2)}, init ${init.toFixed(2)} MiB; most ${distributionOf(each).p99.toFixed(2)} MiB`,
  });
}
