import { randomUUID } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { LambdaWorker, LambdaWorkerSpec } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { run } from '../../support/command.ts';
import { emulatorImage } from '../../support/emulator-image.ts';
import { startOwnedProcess } from '../../support/owned-process.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';

interface Chunk {
  readonly data: Buffer;
  readonly offset: number;
  readonly missed: number;
  readonly requestId: string;
}

const root = resolve(import.meta.dirname, '../../..');

describe('the log of a worker', () => {
  let lab: AgentLab;
  let image: string;

  beforeAll(async () => {
    lab = await startAgentLab();
    image = lab.lab.registry.put('emulator:1', await emulatorImage());
    await lab.startAgent(['--log-max-size', '64Ki', '--log-max-files', '4']);
    await lab.untilServing();
  });
  afterAll(async () => {
    await lab?.close();
  });

  async function running(name: string, spec: Partial<LambdaWorkerSpec> = {}): Promise<LambdaWorker> {
    await lab.apply(name, { image, timeoutSeconds: 20, ...spec });
    onTestFinished(() => lab.remove(name));
    return await lab.waitForPhase(name, 'Running');
  }

  function chunks(name: string, request: object = {}): AsyncIterable<Chunk> {
    return lab.stream<Chunk>('getLogs', { worker: { namespace: 'default', name }, ...request });
  }

  async function text(name: string, request: object = {}): Promise<string> {
    let whole = '';
    for await (const { data } of chunks(name, request)) {
      whole += data.toString();
    }
    return whole;
  }

  /** The log once something is in it: the shim writes it down a moment after the emulator has answered. */
  async function textWith(part: string, name: string, request: object = {}): Promise<string> {
    return await waitFor(`${JSON.stringify(part)} in the log`, async () => {
      const whole = await text(name, request);
      return whole.includes(part) ? whole : undefined;
    });
  }

  /**
   * Waits until a call has been written down, and what the emulator tells of it afterwards on its other stream, too.
   */
  async function untilQuietAfter(requestId: string, name: string): Promise<void> {
    let last = '';
    await waitFor(
      'the log to be at rest',
      async () => {
        const before = last;
        last = await text(name);
        return last === before && last.includes(`REPORT RequestId: ${requestId}`);
      },
      { everyMs: 500 },
    );
  }

  /** Without what the emulator itself tells on its other stream, which comes when it comes, also within a line. */
  function functionText(log: string): string {
    return log.replaceAll(/\d\d \w{3} \d{4} [\d:,]+ \[INFO\] \(rapid\) [^\n]*\n/g, '');
  }

  it.each([
    // The function is loaded before its first call, and a line that the function leaves open is ended.
    { runtimeInterface: 'Lambda', loaded: '', ended: '\\n' },
    // The emulator loads the function once there is a call.
    { runtimeInterface: 'Emulator', loaded: 'the function is loaded\\n', ended: '' },
  ] as const)('is split by calls, whichever stream the function writes to, with $runtimeInterface', async (each) => {
    const { ended, loaded, runtimeInterface } = each;
    const worker = await running('split', { runtimeInterface });
    const ids = [randomUUID(), randomUUID(), randomUUID()] as const;
    await lab.invoke(worker, { requestId: ids[0], payload: { print: 'first\n', error: 'also first\n' } });
    await lab.invoke(worker, { requestId: ids[1], payload: { print: 'second, not ended', after: 'late\n' } });
    await textWith('late\n', 'split');
    await lab.invoke(worker, { requestId: ids[2], payload: { print: 'third\n' } });
    await untilQuietAfter(ids[2], 'split');
    const byCall = new Map<string, string>();
    let offset: number | undefined;
    for await (const chunk of chunks('split')) {
      byCall.set(chunk.requestId, (byCall.get(chunk.requestId) ?? '') + chunk.data.toString());
      expect(Number(chunk.offset)).toBe(offset ?? Number(chunk.offset));
      offset = Number(chunk.offset) + chunk.data.length;
    }
    for (const [id, spoken] of byCall) {
      byCall.set(id, functionText(spoken));
    }
    expect([...byCall.keys()].filter((id) => id !== '')).toEqual([...ids]);
    expect(byCall.get(ids[0])).toMatch(
      new RegExp(`^START RequestId: [^\\n]+\\n${loaded}first\\nalso first\\nEND [^\\n]+\\nREPORT [^\\n]+\\n$`),
    );
    expect(byCall.get(ids[1])).toMatch(
      new RegExp(`^START [^\\n]+\\nsecond, not ended${ended}END RequestId: [^\\n]+\\nREPORT [^\\n]+\\n$`),
    );
    expect(byCall.get('')).toContain('late\n');
    expect(functionText(await text('split', { requestId: ids[1] }))).toBe(byCall.get(ids[1]));
    const third = await text('split', { requestId: ids[2] });
    expect(functionText(third)).toContain('third\n');
    expect(await text('split', { requestId: ids[2], tailLines: 2 })).toBe(third.split('\n').slice(-3).join('\n'));
    const whole = await text('split');
    expect(await text('split', { tailLines: 3 })).toBe(whole.split('\n').slice(-4).join('\n'));
  });

  it('is followed over rotations, and the end of the one call that was asked for ends it', async () => {
    const worker = await running('followed');
    const requestId = randomUUID();
    const lines = 20_000;
    const following = (async () => {
      let whole = '';
      for await (const { data, missed } of chunks('followed', { requestId, follow: true })) {
        expect(missed).toBe(0);
        whole += data.toString();
      }
      return whole;
    })();
    const everything = (async () => {
      let whole = '';
      for await (const { data } of chunks('followed', { follow: true })) {
        whole += data.toString();
        if (whole.includes(`REPORT RequestId: ${requestId}`)) {
          break;
        }
      }
      return whole;
    })();
    // 480 KB: a little at a time, or a follower that looks four times a second would be told what it missed.
    for (let round = 0; round < 10; round += 1) {
      await lab.invoke(worker, { payload: { lines: lines / 100 } });
    }
    for (let round = 0; round < 20; round += 1) {
      await lab.invoke(worker, { payload: { lines: lines / 20 } });
      // The pace of the calls.
      await delay(300);
    }
    const answer = await lab.invoke(worker, { requestId, payload: { lines: 3 }, tailLog: true });
    expect(functionText(answer.logTail)).toMatch(/^START [^\n]+\n(?:line 00000\d of a call\n){3}END [^\n]+\nREPORT/);
    const one = await following;
    expect(functionText(one)).toBe(functionText(answer.logTail));
    const seen = functionText(await everything).match(/^line \d+ of a call$/gm) ?? [];
    expect(seen).toHaveLength(10 * (lines / 100) + lines + 3);
    // Of output without a follower the latest is kept; rotation comes some time after the write.
    const kept = await waitFor('the last rotation', async () => {
      const whole = await text('followed');
      return whole.length < 4 * 64 * 1024 + 100 ? whole : undefined;
    });
    expect(kept.length).toBeGreaterThan(3 * 64 * 1024 - 100);
    expect(functionText(kept).endsWith(functionText(answer.logTail))).toBe(true);
  });

  it('gives the tail of a call that wrote more than a file holds', async () => {
    const worker = await running('tail');
    for (let round = 0; round < 5; round += 1) {
      const answer = await lab.invoke(worker, {
        payload: { lines: 4_000, print: `${round}` },
        tailLog: true,
      });
      expect(answer.logTail).toHaveLength(4096);
      expect(functionText(answer.logTail)).toMatch(/line 003999 of a call\nEND [^\n]+\nREPORT RequestId: [^\n]+\n$/);
    }
  });

  it('is given since a time, also by an agent that was killed and started again', async () => {
    const worker = await running('since');
    await lab.invoke(worker, { payload: { print: 'long ago\n' } });
    // The time is what is tested.
    await delay(2_500);
    const before = Date.now();
    await lab.invoke(worker, { payload: { print: 'just now\n' } });
    const recent = await textWith('just now\n', 'since', { sinceMs: before });
    expect(recent).not.toContain('long ago\n');
    // By then it counts as silent, and how long it is at that time is kept beside it.
    await delay(5_000);
    await lab.invoke(worker, { payload: { print: 'later\n' } });
    // No word tells when the other side has come so far.
    await delay(1_500);
    await lab.killAgent();
    await lab.startAgent(['--log-max-size', '64Ki', '--log-max-files', '4']);
    await lab.untilServing();
    const after = Date.now();
    await lab.invoke(worker, { payload: { print: 'after the restart\n' } });
    const latest = await textWith('after the restart\n', 'since', { sinceMs: after });
    expect(latest).not.toContain('later\n');
    expect(await text('since', { sinceMs: before + 6_000 })).not.toContain('long ago\n');
    expect(await text('since')).toContain('long ago\n');
  });

  it('of the container before is there after a crash', async () => {
    const worker = await running('crashed');
    await lab.invoke(worker, { payload: { print: 'first life\n' } });
    const { restartCount } = (await lab.worker('crashed')).status ?? {};
    const [task] = (await lab.lab.ctr('tasks', 'list', '-q')).split('\n').filter((id) => id.startsWith('crashed-'));
    await lab.lab.ctr('tasks', 'kill', '--signal', 'SIGKILL', task ?? '');
    await lab.waitForWorker(
      'crashed',
      'to be started again',
      ({ status }) => status?.phase === 'Running' && (status.restartCount ?? 0) > (restartCount ?? 0),
    );
    await lab.invoke(await lab.worker('crashed'), { payload: { print: 'second life\n' } });
    const previous = await text('crashed', { previous: true });
    expect(previous).toContain('first life\n');
    expect(previous).not.toContain('second life\n');
    await textWith('second life\n', 'crashed');
    await expect(text('nobody')).rejects.toThrow('no worker default/nobody');
  });

  it('of the container before is there after a new shape and after a call that was cut off', async () => {
    await lab.apply('late', { image, timeoutSeconds: 20 });
    const worker = await lab.waitForPhase('late', 'Running');
    await lab.invoke(worker, { payload: { print: 'what it did last\n' } });
    await textWith('what it did last\n', 'late');
    await lab.patch('late', { spec: { timeoutSeconds: 30 } });
    await lab.waitForWorker(
      'late',
      'to have another container',
      ({ status }) => status?.phase === 'Running' && status.containerID !== worker.status?.containerID,
    );
    expect(await text('late', { previous: true })).toContain('what it did last\n');
    const replaced = await lab.worker('late');
    const cutOff = lab.invoke(replaced, { payload: { print: 'before it hung\n', sleepMs: 20_000 } });
    await textWith('before it hung\n', 'late');
    await lab.lab.ctr('tasks', 'kill', '--signal', 'SIGKILL', replaced.status?.containerID ?? '');
    expect(await cutOff).toMatchObject({ outcome: 'OUTCOME_UNKNOWN' });
    await lab.invoke(await lab.worker('late'), { payload: { print: 'anew\n' } });
    const previous = await textWith('before it hung\n', 'late', { previous: true });
    expect(previous).not.toContain('anew\n');
    await lab.remove('late');
    await waitFor('its output to be removed', async () =>
      (await readdir(join(lab.stateDir, 'logs'))).every((file) => !file.startsWith('late-')),
    );
  });

  it('is shown to an administrator who has a kubeconfig and nothing else', async () => {
    const worker = await running('remote');
    const requestId = randomUUID();
    await lab.invoke(worker, { requestId, payload: { print: 'seen from afar\n' } });
    // Its authority takes the place of the one that the test signs with.
    const controller = await startOwnedProcess({
      program: process.execPath,
      args: [
        join(root, 'src/main.ts'),
        'controller',
        ...['--kubeconfig', lab.api.adminKubeconfig, '--health', '127.0.0.1:0'],
      ],
      logFile: join(lab.lab.folder, 'controller.log'),
    });
    onTestFinished(() => controller.kill());
    const logs = async (...args: readonly string[]) =>
      await run(
        'nsenter',
        [
          `--net=${lab.lab.netnsPath}`,
          process.execPath,
          join(root, 'src/main.ts'),
          ...['logs', 'remote', '--kubeconfig', lab.api.adminKubeconfig, ...args],
        ],
        {
          env: {
            ...process.env,
            ESB_HOME: join(lab.lab.folder, 'none'),
            PATH: `${toolsFolder()}:${process.env.PATH ?? ''}`,
          },
          mayFail: true,
          timeoutMs: 60_000,
        },
      );
    let last = '';
    await waitFor(
      'the log',
      async () => {
        const { code, stdout, stderr } = await logs('--request-id', requestId);
        last = stdout + stderr;
        return code === 0 && stdout.includes('seen from afar\n');
      },
      { timeoutMs: 60_000 },
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${last}\n${controller.output().slice(-3000)}`);
    });
    const tail = await logs('--tail', '2', '--emulator');
    expect(tail.stdout).toMatch(/^[^\n]+\n[^\n]+\n$/);
    expect((await logs('--since', 'tomorrow')).stderr).toContain('neither a duration');
    expect(await lab.api.kubectl(['get', 'csr', '-o', 'name'])).not.toContain('esb-cli-');
  });
});
