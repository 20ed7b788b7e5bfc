import { readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkerInits } from '../../../../src/init/contract.ts';
import type { ContainerRuntime, WorkerAddress } from '../../../../src/runtime/contract/runtime.ts';
import { startDockerLab } from '../../../support/docker-lab.ts';
import { startLab } from '../../../support/lab.ts';
import { nodeInits } from '../../../support/node-inits.ts';
import type { TestRegistry } from '../../../support/test-registry.ts';

const CGROUPS = '/sys/fs/cgroup';

/** Options that a test may choose for every runtime. */
export interface RuntimeLabOptions {
  readonly listenDeadlineMs?: number;
  /** Default: none, and so no worker of interface Lambda. */
  readonly inits?: WorkerInits;
}

/** A real engine of one kind with a registry that it reaches, for tests that hold for every kind. */
export interface RuntimeLab {
  readonly registry: TestRegistry;
  /** Reference of the test worker's image. */
  readonly image: string;
  /** A runtime on it; started, and stopped with the lab. */
  runtime(options?: RuntimeLabOptions): Promise<ContainerRuntime>;
  /** The inits of the node, for a runtime to start. */
  inits(): Promise<WorkerInits>;
  /** Calls a worker as the agent does. */
  call(address: WorkerAddress | undefined, payload: unknown, timeoutMs?: number): Promise<unknown>;
  /** SIGKILL. Workers live on. */
  killEngine(): Promise<void>;
  startEngine(): Promise<void>;
  /** Makes a container that is none of ours, with a process that stays. */
  startForeign(name: string): Promise<Foreign>;
  /** Traces of workers anywhere on the node. */
  leftovers(): Promise<string[]>;
  close(): Promise<void>;
}

export interface Foreign {
  isRunning(): Promise<boolean>;
  remove(): Promise<void>;
}

const nowhere: WorkerAddress = { ip: '', port: 0 };

export async function containerdLab(): Promise<RuntimeLab> {
  const lab = await startLab();
  return {
    registry: lab.registry,
    image: lab.image,
    runtime: (options) => lab.runtime(options),
    inits: () => nodeInits(lab.folder),
    async call(address, payload, timeoutMs = 10_000) {
      // Workers in the network of the node are in that of this process.
      if (address?.ip === '127.0.0.1') {
        return await callHere(address, payload, timeoutMs);
      }
      return await lab.caller.call(address ?? nowhere, payload, timeoutMs);
    },
    killEngine: () => lab.killContainerd(),
    startEngine: () => lab.startContainerd(),
    async startForeign(name) {
      // All of our own namespace is ours.
      const ctr = (...args: readonly string[]) => lab.ctr('--namespace', 'other', ...args);
      await ctr('images', 'pull', '--plain-http', lab.image);
      await ctr('run', '--detach', lab.image, name);
      return {
        isRunning: async () => new RegExp(`^${name} .*RUNNING`, 'm').test(await ctr('tasks', 'list')),
        async remove() {
          await ctr('tasks', 'delete', '--force', name);
          await ctr('containers', 'delete', name);
          // containerd makes a control group for the namespace and never removes it.
          for (const hierarchy of await readdir(CGROUPS)) {
            await rmdir(join(CGROUPS, hierarchy, 'other')).catch(() => undefined);
          }
        },
      };
    },
    leftovers: () => lab.leftovers(),
    close: () => lab.close(),
  };
}

export async function dockerLab(): Promise<RuntimeLab> {
  const lab = await startDockerLab();
  return {
    registry: lab.registry,
    image: lab.image,
    runtime: (options) => lab.runtime(options),
    inits: () => nodeInits(lab.folder),
    call: (address, payload, timeoutMs) => lab.caller.call(address ?? nowhere, payload, timeoutMs),
    killEngine: () => lab.killEngine(),
    startEngine: () => lab.startEngine(),
    async startForeign(name) {
      await lab.docker('run', '--detach', '--network', 'none', '--name', name, lab.image);
      return {
        isRunning: async () =>
          (await lab.docker('container', 'ls', '--format', '{{.Names}}')).split('\n').includes(name),
        async remove() {
          await lab.docker('container', 'rm', '--force', name);
        },
      };
    },
    leftovers: () => lab.leftovers(),
    close: () => lab.close(),
  };
}

async function callHere({ ip, port }: WorkerAddress, payload: unknown, timeoutMs: number): Promise<unknown> {
  const answer = await fetch(`http://${ip}:${port}/2015-03-31/functions/function/invocations`, {
    method: 'POST',
    body: JSON.stringify(payload),
    signal: AbortSignal.timeout(timeoutMs),
  });
  return await answer.json();
}
