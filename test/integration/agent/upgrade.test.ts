import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { emulatorImage } from '../../support/emulator-image.ts';

const before = { NODE_OPTIONS: `--import=${resolve(import.meta.dirname, '../../support/emulator-by-default.ts')}` };

describe('a worker that names no interface, made before ESB served the Runtime API', () => {
  let lab: AgentLab;
  let image: string;

  const idOf = (worker: LambdaWorker): string => worker.status?.containerID ?? '';
  const commandOf = async (worker: LambdaWorker): Promise<string | undefined> => {
    const { Spec } = JSON.parse(await lab.lab.ctr('containers', 'info', idOf(worker))) as {
      readonly Spec: { readonly process: { readonly args: readonly string[] } };
    };
    return Spec.process.args[0];
  };
  const answerOf = async (worker: LambdaWorker, payload: object) => {
    const { body, outcome, start } = await lab.invoke(worker, { payload });
    return { body: outcome === 'OUTCOME_ANSWERED' ? (JSON.parse(body) as unknown) : outcome, start };
  };
  /** Takes out of the records what the releases before do not write. */
  const ageRecords = async (): Promise<void> => {
    const folder = join(lab.stateDir, 'workers');
    for (const file of await readdir(folder)) {
      const record = JSON.parse(await readFile(join(folder, file), 'utf8')) as Readonly<
        Record<'desired' | 'container', Readonly<Record<string, unknown>> | undefined>
      >;
      const { runtimeInterface, startupTimeoutSeconds: _, ...desired } = record.desired ?? {};
      const { runtimeInterface: __, ...container } = record.container ?? {};
      expect(runtimeInterface).toBe('Emulator');
      const aged = { ...record, desired, ...(record.container === undefined ? {} : { container }) };
      await writeFile(join(folder, file), JSON.stringify(aged));
    }
  };

  beforeAll(async () => {
    lab = await startAgentLab();
    image = lab.lab.registry.put('emulated:1', await emulatorImage());
    await lab.startAgent([], before);
    await lab.untilServing();
    await Promise.all([
      lab.apply('runs', { image }),
      lab.apply('sleeps', { image, desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } }),
      lab.apply('rests', { image, desiredState: 'Absent' }),
    ]);
  });
  afterAll(() => lab?.close());

  it('keeps its container over the upgrade, and is called by the emulator in it', async () => {
    const running = await lab.waitForPhase('runs', 'Running');
    const paused = await lab.waitForPhase('sleeps', 'Paused');
    await lab.waitForPhase('rests', 'Absent');
    expect(await answerOf(running, { n: 1 })).toEqual({ body: { n: 1 }, start: 'running' });
    const tasksBefore = await lab.tasks();
    await lab.stopAgent();
    await ageRecords();
    await lab.startAgent();
    await lab.untilServing();
    // Nothing may happen meanwhile.
    await delay(2_000);
    expect(await lab.tasks()).toEqual(tasksBefore);
    expect(await answerOf(running, { n: 2 })).toEqual({ body: { n: 2 }, start: 'running' });
    expect(await answerOf(paused, { n: 3 })).toEqual({ body: { n: 3 }, start: 'paused' });
    const after = await lab.waitForPhase('sleeps', 'Paused');
    for (const [was, is] of [
      [running, await lab.worker('runs')],
      [paused, after],
    ] as const) {
      expect(await commandOf(is)).toBe('/usr/local/bin/aws-lambda-rie');
      expect(is.status).toMatchObject({ containerID: idOf(was), address: was.status?.address, restartCount: 0 });
    }
  });

  it('is served by ESB from its next container on', async () => {
    const running = await lab.worker('runs');
    await lab.patch('runs', { spec: { timeoutSeconds: 5 } });
    const changed = await lab.waitForWorker(
      'runs',
      'to be made anew',
      (worker) => idOf(worker) !== idOf(running) && worker.status?.phase === 'Running',
    );
    expect(await commandOf(changed)).toBe('/run/esb/init');
    expect(changed.status?.address).toEqual({ ip: expect.stringMatching(/^10\.234\./) });
    expect(await answerOf(changed, { n: 4 })).toEqual({ body: { n: 4 }, start: 'running' });
    expect(await answerOf(await lab.worker('rests'), { n: 5 })).toEqual({ body: { n: 5 }, start: 'absent' });
    expect(await commandOf(await lab.waitForPhase('rests', 'Running'))).toBe('/run/esb/init');
  });
});
