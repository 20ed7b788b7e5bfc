import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { CniClient } from '../../../../src/cni/spec/libcni.ts';
import { parseNetworkConfig } from '../../../../src/cni/spec/network-config.ts';
import { ResultCache } from '../../../../src/cni/spec/result-cache.ts';
import type { Clock } from '../../../../src/common/clock.ts';
import { AbortedError } from '../../../../src/common/deadline.ts';
import type { CommandRequest, CommandResult } from '../../../../src/common/exec/command-runner.ts';

/** Every wait is over at once, except those that a test wants to see run out. */
const instant: Clock = {
  now: () => 0,
  monotonic: () => 0,
  setTimer(callback, delayMs) {
    const handle = delayMs <= 5000 ? setImmediate(callback) : undefined;
    return { cancel: () => clearImmediate(handle) };
  },
};

interface Call {
  readonly plugin: string;
  readonly command: string;
  readonly request: Record<string, unknown>;
  readonly env: Readonly<Record<string, string>>;
}

type Answer = Partial<CommandResult> | Error | ((request: CommandRequest) => Promise<CommandResult>);

const target = { containerId: 'c1', netns: '/run/netns/c1', ifName: 'eth0' };
const result = { cniVersion: '1.1.0', ips: [{ address: '10.1.0.2/16' }] };

async function setUp(answer: (call: Call) => Answer = () => ({ stdout: JSON.stringify(result) })) {
  const folder = await mkdtemp(join(tmpdir(), 'esb-cni-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const calls: Call[] = [];
  const config = parseNetworkConfig(
    JSON.stringify({
      cniVersion: '1.1.0',
      name: 'esb',
      plugins: [{ type: 'first' }, { type: 'second', x: 1 }],
    }),
    'test',
  );
  const client = new CniClient({
    config,
    pluginFolder: '/opt/cni/bin',
    cache: new ResultCache(folder),
    clock: instant,
    runner: {
      async run(request) {
        const call: Call = {
          plugin: request.program,
          command: request.env?.CNI_COMMAND ?? '',
          request: JSON.parse(request.input ?? '{}') as Record<string, unknown>,
          env: request.env ?? {},
        };
        calls.push(call);
        const given = answer(call);
        if (given instanceof Error) {
          throw given;
        }
        return typeof given === 'function' ? await given(request) : { code: 0, stdout: '', stderr: '', ...given };
      },
    },
  });
  return { client, calls, folder };
}

function systemError(code: string): Error {
  return Object.assign(new Error(`spawn ${code}`), { code });
}

describe('ADD', () => {
  it('runs the plugins in order, each with the result of the one before, and keeps the last', {
    tags: ['P20'],
  }, async () => {
    const { client, calls, folder } = await setUp();
    expect(await client.add(target)).toEqual(result);
    expect(calls.map(({ plugin, command }) => [plugin, command])).toEqual([
      ['/opt/cni/bin/first', 'ADD'],
      ['/opt/cni/bin/second', 'ADD'],
    ]);
    expect(calls[0]?.request).toEqual({ cniVersion: '1.1.0', name: 'esb', type: 'first' });
    expect(calls[1]?.request).toEqual({
      cniVersion: '1.1.0',
      name: 'esb',
      type: 'second',
      x: 1,
      prevResult: result,
    });
    expect(calls[1]?.env).toMatchObject({
      CNI_CONTAINERID: 'c1',
      CNI_NETNS: '/run/netns/c1',
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin',
    });
    const cached = JSON.parse(await readFile(join(folder, 'results/esb-c1-eth0'), 'utf8')) as object;
    expect(cached).toMatchObject({ kind: 'cniCacheV1', containerId: 'c1', networkName: 'esb', result });
  });

  it('tells which plugin failed, where, and what it said', async () => {
    const { client } = await setUp(() => ({ code: 1, stdout: '{"code":7,"msg":"bad","details":"subnet"}' }));
    await expect(client.add(target)).rejects.toMatchObject({
      code: 'PluginFailed',
      cniCode: 7,
      retryable: false,
      message: 'CNI plugin first in /opt/cni/bin failed ADD: bad; subnet',
    });
  });

  it('tells what a plugin wrote to its error output when it gave no error of its own', async () => {
    const { client } = await setUp(() => ({ code: 2, stderr: 'panic: oh\n' }));
    await expect(client.add(target)).rejects.toThrow(/failed ADD: panic: oh$/);
  });

  it('tells of an answer that is no result', async () => {
    const { client } = await setUp(() => ({ stdout: 'hello' }));
    await expect(client.add(target)).rejects.toMatchObject({
      code: 'PluginInvalidOutput',
      message: expect.stringContaining('hello'),
    });
  });

  it('tells of a plugin that is missing', async () => {
    const { client } = await setUp(() => systemError('ENOENT'));
    await expect(client.add(target)).rejects.toMatchObject({
      code: 'PluginMissing',
      message: expect.stringMatching(/first is missing in \/opt\/cni\/bin.*--cni-bin-dir/),
    });
  });

  it('asks a busy plugin again, and one that is being written', async () => {
    let count = 0;
    const { client } = await setUp(() => {
      count += 1;
      if (count === 1) {
        return systemError('ETXTBSY');
      }
      return count <= 4 ? { code: 1, stdout: '{"code":11,"msg":"later"}' } : { stdout: JSON.stringify(result) };
    });
    await client.add(target);
    expect(count).toBe(6);
  });

  it('gives up on a plugin that stays busy', async () => {
    const { client, calls } = await setUp(() => ({ code: 1, stdout: '{"code":11,"msg":"later"}' }));
    await expect(client.add(target)).rejects.toMatchObject({ retryable: true, cniCode: 11 });
    expect(calls.length).toBe(6);
  });

  it('ends a plugin that takes too long', async () => {
    const { client } = await setUp(
      () => (request) =>
        new Promise((_, reject) => {
          request.signal?.addEventListener('abort', () => reject(new AbortedError('plugin')));
        }),
    );
    await expect(client.add(target, { deadlineMs: 1 })).rejects.toMatchObject({
      code: 'DeadlineExceeded',
      message: expect.stringContaining('/opt/cni/bin'),
    });
  });
});

describe('DEL', () => {
  it('runs the plugins in reverse, each with the kept result, and forgets it', async () => {
    const { client, calls } = await setUp();
    await client.add(target);
    calls.length = 0;
    await client.del({ ...target, netns: '' });
    expect(calls.map(({ plugin }) => plugin)).toEqual(['/opt/cni/bin/second', '/opt/cni/bin/first']);
    expect(calls.map(({ request }) => request.prevResult)).toEqual([result, result]);
    expect(calls[0]?.env.CNI_NETNS).toBe('');
    calls.length = 0;
    await client.del(target);
    expect(calls.map(({ request }) => request.prevResult)).toEqual([undefined, undefined]);
  });

  it('keeps the result when a plugin fails', async () => {
    const { client, calls } = await setUp(({ command }) =>
      command === 'DEL' ? { code: 1, stdout: '{"code":100,"msg":"no"}' } : { stdout: JSON.stringify(result) },
    );
    await client.add(target);
    await expect(client.del(target)).rejects.toThrow('no');
    await expect(client.del(target)).rejects.toThrow('no');
    expect(calls.at(-1)?.request.prevResult).toEqual(result);
  });
});

describe('the other verbs', () => {
  it('CHECK needs a result to compare with', async () => {
    const { client, calls } = await setUp();
    await expect(client.check(target)).rejects.toMatchObject({ code: 'AttachmentUnknown' });
    await client.add(target);
    await client.check(target);
    expect(calls.at(-1)).toMatchObject({ command: 'CHECK', request: { prevResult: result } });
  });

  it('STATUS and GC pass over plugins that do not know them', async () => {
    const { client, calls } = await setUp(() => ({
      code: 1,
      stdout: '{"code":4,"msg":"unknown CNI_COMMAND"}',
    }));
    await client.status();
    await client.gc([target]);
    expect(calls.at(-1)?.request['cni.dev/valid-attachments']).toEqual([{ containerID: 'c1', ifname: 'eth0' }]);
  });

  it('STATUS tells of a plugin that is not ready', async () => {
    const { client } = await setUp(() => ({ code: 1, stdout: '{"code":50,"msg":"no daemon"}' }));
    await expect(client.status()).rejects.toThrow(/first.*no daemon/);
  });

  it('VERSION refuses a plugin that is too old', async () => {
    const { client } = await setUp(() => ({
      stdout: '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}',
    }));
    await expect(client.checkVersions(['first'])).rejects.toMatchObject({
      code: 'VersionIncompatible',
      message: expect.stringContaining('does not speak CNI 1.1.0, only 1.0.0'),
    });
  });
});
