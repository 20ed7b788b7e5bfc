import { expect, it } from 'vitest';
import { testImage } from '../../../support/test-image.ts';
import type { ConformanceTests } from './conformance-suite.ts';

/** Rights and bounds of a worker. */
export const isolationContract: ConformanceTests = (bench) => {
  it('gives a worker a root that it cannot write, and a sized /tmp that it can', async () => {
    const { request, runtime, tries } = bench();
    const info = await runtime.ensure(request('confined'));
    expect(await tries(info, 'create /x', 'create /tmp/x', 'fill /tmp/big 64')).toEqual({
      'create /x': 'open /x: read-only file system',
      'create /tmp/x': 'ok',
      'fill /tmp/big 64': expect.stringMatching(/no space left on device after 1[56] MiB$/),
    });
  });

  it('gives a worker that may write its root the user that can', async () => {
    const { request, runtime, tries } = bench();
    const info = await runtime.ensure(request('writer', { readOnlyRootFilesystem: false }));
    expect(await tries(info, 'create /x')).toEqual({ 'create /x': 'ok' });
  });

  it('gives a worker no capabilities, no new privileges and a filter of system calls', async () => {
    const { request, runtime, tries } = bench();
    const info = await runtime.ensure(request('harmless', { readOnlyRootFilesystem: false }));
    const tried = await tries(
      info,
      'read /proc/self/status',
      'mount',
      'clone-user',
      'write /proc/sys/kernel/hostname x',
      'local-pair',
      'tipc-pair',
    );
    const status = tried['read /proc/self/status'] ?? '';
    for (const line of ['CapEff:\t0000000000000000', 'CapBnd:\t0000000000000000', 'NoNewPrivs:\t1', 'Seccomp:\t2']) {
      expect(status).toContain(line);
    }
    expect(tried.mount).toMatch(/not permitted/);
    expect(tried['clone-user']).toMatch(/not permitted|function not implemented/);
    expect(tried).toMatchObject({ 'local-pair': 'ok', 'tipc-pair': 'operation not permitted' });
    expect(tried['write /proc/sys/kernel/hostname x']).toMatch(/read-only file system|permission denied/);
  });

  it('gives a worker the names of its loopback and of itself', async () => {
    const { request, runtime, tries } = bench();
    const info = await runtime.ensure(request('named'));
    const own = `resolve ${info.containerId}`;
    expect(await tries(info, 'resolve localhost', own)).toEqual({
      'resolve localhost': expect.stringMatching(/^ok (127\.0\.0\.1|::1)/),
      [own]: `ok ${info.address?.ip}`,
    });
  });

  it('holds a worker to its number of processes', async () => {
    const { request, runtime, tries } = bench();
    // With one processor Go makes no thread while this goes on, which it would be refused and end for.
    const env = [{ name: 'GOMAXPROCS', value: '1' }];
    const info = await runtime.ensure(request('forking', { pids: 64, env }));
    // Those it has are ended in the same call: it has no thread left for another one.
    expect(await tries(info, 'fork 5000', 'reap')).toMatchObject({
      'fork 5000': expect.stringMatching(/^resource temporarily unavailable after \d+ processes$/),
    });
  });

  it('hides what an image may not say', async () => {
    const { lab, request, runtime, tries } = bench();
    const env = ['AWS_LAMBDA_MAX_CONCURRENCY=5', 'AWS_LAMBDA_FUNCTION_NAME=other', 'KEPT=yes'];
    const loud = lab.registry.put('loud:1', await testImage({ env }));
    const info = await runtime.ensure(request('loud', { image: { reference: loud, pullPolicy: 'IfNotPresent' } }));
    const environ = (await tries(info, 'read /proc/self/environ'))['read /proc/self/environ'] ?? '';
    const variables = environ.replace(/^ok /, '').split('\0');
    expect(variables).toContain('KEPT=yes');
    expect(variables).toContain('AWS_LAMBDA_FUNCTION_NAME=loud');
    expect(variables.filter((line) => line.startsWith('AWS_LAMBDA_MAX_CONCURRENCY'))).toEqual([]);
  });

  it('gives each worker its own address, and lets it listen below 1024', async () => {
    const { call, request, runtime, tries } = bench();
    const args = ['--runtime-interface-emulator-address', '0.0.0.0:80'];
    const one = await runtime.ensure(request('one', { port: 80, args }));
    const two = await runtime.ensure(request('two'));
    expect(await call(one)).toMatchObject({ counter: 1 });
    expect(two.address?.ip).not.toBe(one.address?.ip);
    expect((await tries(two, `connect ${two.address?.ip}:8080`))[`connect ${two.address?.ip}:8080`]).toBe('ok');
  });

  it('gives a worker in the network of the node a port of its own there', async () => {
    const { call, request, runtime } = bench();
    const host = { networkMode: 'Host', command: ['/usr/local/bin/aws-lambda-rie'] } as const;
    const infos = await Promise.all(['left', 'right'].map((name) => runtime.ensure(request(name, host))));
    const ports = infos.map(({ address }) => address?.port ?? 0);
    expect(infos.map(({ address }) => address?.ip)).toEqual(['127.0.0.1', '127.0.0.1']);
    expect(new Set(ports).size).toBe(2);
    for (const info of infos) {
      expect(await call(info)).toMatchObject({ counter: 1 });
    }
  });
};
