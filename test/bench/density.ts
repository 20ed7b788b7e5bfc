import { readFile } from 'node:fs/promises';
import { setTimeout as elapse } from 'node:timers/promises';
import type { BareContainer } from './bare-containerd.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { agentProcess, childrenOf, type Process, processes, proportionalMiB } from './processes.ts';
import { type Scenario, times } from './scenario.ts';

/** Bare containers whose shims are weighed. */
const BARE = 20;
/** Milliseconds until the last creations have settled, and of each sample of processor time. */
const SETTLE_MS = 30_000;
const SAMPLE_MS = 10_000;
const SAMPLES = 6;
/** Clock ticks in a second, by which the kernel tells processor time. */
const TICKS = 100;

/** A small runtime: asks for a call, and waits. */
const smallRuntime = `
import os, socket
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
peer = socket.create_connection((host, int(port)))
peer.send(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
peer.recv(1)
`;

/** For a thousand workers at once. */
const patience = { timeoutMs: 1_800_000, everyMs: 1_000 };

async function weightOf(those: readonly Process[]): Promise<number> {
  let sum = 0;
  for (const { pid } of those) {
    sum += await proportionalMiB(pid);
  }
  return sum;
}

/** Milliseconds of processor time so far. */
async function processorTime(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'latin1')).split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS;
}

/** Percent of one processor, once for each sample. */
async function load(pid: number): Promise<number[]> {
  const samples: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    const before = await processorTime(pid);
    const began = performance.now();
    await elapse(SAMPLE_MS);
    samples.push(((await processorTime(pid)) - before) / (performance.now() - began) / 0.01);
  }
  return samples;
}

/**
 * 1,000 paused workers on one node: what of the memory is that of agent, shims and inits, against the shims of bare
 * containers; and what the agent takes of a processor while nothing happens, against containerd.
 */
export const density: Scenario = {
  name: 'density',
  agentOptions: ['--workers-per-shim=16', '--max-workers=1001'],
  async run(bench): Promise<readonly BenchResult[]> {
    const { instance, bare, say } = bench;
    const workers = times(bench, 1000);
    const ofInstance = ({ commandLine }: Process): boolean => commandLine.includes(instance.home);
    const isShim = ({ commandLine }: Process): boolean => commandLine.includes('containerd-shim-runc-v2');
    const shims = async (namespace: string): Promise<Process[]> =>
      (await processes()).filter(
        (each) => isShim(each) && ofInstance(each) && each.commandLine.includes(`-namespace ${namespace} `),
      );
    const containers: BareContainer[] = [];
    for (let index = 0; index < BARE; index += 1) {
      const container = await bare.create();
      await bare.pause(container);
      containers.push(container);
    }
    const bareShims = await shims('esb-bench');
    const baseline = await Promise.all(bareShims.map(({ pid }) => proportionalMiB(pid)));
    for (const container of containers) {
      await bare.remove(container);
    }
    const names = Array.from({ length: workers }, (_, index) => `dense-${index}`);
    const before = new Set((await shims('esb')).map(({ pid }) => pid));
    const began = performance.now();
    for (const name of names) {
      await instance.apply(name, {
        desiredState: 'Paused',
        command: ['python3', '-I', '-S', '-c', smallRuntime],
        resources: { limits: { memory: '15Mi' } },
        ephemeralStorage: '1Mi',
      });
    }
    for (const [index, name] of names.entries()) {
      await instance.waitForPhase(name, 'Paused', patience);
      if (index % 100 === 99) {
        say(`${index + 1} of ${workers} paused after ${Math.round((performance.now() - began) / 1000)} s`);
      }
    }
    await elapse(SETTLE_MS);
    const own = (await shims('esb')).filter(({ pid }) => !before.has(pid));
    const agent = await agentProcess(instance);
    const [containerd] = (await processes()).filter(
      (each) => ofInstance(each) && / ?\S*\/containerd --config /.test(` ${each.commandLine}`),
    );
    if (containerd === undefined) {
      throw new Error('containerd of the instance is not to be found');
    }
    const agentWeight = await proportionalMiB(agent.pid);
    const shimWeight = await weightOf(own);
    const inits = await childrenOf(
      (await processes()).filter(({ commandLine }) => commandLine.startsWith('/run/esb/init ')),
      own,
    );
    const initWeight = await weightOf(inits);
    const each = (agentWeight + shimWeight + initWeight) / workers;
    const idle = await load(agent.pid);
    const containerdIdle = await load(containerd.pid);
    await Promise.all(names.map((name) => instance.delete(name, patience)));
    return [
      compare({
        name: 'density',
        unit: 'MiB',
        ours: [each],
        baseline: { what: 'proportional set size of the shim of a bare paused container', sample: baseline },
        budget: '≤ 1.5 MiB of our own for each paused worker',
        met: (mine) => mine.p50 <= 1.5,
        note: `${workers} paused workers, ${own.length} shims with ${shimWeight.toFixed(0)} MiB, agent ${agentWeight.toFixed(0)} MiB, ${inits.length} inits ${initWeight.toFixed(0)} MiB; a small runtime, which is not counted`,
      }),
      compare({
        name: 'agent-idle-cpu',
        unit: '%',
        ours: idle,
        baseline: { what: 'containerd of the same node, next', sample: containerdIdle },
        budget: 'p50 < 1 %',
        met: (mine) => mine.p50 < 1,
        note: `${workers} paused workers, ${SAMPLES} samples of ${SAMPLE_MS / 1000} s`,
      }),
    ];
  },
};
