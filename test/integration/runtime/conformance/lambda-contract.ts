import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { WorkerInits } from '../../../../src/init/contract.ts';
import type { ContainerRuntime, EnsureRequest, WorkerShape } from '../../../../src/runtime/contract/runtime.ts';
import { runtimeImage } from '../../../support/emulator-image.ts';
import { callByInit } from '../../../support/node-inits.ts';
import { WORKER_PATH } from '../../../support/test-image.ts';
import { waitFor } from '../../../support/wait-for.ts';
import type { ConformanceTests } from './conformance-suite.ts';

/** Workers whose first process is our init. */
export const lambdaContract: ConformanceTests = (bench) => {
  const images = new Map<string, string>();
  const runs: ContainerRuntime[] = [];

  beforeAll(async () => {
    for (const user of ['', '1234:5678', '0']) {
      images.set(user, bench().lab.registry.put(`lambda:${user.replace(':', '-')}x`, await runtimeImage(user)));
    }
  });

  // Before the suite looks for what is left.
  afterEach(async () => {
    const last = runs.pop();
    for (const { containerId } of (await last?.list()) ?? []) {
      await last?.destroy(containerId, { graceSeconds: 0 });
    }
    await last?.stop();
    runs.length = 0;
  });

  function wanted(name: string, shape: Partial<WorkerShape> = {}, user = ''): EnsureRequest {
    const image = { reference: images.get(user) ?? '', pullPolicy: 'IfNotPresent' } as const;
    return bench().request(name, { image, runtimeInterface: 'Lambda', startupTimeoutSeconds: 20, ...shape });
  }

  /** One run of the agent. */
  async function run(): Promise<{ readonly inits: WorkerInits; readonly runtime: ContainerRuntime }> {
    const { lab } = bench();
    const inits = await lab.inits();
    const runtime = await lab.runtime({ inits });
    runs.push(runtime);
    return { inits, runtime };
  }

  it('are ready before any call, answer, sleep, and go with all that was theirs', async () => {
    const { inits, runtime } = await run();
    const request = wanted('lambda');
    const info = await runtime.ensure(request);
    expect(info).toMatchObject({ runtimeInterface: 'Lambda', task: { kind: 'Running' } });
    expect(info).not.toHaveProperty('address');
    const { containerId } = info;
    expect(inits.link(containerId)?.state).toMatchObject({ phase: 'Ready', idle: true, restarts: 0 });
    expect(await callByInit(inits, containerId, { print: 'hello\n' })).toBe('{"print":"hello\\n"}');

    await runtime.pause(containerId);
    expect((await runtime.inspect(containerId))?.task.kind).toBe('Paused');
    await runtime.resume(containerId);
    expect(await callByInit(inits, containerId, { n: 2 })).toBe('{"n":2}');
    const log = async () => (await runtime.readLog(containerId, 10_000)).toString();
    await waitFor('its output', async () => (await log()).includes('END RequestId'));
    expect(await log()).toMatch(/^the function is loaded\nSTART RequestId: \S+ Version: \$LATEST\nhello\nEND/);

    const begun = Date.now();
    await runtime.destroy(containerId, { graceSeconds: 10 });
    // SIGTERM reaches the runtime.
    expect(Date.now() - begun).toBeLessThan(8_000);
    expect(await inits.list()).toEqual([]);
    expect(await bench().lab.leftovers()).toEqual([]);
  });

  it.each([
    ['error', 'Function.Broken: no wand', '', 1],
    ['exit', 'Runtime.ExitError: Runtime exited with error: exit status 3', 'cannot find my wand\n', 3],
    ['hang', 'Sandbox.Timedout: Task timed out after 2.00 seconds', '', 1],
  ])('that fail to initialize by %s are told of in the words of Lambda', async (how, message, output, exitCode) => {
    const { inits, runtime } = await run();
    const request = wanted(how, { env: [{ name: 'INIT', value: how }], startupTimeoutSeconds: 2 });
    await expect(runtime.ensure(request)).rejects.toMatchObject({
      code: 'InitFailed',
      message: expect.stringContaining(message),
      retryable: true,
      exitCode,
    });
    expect(await runtime.inspect(request.containerId)).toBeUndefined();
    expect(await inits.list()).toEqual([]);
    expect((await runtime.readLog(request.containerId, 1_000)).toString()).toContain(output);
    await runtime.destroy(request.containerId);
  });

  it('that name no program of the image are told of likewise', async () => {
    const { runtime } = await run();
    const request = wanted('lost', { command: ['/no/such/program'] });
    await expect(runtime.ensure(request)).rejects.toMatchObject({
      code: 'InitFailed',
      message: expect.stringMatching(/^Runtime\.InvalidEntrypoint: .*no\/such\/program/),
    });
    await runtime.destroy(request.containerId);
  });

  describe.each([true, false])('with a root that is read-only: %s', (readOnlyRootFilesystem) => {
    it.each(['', '1234:5678', '0'])('run as user %j', async (user) => {
      const { inits, runtime } = await run();
      const { containerId } = await runtime.ensure(wanted('user', { readOnlyRootFilesystem }, user));
      expect(await callByInit(inits, containerId, { n: 1 })).toBe('{"n":1}');
    });
  });

  it('are found by the next run of the agent, the frozen ones too', async () => {
    const first = await run();
    const [running, frozen] = [wanted('running'), wanted('frozen')];
    await first.runtime.ensure(running);
    const info = await first.runtime.ensure(frozen);
    await first.runtime.pause(frozen.containerId);
    await first.runtime.stop();

    const { inits, runtime } = await run();
    const found = new Map((await runtime.list()).map((each) => [each.containerId, each]));
    expect(found.get(frozen.containerId)).toMatchObject({ ...info, task: { kind: 'Paused' } });
    await runtime.ensure(running);
    expect(await callByInit(inits, running.containerId, { n: 1 })).toBe('{"n":1}');
    await runtime.ensure(frozen);
    expect(inits.link(frozen.containerId)?.state?.phase).toBe('Ready');
    expect(await callByInit(inits, frozen.containerId, { n: 2 })).toBe('{"n":2}');
  });

  it('that a crash kept from being made leave files, which are found and removed', async () => {
    const { inits, runtime } = await run();
    const containerId = `crashed-${'0'.repeat(32)}`;
    await inits.open(containerId);
    const { containers, traces } = await runtime.inventory(new Set());
    expect(containers.has(containerId)).toBe(false);
    expect(traces).toContainEqual({ kind: 'init', containerId });
    expect(await runtime.clear(containerId)).toBe(true);
    expect(await inits.list()).toEqual([]);
  });

  it('that cannot be made leave no files', async () => {
    const { inits, runtime } = await run();
    await expect(runtime.ensure(wanted('empty', { command: [WORKER_PATH] }))).rejects.toMatchObject({
      code: 'NoEntrypoint',
    });
    expect(await inits.list()).toEqual([]);
    expect(await bench().lab.leftovers()).toEqual([]);
  });

  // The last of the group: nothing is left of the engine's images.
  it('leave a node with all their files', async () => {
    const { inits, runtime } = await run();
    await runtime.ensure(wanted('running'));
    await inits.open(`crashed-${'0'.repeat(32)}`);
    expect(await runtime.leave()).toEqual([]);
    expect(await inits.list()).toEqual([]);
    expect(await bench().lab.leftovers()).toEqual([]);
  });
};
