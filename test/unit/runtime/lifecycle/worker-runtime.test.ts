import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { EnsureRequest, TaskState, WorkerInfo } from '../../../../src/runtime/contract/runtime.ts';
import type { WorkerPlace } from '../../../../src/runtime/lifecycle/creation-steps.ts';
import type { RuntimeBackend } from '../../../../src/runtime/lifecycle/runtime-backend.ts';
import { createRuntimeParts, type RuntimeParts } from '../../../../src/runtime/lifecycle/runtime-parts.ts';
import { WorkerRuntime } from '../../../../src/runtime/lifecycle/worker-runtime.ts';
import { FakeInits } from '../../../support/fake-inits.ts';
import { ensureRequest } from '../../../support/lab.ts';
import { settle } from '../../../support/manual-clock.ts';

/** A backend in memory that notes its calls. */
class FakeBackend {
  readonly calls: string[] = [];
  readonly containers = new Map<string, WorkerInfo>();
  /** Answer of the direct thaw. */
  canThaw = true;
  canLoseOutput = true;
  /** Gate of a creation. */
  made: Promise<void> = Promise.resolve();
  readonly freezing = {
    kernelState: () => 'Untold' as const,
    pause: async (id: string) => this.#set('pause', id, { kind: 'Paused', pid: 1 }),
    resume: async (id: string) => this.#set('resume', id, { kind: 'Running', pid: 1 }),
    thawDirectly: (id: string) => {
      this.calls.push(`thaw ${id}`);
      return this.canThaw;
    },
    settle: () => Promise.resolve(true),
    isFrozen: () => false,
  };

  async find(containerId: string): Promise<WorkerInfo | undefined> {
    return this.containers.get(containerId);
  }

  async list() {
    return { workers: [...this.containers.values()], containerIds: new Set(this.containers.keys()) };
  }

  async create(request: EnsureRequest, signal: AbortSignal): Promise<WorkerInfo> {
    this.calls.push(`create ${request.containerId}`);
    await this.made;
    signal.throwIfAborted();
    const { containerId, epoch, identity, shape, shapeHash } = request;
    const made: WorkerInfo = {
      containerId,
      identity,
      epoch,
      shapeHash,
      image: '',
      task: { kind: 'Running', pid: 1 },
      runtimeInterface: shape.runtimeInterface,
      ...(shape.runtimeInterface === 'Lambda' ? {} : { address: { ip: '10.0.0.2', port: 8080 } }),
      createdAt: new Date(0),
    };
    this.containers.set(containerId, made);
    return made;
  }

  async untilReady(containerId: string, place: WorkerPlace): Promise<void> {
    this.calls.push(`${place.kind === 'Port' ? 'listen' : 'ready'} ${containerId}`);
  }

  async setEpoch(containerId: string, epoch: number): Promise<void> {
    this.calls.push(`epoch ${containerId} ${epoch}`);
  }

  async remove(containerId: string, { keepNetwork }: { readonly keepNetwork?: boolean }): Promise<void> {
    this.calls.push(`remove ${containerId}${keepNetwork === true ? ', keeping its network' : ''}`);
    this.containers.delete(containerId);
  }

  async stop(): Promise<void> {
    this.calls.push('stop');
  }

  #set(what: string, containerId: string, task: TaskState): void {
    this.calls.push(`${what} ${containerId}`);
    const found = this.containers.get(containerId);
    if (found !== undefined) {
      this.containers.set(containerId, { ...found, task });
    }
  }
}

describe('the lifecycle of workers', () => {
  const request: EnsureRequest = { ...ensureRequest({ image: 'worker:1' }, 'w'), containerId: 'w' };
  let backend: FakeBackend;
  let inits: FakeInits;
  let parts: RuntimeParts;
  let runtime: WorkerRuntime;

  beforeEach(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'esb-lifecycle-'));
    backend = new FakeBackend();
    inits = new FakeInits();
    parts = createRuntimeParts({ logs: { folder: join(folder, 'logs') }, inits, logger: silentLogger() });
    runtime = new WorkerRuntime(backend as unknown as RuntimeBackend, parts);
    onTestFinished(async () => {
      await runtime.stop();
      await rm(folder, { recursive: true });
    });
  });

  it('makes a missing worker, and waits for the port of one that runs', async () => {
    await runtime.ensure(request);
    await runtime.ensure({ ...request, epoch: 2 });
    expect(backend.calls).toEqual(['create w', 'epoch w 2', 'listen w']);
  });

  it('waits for the init of a worker that runs, whatever the resource has asked for since', async () => {
    const lambda = { ...request.shape, runtimeInterface: 'Lambda' } as const;
    await runtime.ensure({ ...request, shape: lambda });
    await runtime.ensure(request);
    expect(backend.calls).toEqual(['create w', 'ready w']);
  });

  it('replaces a worker of another shape, and leaves its network to the next container', async () => {
    await runtime.ensure(request);
    await runtime.ensure({ ...request, shapeHash: 'other' });
    expect(backend.calls.slice(1)).toEqual(['remove w, keeping its network', 'create w']);
  });

  it('listens for inits before the engine answers', async () => {
    const started: string[] = [];
    inits.start = async () => void started.push('inits');
    const check = (): Promise<void> => Promise.reject(new Error('no engine'));
    const runtime = new WorkerRuntime(Object.assign(backend, { check }) as unknown as RuntimeBackend, parts);
    await expect(runtime.start()).rejects.toThrow('no engine');
    expect(started).toEqual(['inits']);
  });

  it('starts no earlier than it listens for inits, however long that takes', async () => {
    const listening = Promise.withResolvers<void>();
    inits.start = () => listening.promise;
    const check = (): Promise<void> => Promise.reject(new Error('no engine'));
    const runtime = new WorkerRuntime(Object.assign(backend, { check }) as unknown as RuntimeBackend, parts);
    let ended = false;
    const started = runtime.start({ deadlineMs: 20 }).finally(() => {
      ended = true;
    });
    const failure = expect(started).rejects.toThrow('no engine');
    // Nothing may happen meanwhile.
    await delay(60);
    expect(ended).toBe(false);
    listening.resolve();
    await failure;
  });

  it('refuses the container of another worker', async () => {
    await runtime.ensure(request);
    const other = { ...request, identity: { ...request.identity, uid: 'other' } };
    await expect(runtime.ensure(other)).rejects.toMatchObject({ code: 'CreateFailed' });
    expect(backend.containers.has('w')).toBe(true);
  });

  it('thaws without the engine while nothing is under way for the container', async () => {
    await runtime.ensure(request);
    await runtime.pause('w');
    await runtime.resume('w');
    backend.canThaw = false;
    await runtime.resume('w');
    expect(backend.calls.slice(1)).toEqual(['pause w', 'thaw w', 'thaw w', 'resume w']);
  });

  it('ends a creation for a removal, which waits for its end', async () => {
    const made = Promise.withResolvers<void>();
    backend.made = made.promise;
    const ensured = runtime.ensure(request).catch((error: { code: string }) => error.code);
    await settle();
    const destroyed = runtime.destroy('w');
    await settle();
    expect(backend.calls).toEqual(['create w']);
    made.resolve();
    await destroyed;
    expect(await ensured).toBe('Aborted');
    expect(backend.calls).toEqual(['create w', 'remove w']);
  });

  it('makes a worker anew that a crash left made and not started', async () => {
    const made = await runtime.ensure(request);
    backend.containers.set('w', { ...made, task: { kind: 'Created' } });
    await runtime.ensure(request);
    expect(backend.calls.slice(1)).toEqual(['remove w, keeping its network', 'create w']);
  });

  it('tells by the time of its log whether a worker wrote while a disk was full', async () => {
    await parts.logs.prepare();
    const full = { from: Date.now() - 60_000, until: Date.now() - 30_000 };
    await parts.logs.begin('w', 'uid');
    // Begun after the disk had room again.
    expect(await runtime.isOutputLost('w', full)).toBe(false);
    const longer = { from: full.from, until: Date.now() + 60_000 };
    expect(await runtime.isOutputLost('w', longer)).toBe(true);
    expect(await runtime.isOutputLost('none', longer)).toBe(false);
    backend.canLoseOutput = false;
    expect(await runtime.isOutputLost('w', longer)).toBe(false);
  });
});
