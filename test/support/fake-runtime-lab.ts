import { createHash } from 'node:crypto';
import { AbortedError, withDeadline } from '../../src/common/deadline.ts';
import { EsbError } from '../../src/common/errors.ts';
import type { ContainerRuntime, EnsureRequest, WorkerAddress } from '../../src/runtime/contract/runtime.ts';
import { WorkerExitError } from '../../src/runtime/contract/worker-exit-error.ts';
import type { RuntimeLab, RuntimeLabOptions } from '../integration/runtime/conformance/runtime-lab.ts';
import { FakeInits } from './fake-inits.ts';
import { FakeRuntime } from './fake-runtime.ts';

const IMAGE = '127.0.0.1:5000/worker:1';
/** The test worker listens there, also where another port was asked for. */
const WORKER_PORT = 8080;
const LISTEN_DEADLINE_MS = 60_000;
const DEADLINE_MS = 300_000;

/** A process of the test worker. */
interface TestProcess {
  readonly env: ReadonlyMap<string, string>;
  readonly shape: EnsureRequest['shape'];
  readonly name: string;
  counter: number;
  listening: boolean;
  /** Goes off when the process is gone. */
  readonly gone: AbortController;
}

/** The runtime of the tests with the test worker of the real engines in it, to be held to their contract. */
export function fakeRuntimeLab(): Promise<RuntimeLab> {
  const runtime = new FakeRuntime();
  const processes = new Map<string, TestProcess>();
  let listenDeadlineMs = LISTEN_DEADLINE_MS;
  runtime.imageOf = (reference) =>
    `${reference.replace(/:[^:/]+$/, '')}@sha256:${createHash('sha256').update(reference).digest('hex')}`;
  const write = (containerId: string, text: string): void => {
    runtime.logs.set(containerId, `${runtime.logs.get(containerId) ?? ''}${text}`);
  };
  const end = (containerId: string): void => {
    processes.get(containerId)?.gone.abort();
    processes.delete(containerId);
  };
  runtime.onEnd = (containerId, signal) => {
    if (signal === 'SIGTERM') {
      write(containerId, 'ended by SIGTERM\n');
    }
    end(containerId);
  };
  runtime.subscribe(({ containerId, kind }) => {
    const request = runtime.requests.findLast((each) => each.containerId === containerId);
    if (kind === 'Created' && request !== undefined && runtime.taskOf(containerId) === 'Running') {
      const { identity, shape } = request;
      const env = new Map(shape.env.map(({ name, value }) => [name, value]));
      processes.set(containerId, {
        env,
        shape,
        name: identity.name,
        counter: 0,
        listening: false,
        gone: new AbortController(),
      });
    } else if (kind === 'Deleted' || kind === 'Exited') {
      end(containerId);
    }
  });
  runtime.before = async (operation, containerId, { graceSeconds = 10 }) => {
    const task = runtime.taskOf(containerId);
    if (operation === 'destroy' && processes.get(containerId)?.env.has('IGNORE_SIGTERM') === true) {
      await wait(task === 'Running' ? graceSeconds * 1_000 : 0);
    }
  };
  runtime.listens = (containerId) => listens(containerId);

  async function listens(containerId: string): Promise<void> {
    const process = processes.get(containerId);
    if (process === undefined) {
      throw new AbortedError('the start');
    }
    const { env, gone, shape } = process;
    if (shape.memoryMiB < 4) {
      throw new EsbError('the limit is too small to start in', { code: 'MemoryTooSmall' });
    }
    const [command] = shape.command;
    if (command !== undefined) {
      throw new EsbError(`${command}: no such file`, { code: 'StartFailed', retryable: true });
    }
    const output = env.has('PRINT') ? `${env.get('PRINT')}\n` : '';
    const isGreedy = Number(env.get('ALLOCATE') ?? 0) > shape.memoryMiB;
    if (env.has('EXIT') || isGreedy) {
      write(containerId, output);
      const exitCode = isGreedy ? 137 : Number(env.get('EXIT'));
      throw new WorkerExitError(isGreedy ? `${containerId} ran out of memory` : containerId, {
        exitCode,
        oomKilled: isGreedy,
        finishedAt: new Date(),
        output,
      });
    }
    await wait(Number(env.get('LISTEN_AFTER_MS') ?? 0), gone.signal);
    if (!process.listening) {
      process.listening = true;
      write(containerId, `listening on 0.0.0.0:${WORKER_PORT}\n`);
    }
    if (shape.port !== WORKER_PORT) {
      await wait(listenDeadlineMs, gone.signal);
      const log = runtime.logs.get(containerId) ?? '';
      throw new EsbError(`nothing listens on ${shape.port}: ${log}`, {
        code: 'NotListening',
        retryable: true,
      });
    }
  }

  async function call(address: WorkerAddress | undefined, payload: unknown, timeoutMs = 10_000): Promise<unknown> {
    const found = [...runtime.containers.values()].find((info) => info.address?.ip === address?.ip);
    const containerId = found?.containerId ?? '';
    const process = processes.get(containerId);
    if (process === undefined) {
      throw new Error('connection refused');
    }
    const until = performance.now() + timeoutMs;
    while (runtime.taskOf(containerId) === 'Paused') {
      if (performance.now() > until) {
        throw new Error('no answer');
      }
      await wait(10);
    }
    const asked = payload as {
      readonly exit?: number;
      readonly allocate?: number;
      readonly print?: string;
      readonly lines?: number;
    };
    if (asked.exit !== undefined || (asked.allocate ?? 0) > process.shape.memoryMiB) {
      const oomKilled = asked.exit === undefined;
      if (oomKilled) {
        runtime.emit({ kind: 'OutOfMemory', containerId });
      }
      runtime.exit(containerId, asked.exit ?? 137, oomKilled);
      throw new Error('reset');
    }
    if (asked.print !== undefined) {
      const lines = Array.from({ length: asked.lines ?? 0 }, (_, index) => `${String(index).padStart(8, '0')}\n`);
      write(containerId, `${asked.print}\n${lines.join('')}`);
    }
    process.counter += 1;
    return {
      counter: process.counter,
      host: containerId,
      args: process.shape.handler === undefined ? [] : [process.shape.handler],
      uid: 993,
      gid: 990,
      env: {
        ...Object.fromEntries(process.env),
        AWS_LAMBDA_FUNCTION_NAME: process.name,
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(process.shape.memoryMiB),
        _HANDLER: process.shape.handler,
      },
    };
  }

  /** Deadlines are those of a machine's clock. */
  const impatient = (own: RuntimeLabOptions): ContainerRuntime =>
    new Proxy<ContainerRuntime>(runtime, {
      get(target, property: keyof ContainerRuntime) {
        if (property === 'ensure') {
          const ensure: ContainerRuntime['ensure'] = (request, { deadlineMs = DEADLINE_MS, signal } = {}) => {
            listenDeadlineMs = own.listenDeadlineMs ?? LISTEN_DEADLINE_MS;
            return withDeadline('the start', deadlineMs, signal, (inner) => runtime.ensure(request, { signal: inner }));
          };
          return ensure;
        }
        const value = target[property];
        return typeof value === 'function' ? (value as (...args: never[]) => unknown).bind(target) : value;
      },
    });
  const foreign = new Set<string>();
  return Promise.resolve({
    registry: undefined as never,
    image: IMAGE,
    runtime: (options = {}) => Promise.resolve(impatient(options)),
    inits: () => Promise.resolve(new FakeInits()),
    call,
    killEngine: () => {
      runtime.down = true;
      runtime.emit({ kind: 'Disconnected', containerId: '' });
      return Promise.resolve();
    },
    startEngine: () => {
      runtime.down = false;
      runtime.emit({ kind: 'Reconnected', containerId: '' });
      return Promise.resolve();
    },
    startForeign: (name) => {
      foreign.add(name);
      return Promise.resolve({
        isRunning: () => Promise.resolve(foreign.has(name)),
        remove: () => {
          foreign.delete(name);
          return Promise.resolve();
        },
      });
    },
    leftovers: () => Promise.resolve([...runtime.containers.keys(), ...processes.keys()]),
    close: () => Promise.resolve(),
  });
}

function wait(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(new AbortedError('the start'));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
