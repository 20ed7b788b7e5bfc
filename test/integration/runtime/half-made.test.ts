import { mkdir, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { EsbError } from '../../../src/common/errors.ts';
import { type ContainerdClient, createContainerdClient } from '../../../src/containerd/containerd-client.ts';
import { CONTAINERD_NAMESPACE } from '../../../src/runtime/containerd/parts.ts';
import type { ContainerRuntime } from '../../../src/runtime/contract/runtime.ts';
import { run } from '../../support/command.ts';
import { freeze } from '../../support/freezer.ts';
import { ensureRequest, type Lab, shimsOf, startLab } from '../../support/lab.ts';
import { type CallHooks, watchedClient } from '../../support/tripwire.ts';
import { waitFor } from '../../support/wait-for.ts';

/** The calls that making a worker consists of, in order. */
const STEPS = [
  'images.get',
  'snapshots.stat',
  'containers.create',
  'snapshots.prepare',
  'tasks.create',
  'tasks.start',
  'tasks.wait',
] as const;
/** Operations that have an answer before the end of the worker. */
const ENDING = STEPS.filter((step) => step !== 'tasks.wait');

function newClient(lab: Lab): ContainerdClient {
  return createContainerdClient({
    socketPath: lab.socketPath,
    namespace: CONTAINERD_NAMESPACE,
    snapshotter: 'overlayfs',
  });
}

/** A client for one test. */
function clientOf(lab: Lab): ContainerdClient {
  const client = newClient(lab);
  onTestFinished(() => client.close());
  return client;
}

describe('a creation that is cut off', () => {
  let lab: Lab;
  let plain: ContainerRuntime;
  let hooks: CallHooks = {};
  let watched: ContainerRuntime;

  beforeAll(async () => {
    lab = await startLab();
    plain = await lab.runtime();
    const client = newClient(lab);
    watched = await lab.runtime({
      client: watchedClient(client, {
        before: (call) => hooks.before?.(call),
        after: (call) => hooks.after?.(call),
      }),
    });
    const first = ensureRequest(lab, 'first');
    await plain.ensure(first);
    await plain.destroy(first.containerId, { graceSeconds: 0 });
  });
  afterEach(() => {
    hooks = {};
  });
  afterAll(async () => {
    await lab?.close();
  });

  const clean = (): Promise<unknown> =>
    waitFor('nothing to be left', async () => {
      const left = await lab.leftovers();
      if (left.length > 0) {
        throw new Error(left.join(', '));
      }
      return true;
    });

  it('asks containerd for nothing but these', async () => {
    const [known, counted] = [ensureRequest(lab, 'known'), ensureRequest(lab, 'counted')];
    // The configuration of the image is read once.
    await watched.ensure(known);
    const calls: string[] = [];
    hooks = { before: (call) => void calls.push(call) };
    await watched.ensure(counted);
    hooks = {};
    expect(calls.toSorted()).toEqual(['containers.get', ...STEPS].toSorted());
    await plain.destroy(known.containerId, { graceSeconds: 0 });
    await plain.destroy(counted.containerId, { graceSeconds: 0 });
    await clean();
  });

  async function isAborted(moment: 'before' | 'after', step: string): Promise<void> {
    const caller = new AbortController();
    hooks = {
      [moment]: (call: string) => {
        if (call === step) {
          caller.abort();
        }
      },
    };
    const request = ensureRequest(lab, 'aborted');
    await expect(watched.ensure(request, { signal: caller.signal })).rejects.toMatchObject({
      code: 'Aborted',
    });
    await clean();
  }

  it.each(STEPS)('by its caller before %s leaves nothing', (step) => isAborted('before', step));

  it.each(ENDING)('by its caller after %s leaves nothing', (step) => isAborted('after', step));

  it.each(STEPS)('by an answer to %s that was lost leaves nothing', async (step) => {
    hooks = {
      after: (call) => {
        if (call === step) {
          hooks = {};
          throw new EsbError('the answer was lost', { code: 'RuntimeUnavailable', retryable: true });
        }
      },
      before: (call) => {
        if (call === 'tasks.wait' && step === call) {
          hooks = {};
          throw new EsbError('the answer was lost', { code: 'RuntimeUnavailable', retryable: true });
        }
      },
    };
    const request = ensureRequest(lab, 'lost');
    await expect(watched.ensure(request)).rejects.toMatchObject({ code: 'RuntimeUnavailable' });
    await plain.destroy(request.containerId);
    await clean();
  });

  it.each(ENDING)('by the death of its agent after %s is whole again once containerd has collected', async (step) => {
    const request = ensureRequest(lab, 'orphaned');
    let isDead = false;
    const die = (): void => {
      if (isDead) {
        throw new EsbError('the agent is dead', { code: 'RuntimeUnavailable', retryable: true });
      }
    };
    hooks = {
      before: die,
      after: (call) => {
        isDead ||= call === step;
        die();
      },
    };
    await expect(watched.ensure(request)).rejects.toMatchObject({ code: 'RuntimeUnavailable' });
    hooks = {};
    await lab.ctr('content', 'prune', 'references');
    expect((await plain.ensure(request)).task.kind).toBe('Running');
    await plain.destroy(request.containerId, { graceSeconds: 0 });
    await clean();
  });

  it('by the collector of containerd, before and after its snapshot, loses nothing', { tags: ['P28'] }, async () => {
    let collections = 0;
    const collect = async (call: string): Promise<void> => {
      if (call === 'snapshots.prepare') {
        await lab.ctr('content', 'prune', 'references');
        collections += 1;
      }
    };
    hooks = { before: collect, after: collect };
    const request = ensureRequest(lab, 'collected');
    expect((await watched.ensure(request)).task.kind).toBe('Running');
    expect(collections).toBe(2);
    expect(await lab.ctr('snapshots', 'list')).toContain(request.containerId);
    await plain.destroy(request.containerId, { graceSeconds: 0 });
    await clean();
  });

  it('while it is being attached leaves nothing', async () => {
    const caller = new AbortController();
    const release = Promise.withResolvers<void>();
    lab.network.hold = release.promise;
    onTestFinished(() => {
      lab.network.hold = undefined;
    });
    const request = ensureRequest(lab, 'attaching');
    const ensured = plain.ensure(request, { signal: caller.signal });
    await waitFor('the attachment', async () => (await lab.network.get(request.containerId)) !== undefined);
    caller.abort();
    await expect(ensured).rejects.toMatchObject({ code: 'Aborted' });
    release.resolve();
    await clean();
  });

  it('for want of an address says so and leaves nothing', async () => {
    lab.network.failWith = new EsbError('no address is free', {
      code: 'AddressesExhausted',
      retryable: true,
    });
    await expect(plain.ensure(ensureRequest(lab, 'addressless'))).rejects.toMatchObject({
      code: 'AddressesExhausted',
    });
    await clean();
  });

  it('by its deadline is undone before the next one begins', async () => {
    const request = ensureRequest(lab, 'slow', { env: [{ name: 'LISTEN_AFTER_MS', value: '60000' }] });
    await expect(plain.ensure(request, { deadlineMs: 1500 })).rejects.toMatchObject({
      code: 'DeadlineExceeded',
    });
    const info = await plain.ensure({ ...request, shape: { ...request.shape, env: [] } });
    expect(info.task.kind).toBe('Running');
    await plain.destroy(request.containerId);
    await clean();
  });

  it('by its removal ends at once, and leaves nothing', { tags: ['P10'] }, async () => {
    const request = ensureRequest(lab, 'doomed', { env: [{ name: 'LISTEN_AFTER_MS', value: '60000' }] });
    const ensured = plain.ensure(request);
    const outcome = expect(ensured).rejects.toMatchObject({ code: 'Aborted' });
    await waitFor('the task', async () => (await plain.inspect(request.containerId))?.task.kind === 'Running');
    await plain.destroy(request.containerId);
    await outcome;
    await clean();
  });

  it('for one caller goes on for the other', async () => {
    const impatient = new AbortController();
    const request = ensureRequest(lab, 'shared', { env: [{ name: 'LISTEN_AFTER_MS', value: '3000' }] });
    const first = plain.ensure(request, { signal: impatient.signal });
    const second = plain.ensure(request);
    await waitFor('the task', async () => (await plain.inspect(request.containerId)) !== undefined);
    impatient.abort();
    await expect(first).rejects.toMatchObject({ code: 'Aborted' });
    expect((await second).task.kind).toBe('Running');
    await plain.destroy(request.containerId, { graceSeconds: 0 });
    await clean();
  });
});

describe('a removal', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;

  beforeAll(async () => {
    lab = await startLab();
    runtime = await lab.runtime();
  });
  afterAll(async () => {
    await lab?.close();
  });
  afterEach(async () => {
    expect(await lab.leftovers()).toEqual([]);
  });

  it('of a running worker lets it end by itself', async () => {
    const request = ensureRequest(lab, 'polite');
    await runtime.ensure(request);
    const begun = performance.now();
    await runtime.destroy(request.containerId, { graceSeconds: 30 });
    expect(performance.now() - begun).toBeLessThan(10_000);
  });

  it('of a worker that does not listen to SIGTERM kills it after its grace', async () => {
    const request = ensureRequest(lab, 'stubborn', { env: [{ name: 'IGNORE_SIGTERM', value: '1' }] });
    await runtime.ensure(request);
    const begun = performance.now();
    await runtime.destroy(request.containerId, { graceSeconds: 1 });
    expect(performance.now() - begun).toBeGreaterThan(900);
  });

  it('of a paused worker does not wait for its grace', { tags: ['P3'] }, async () => {
    const request = ensureRequest(lab, 'frozen', { env: [{ name: 'IGNORE_SIGTERM', value: '1' }] });
    await runtime.ensure(request);
    await runtime.pause(request.containerId);
    const begun = performance.now();
    await runtime.destroy(request.containerId, { graceSeconds: 60 });
    expect(performance.now() - begun).toBeLessThan(20_000);
  });

  it('of a worker frozen below containerd works', { tags: ['P3', 'P22'] }, async () => {
    const request = ensureRequest(lab, 'iced');
    await runtime.ensure(request);
    await freeze(lab.cgroupParent, request.containerId);
    await runtime.destroy(request.containerId, { graceSeconds: 0 });
  });

  it('of one that has ended works', { tags: ['P4'] }, async () => {
    const request = ensureRequest(lab, 'ended');
    const { address } = await runtime.ensure(request);
    await expect(lab.caller.call(address ?? { ip: '', port: 0 }, { exit: 3 })).rejects.toThrow();
    await waitFor('its end', async () => (await runtime.inspect(request.containerId))?.task.kind === 'Stopped');
    expect((await runtime.inspect(request.containerId))?.task).toMatchObject({
      exitCode: 3,
      oomKilled: false,
    });
    await runtime.destroy(request.containerId);
  });

  it('of one that was made and never started works', { tags: ['P4'] }, async () => {
    const request = ensureRequest(lab, 'unborn');
    await lab.ctr('images', 'pull', '--plain-http', lab.image);
    await lab.ctr('containers', 'create', lab.image, request.containerId);
    const client = clientOf(lab);
    const rootfs = await client.snapshots.mounts(request.containerId);
    await client.tasks.create({
      containerId: request.containerId,
      rootfs,
      logUri: `file://${lab.folder}/unborn.log`,
    });
    expect((await client.tasks.get(request.containerId)).status).toBe('CREATED');
    await runtime.destroy(request.containerId);
  });

  it('of a task whose container is gone works', { tags: ['P4'] }, async () => {
    const request = ensureRequest(lab, 'headless');
    await runtime.ensure(request);
    const client = clientOf(lab);
    await client.containers.delete(request.containerId);
    await runtime.destroy(request.containerId);
  });

  it('of one whose shim hangs works', { tags: ['P4', 'P22'] }, async () => {
    const request = ensureRequest(lab, 'hung');
    await runtime.ensure(request);
    const [shim] = await shimsOf(lab.socketPath);
    process.kill(shim ?? 0, 'SIGSTOP');
    await runtime.destroy(request.containerId, { graceSeconds: 0 });
  });

  it('of one whose shim was killed works', { tags: ['P4'] }, async () => {
    const request = ensureRequest(lab, 'orphan');
    await runtime.ensure(request);
    const [shim] = await shimsOf(lab.socketPath);
    process.kill(shim ?? 0, 'SIGKILL');
    await runtime.destroy(request.containerId, { graceSeconds: 0 });
  });

  it('of an attachment alone works', async () => {
    const { containerId } = ensureRequest(lab, 'cable');
    await lab.network.attach(containerId);
    expect(await runtime.inspect(containerId)).toMatchObject({ task: { kind: 'Missing' } });
    await runtime.destroy(containerId);
  });

  it('of a snapshot alone works', async () => {
    const { containerId } = ensureRequest(lab, 'crumbs');
    // The label keeps containerd's own collector away from what no record refers to.
    await clientOf(lab).snapshots.prepare(containerId, '', { labels: { 'containerd.io/gc.root': 'of a test' } });
    await runtime.destroy(containerId);
  });

  it('of what never was succeeds', async () => {
    await runtime.destroy('nobody-00000000');
  });

  it('by many at once is one', async () => {
    const request = ensureRequest(lab, 'popular');
    await runtime.ensure(request);
    await Promise.all(Array.from({ length: 10 }, () => runtime.destroy(request.containerId)));
  });
});

describe('the folder of a task that containerd has forgotten', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;

  beforeAll(async () => {
    lab = await startLab();
    runtime = await lab.runtime();
  });
  afterAll(async () => {
    await lab?.close();
  });

  /** As a cleanup that failed leaves it: with the root file system still mounted. */
  async function forgotten(containerId: string, ageMs: number): Promise<string> {
    const bundle = join(lab.folder, 'state/io.containerd.runtime.v2.task', CONTAINERD_NAMESPACE, containerId);
    await mkdir(join(bundle, 'rootfs'), { recursive: true });
    await writeFile(join(bundle, 'config.json'), '{}');
    await run('mount', ['-t', 'tmpfs', 'left', join(bundle, 'rootfs')]);
    const then = new Date(Date.now() - ageMs);
    await utimes(bundle, then, then);
    return bundle;
  }

  it('is not in the way of the next one', async () => {
    const request = ensureRequest(lab, 'again');
    await forgotten(request.containerId, 60_000);
    const info = await runtime.ensure(request);
    expect(info.task.kind).toBe('Running');
    await runtime.destroy(request.containerId, { graceSeconds: 0 });
    expect(await lab.leftovers()).toEqual([]);
  });

  it('is left alone while it is so young that containerd may be at it', async () => {
    const request = ensureRequest(lab, 'young');
    const bundle = await forgotten(request.containerId, 0);
    await expect(runtime.ensure(request)).rejects.toMatchObject({
      code: 'CreateFailed',
      message: expect.stringContaining('file exists'),
    });
    await expect(stat(join(bundle, 'config.json'))).resolves.toBeDefined();
  });
});
