import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { ensureSampleImage } from '../../../local/image/sample-image.ts';
import { createProgress } from '../../../src/cli/progress.ts';
import type { ContainerRuntime, EnsureRequest, WorkerShape } from '../../../src/runtime/contract/runtime.ts';
import { destroyAll, ensureRequest, type Lab, startLab } from '../../support/lab.ts';
import { callByInit, nodeInits } from '../../support/node-inits.ts';
import { layoutImage } from '../../support/test-image.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';

let lab: Lab;
let image: string;

beforeAll(async () => {
  lab = await startLab();
  const progress = createProgress({ write: () => undefined });
  const { layout } = await ensureSampleImage('python-counter', { progress, tools: toolsFolder() });
  image = lab.registry.put('python:1', await layoutImage(layout));
}, 120_000);
afterAll(() => lab?.close());

const python = (name: string, shape: Partial<WorkerShape> = {}): EnsureRequest =>
  ensureRequest({ image }, name, { runtimeInterface: 'Lambda', startupTimeoutSeconds: 30, ...shape });

it("AWS's runtime client of Python is initialized before any call, and needs no emulator", async () => {
  const inits = await nodeInits(lab.folder);
  const runtime = await started(() => lab.runtime({ inits }));
  const { containerId } = await runtime.ensure(python('python'));
  expect(inits.link(containerId)?.state).toMatchObject({ phase: 'Ready', idle: true });
  for (const counter of [1, 2]) {
    expect(JSON.parse(await callByInit(inits, containerId, {}))).toMatchObject({ counter });
    await runtime.pause(containerId);
    await runtime.resume(containerId);
  }
});

it('a worker that somebody freezes in its start loses nothing by that', async () => {
  const inits = await nodeInits(lab.folder);
  const runtime = await started(() => lab.runtime({ inits }));
  const seen: string[] = [];
  runtime.subscribe(({ kind }) => seen.push(kind));
  const begun = Promise.withResolvers<void>();
  const script = [
    'import runpy, sys, time',
    'time.sleep(2)',
    'sys.argv = ["awslambdaric", "lambda_function.handler"]',
    'runpy.run_module("awslambdaric", run_name="__main__")',
  ];
  const request = python('held-up', { command: ['python3', '-c', script.join('\n')] });
  const ensured = runtime.ensure({ ...request, onProgress: (step) => step === 'Starting' && begun.resolve() });
  await begun.promise;
  await lab.ctr('tasks', 'pause', request.containerId);
  expect(inits.link(request.containerId)?.state?.phase).toBe('Starting');
  expect((await ensured).task.kind).toBe('Running');
  expect(seen).toContain('Paused');
  expect(JSON.parse(await callByInit(inits, request.containerId, {}))).toMatchObject({ counter: 1 });
});

it('a worker that outgrows its memory in a call tells of that, and goes on with a new runtime', async () => {
  const inits = await nodeInits(lab.folder);
  const runtime = await started(() => lab.runtime({ inits }));
  const { containerId, task } = await runtime.ensure(python('growing', { memoryMiB: 48 }));
  await expect(callByInit(inits, containerId, { allocate: 300 })).rejects.toThrow('signal: killed');
  await waitFor('the next runtime', () => inits.link(containerId)?.state?.idle === true);
  expect(inits.link(containerId)?.state).toMatchObject({ phase: 'Ready', restarts: 1 });
  expect(JSON.parse(await callByInit(inits, containerId, {}))).toMatchObject({ counter: 1 });
  await waitFor('the limit', async () => (await runtime.inspect(containerId))?.limits?.memory === 1);
  expect((await runtime.inspect(containerId))?.task).toEqual(task);
});

it.each([
  {
    what: 'ends before its first call tells of its last output',
    name: 'wandless',
    script: 'print("cannot find my wand"); exit(7)',
    told: 'exit status 7; its last output: cannot find my wand',
    end: { exitCode: 7, oomKilled: false },
  },
  {
    what: 'outgrows its memory before its first call tells of that',
    name: 'cramped',
    script: 'x = bytearray(256 << 20)',
    told: 'signal: killed; the worker used more memory than its limit',
    end: { exitCode: 137, oomKilled: true },
  },
])('a worker that $what', async ({ end, name, script, told }) => {
  const inits = await nodeInits(lab.folder);
  const runtime = await started(() => lab.runtime({ inits }));
  const request = python(name, { memoryMiB: 48, command: ['python3', '-c', script] });
  await expect(runtime.ensure(request)).rejects.toMatchObject({
    code: 'InitFailed',
    message: `Runtime.ExitError: Runtime exited with error: ${told}`,
    ...end,
  });
  await runtime.destroy(request.containerId);
});

it('a worker with users of its own reaches its init and the agent', async () => {
  const inits = await nodeInits(lab.folder);
  const confinement = { cgroupParent: lab.cgroupParent, userIds: { first: 700_000_000, count: 65_536 } };
  const runtime = await started(() => lab.runtime({ inits, confinement }));
  const { containerId, task } = await runtime.ensure(python('mapped'));
  const pid = task.kind === 'Running' ? task.pid : 0;
  expect(await readFile(`/proc/${pid}/status`, 'utf8')).toMatch(/^Uid:\s700000993\s/m);
  expect(JSON.parse(await callByInit(inits, containerId, {}))).toMatchObject({ counter: 1 });
});

async function started(start: () => Promise<ContainerRuntime>): Promise<ContainerRuntime> {
  const runtime = await start();
  onTestFinished(async () => {
    await destroyAll(runtime);
    await runtime.stop();
    expect(await lab.leftovers()).toEqual([]);
  });
  return runtime;
}
