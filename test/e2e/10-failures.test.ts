import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { LambdaWorker } from '../../src/api/lambda-worker.ts';
import { run } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';

const condition = (worker: LambdaWorker, type: string) =>
  worker.status?.conditions?.find((found) => found.type === type);

/** Whether a pull has come to nothing; one that goes on for a second is told as `Pulling` before. */
function hasFailedPull(worker: LambdaWorker): boolean {
  const found = condition(worker, 'ImageReady');
  return found?.status === 'False' && found.reason !== 'Pulling';
}

/** A TCP port of loopback that nothing listens on. */
describe('a worker that cannot start', () => {
  const esb = instance();

  it('for want of its image says so, tries again, and starts once the image is there', async () => {
    const image = `${esb.registry}/late-${Date.now()}:1`;
    await esb.apply('late-image', { image, nodeName: 'node-1' });
    const waiting = await esb.waitForWorker('late-image', 'told of its missing image', hasFailedPull);
    expect(condition(waiting, 'ImageReady')).toMatchObject({
      reason: 'ImageNotFound',
      message: expect.stringContaining(image),
    });
    expect(condition(waiting, 'Ready')?.status).toBe('False');
    await expect(esb.invoke('late-image')).rejects.toMatchObject({ $metadata: { httpStatusCode: 502 } });
    await run(esb.program('crane'), ['copy', '--insecure', esb.image('python-counter'), image]);
    await esb.ready('late-image');
    expect((await esb.invoke('late-image')).payload.counter).toBe(1);
  });

  it('for want of its registry says so, tries again, and starts once the registry is there', async () => {
    const port = await freePort();
    const image = `127.0.0.1:${port}/python-counter:latest`;
    await esb.apply('no-registry', { image, nodeName: 'node-1' });
    const waiting = await esb.waitForWorker('no-registry', 'told of its registry', hasFailedPull);
    expect(condition(waiting, 'ImageReady')).toMatchObject({
      reason: 'RegistryUnreachable',
      message: expect.stringContaining(`127.0.0.1:${port}`),
    });
    const registry = spawn(esb.program('registry'), ['-port', String(port)], { stdio: 'ignore' });
    onTestFinished(() => {
      registry.kill('SIGKILL');
    });
    await waitFor('the second registry', async () => {
      await run(esb.program('crane'), ['copy', '--insecure', esb.image('python-counter'), image]);
      return true;
    });
    await esb.ready('no-registry');
  });

  it('because its image has no entrypoint says what to write, and starts once it is written', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'esb-e2e-image-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, 'empty'), '');
    await run('tar', ['-cf', join(folder, 'layer.tar'), '-C', folder, 'empty']);
    const image = `${esb.registry}/no-entrypoint:1`;
    await run(esb.program('crane'), ['append', '--insecure', '-f', join(folder, 'layer.tar'), '-t', image]);
    await esb.apply('no-entrypoint', { image, nodeName: 'node-1' });
    const waiting = await esb.waitForWorker(
      'no-entrypoint',
      'told of its entrypoint',
      (worker) => condition(worker, 'Ready')?.reason === 'NoEntrypoint',
    );
    expect(condition(waiting, 'Ready')?.message).toContain('command');
    await esb.patch('no-entrypoint', { image: esb.image('python-counter') });
    await esb.ready('no-entrypoint');
  });

  it('because its process exits at once is put off for longer and longer, and starts once that is mended', async () => {
    const script = 'import sys; print("cannot find my wand"); sys.exit(7)';
    await esb.apply('crasher', { nodeName: 'node-1', command: ['python3', '-c', script] });
    const crashing = await esb.waitForWorker(
      'crasher',
      'put off',
      (worker) => condition(worker, 'Ready')?.reason === 'InitFailed',
    );
    expect(condition(crashing, 'Ready')?.message).toMatch(/exit status 7.*cannot find my wand/);
    await esb.patch('crasher', { command: [] });
    await esb.ready('crasher');
    expect((await esb.invoke('crasher')).payload.counter).toBe(1);
  });

  it('for want of memory is told apart as OOMKilled', async () => {
    await esb.apply('greedy', {
      nodeName: 'node-1',
      resources: { limits: { memory: '64Mi' } },
      ephemeralStorage: '16Mi',
    });
    await esb.ready('greedy');
    const answer = await esb.invoke('greedy', { allocate: 400 });
    expect(answer.functionError).toBe('Unhandled');
    expect((await esb.invoke('greedy', {}, { client: esb.lambda(undefined, 5) })).payload.message).toBe(
      'hello from greedy',
    );
  });
});
