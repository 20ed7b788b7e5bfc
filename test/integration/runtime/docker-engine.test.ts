import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ContainerRuntime, WorkerAddress, WorkerInfo } from '../../../src/runtime/contract/runtime.ts';
import { run } from '../../support/command.ts';
import { type DockerLab, startDockerLab } from '../../support/docker-lab.ts';
import { ensureRequest } from '../../support/lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };

describe('a Docker engine that others use too', () => {
  let lab: DockerLab;
  let runtime: ContainerRuntime;

  beforeAll(async () => {
    lab = await startDockerLab();
    runtime = await lab.runtime();
  });
  afterAll(async () => {
    await lab?.close();
  });
  afterEach(async () => {
    for (const { containerId } of await runtime.list()) {
      await runtime.destroy(containerId, { graceSeconds: 0 });
    }
    expect(await lab.leftovers()).toEqual([]);
  });
  const tries = async (info: WorkerInfo, ...lines: readonly string[]): Promise<Record<string, string>> =>
    (
      (await lab.caller.call(info.address ?? nowhere, { try: lines }, 20_000)) as {
        tried: Record<string, string>;
      }
    ).tried;

  it('keeps workers from each other, and lets the node reach each', async () => {
    const one = await runtime.ensure(ensureRequest(lab, 'one'));
    const two = await runtime.ensure(ensureRequest(lab, 'two'));
    const other = `connect ${two.address?.ip}:8080`;
    expect((await tries(one, other))[other]).toMatch(/timeout|refused|unreachable/);
    expect((await tries(two, other))[other]).toBe('ok');
    expect(await lab.caller.connect(two.address ?? nowhere)).toBe(true);
  });

  it('does not make a container that has the name of somebody else’s, nor touch that', async () => {
    const request = ensureRequest(lab, 'taken');
    await lab.docker('container', 'create', '--network', 'none', '--name', request.containerId, lab.image);
    await expect(runtime.ensure(request)).rejects.toMatchObject({
      code: 'CreateFailed',
      message: expect.stringContaining('already in use'),
    });
    await runtime.destroy(request.containerId);
    expect(await lab.docker('container', 'ls', '--all', '--format', '{{.Names}}')).toContain(request.containerId);
    await lab.docker('container', 'rm', request.containerId);
    expect((await runtime.ensure(request)).task.kind).toBe('Running');
  });

  it('makes its network again when that was taken away, and says whose it is when it is not ours', async () => {
    await lab.docker('network', 'rm', 'esb');
    expect(await runtime.networkHealth()).toEqual({ ok: true });
    expect((await runtime.ensure(ensureRequest(lab, 'first'))).task.kind).toBe('Running');
    for (const { containerId } of await runtime.list()) {
      await runtime.destroy(containerId, { graceSeconds: 0 });
    }
    await lab.docker('network', 'rm', 'esb');
    await lab.docker('network', 'create', 'esb');
    expect(await runtime.networkHealth()).toMatchObject({
      ok: false,
      reason: 'NetworkFailed',
      message: expect.stringContaining("is not the agent's"),
    });
    expect(await runtime.leave()).toEqual([expect.stringContaining("is not the agent's")]);
    await lab.docker('network', 'rm', 'esb');
    expect(await runtime.networkHealth()).toEqual({ ok: true });
  });

  it('is told of what its owner does to a worker', async () => {
    const request = ensureRequest(lab, 'handled');
    const { containerId } = request;
    const seen: string[] = [];
    const unsubscribe = runtime.subscribe((event) => {
      if (event.containerId === containerId) {
        seen.push(event.kind);
      }
    });
    await runtime.ensure(request);
    await lab.docker('pause', containerId);
    await waitFor('the pause', () => seen.includes('Paused'));
    expect((await runtime.inspect(containerId))?.task.kind).toBe('Paused');
    await lab.docker('unpause', containerId);
    await lab.docker('kill', containerId);
    await waitFor('its end', () => seen.includes('Exited'));
    expect((await runtime.inspect(containerId))?.task).toMatchObject({
      kind: 'Stopped',
      exitCode: 137,
      oomKilled: false,
    });
    await lab.docker('rm', containerId);
    await waitFor('its removal', () => seen.includes('Deleted'));
    expect(await runtime.inspect(containerId)).toBeUndefined();
    unsubscribe();
    expect((await runtime.ensure(request)).task.kind).toBe('Running');
  });

  it('has an image that was made on it, and is in no registry', async () => {
    await lab.docker('pull', '--quiet', lab.image);
    await lab.docker('tag', lab.image, 'made-here:1');
    const image = { reference: 'made-here:1', pullPolicy: 'Never' } as const;
    const info = await runtime.ensure(ensureRequest(lab, 'local', { image }));
    expect(info.image).toMatch(/^docker\.io\/library\/made-here@sha256:[0-9a-f]{64}$/);
    expect(await runtime.images()).toContain('docker.io/library/made-here:1');
    await lab.docker('rmi', 'made-here:1');
    expect(await lab.caller.call(info.address ?? nowhere, {})).toMatchObject({ counter: 1 });
  });

  it('keeps what workers wrote while nothing could be written to our disk', async () => {
    const request = ensureRequest(lab, 'full');
    const info = await runtime.ensure(request);
    const log = async (): Promise<string> => (await runtime.readLog(request.containerId, 1_000)).toString();
    await waitFor('the first line', async () => (await log()) === 'listening on 0.0.0.0:8080\n');
    await runtime.stop();
    const file = `${lab.logFolder}/${request.containerId}.log`;
    await run('mount', ['--bind', file, file]);
    await run('mount', ['-o', 'remount,bind,ro', file]);
    try {
      runtime = await lab.runtime();
      await lab.caller.call(info.address ?? nowhere, { print: 'written meanwhile' });
    } finally {
      await run('umount', [file]);
    }
    await waitFor('the rest', async () => (await log()).includes('meanwhile'));
    expect(await log()).toBe('listening on 0.0.0.0:8080\nwritten meanwhile\n');
  });
});
