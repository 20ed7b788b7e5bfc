import { chmodSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { stringify } from 'yaml';
import { createKubeConnectionSource } from '../../../../src/kube/client/kube-config.ts';
import { run } from '../../../support/command.ts';
import { manualClock } from '../../../support/manual-clock.ts';

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'esb-kubeconfig-'));
  onTestFinished(() => rmSync(made, { recursive: true }));
  return made;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

function write(path: string, text: string): string {
  writeFileSync(path, text);
  return path;
}

let stamp = 1_000_000;

function writeConfig(at: string, user: object, cluster: object = {}): string {
  const file = write(
    join(at, 'config'),
    stringify({
      'current-context': 'here',
      contexts: [{ name: 'here', context: { cluster: 'c', user: 'u' } }],
      clusters: [{ name: 'c', cluster: { server: 'https://api.example:6443/prefix/', ...cluster } }],
      users: [{ name: 'u', user }],
    }),
  );
  // Two writes within one tick of the file system would look the same.
  stamp++;
  utimesSync(file, stamp, stamp);
  return file;
}

describe('a kubeconfig', () => {
  test('gives address, certificates and token', async () => {
    const kubeconfig = writeConfig(
      folder(),
      { 'client-certificate-data': base64('CERT'), 'client-key-data': base64('KEY'), token: 'secret' },
      { 'certificate-authority-data': base64('CA'), 'tls-server-name': 'kubernetes' },
    );
    expect(await createKubeConnectionSource({ kubeconfig }).current()).toMatchObject({
      origin: 'https://api.example:6443',
      basePath: '/prefix',
      tls: { ca: 'CA', cert: 'CERT', key: 'KEY', servername: 'kubernetes' },
      headers: { authorization: 'Bearer secret' },
    });
  });

  test('names files relative to itself', async () => {
    const at = folder();
    write(join(at, 'ca.crt'), 'CA');
    write(join(at, 'token'), 'from-file\n');
    const kubeconfig = writeConfig(
      at,
      { tokenFile: 'token', token: 'not this one' },
      { 'certificate-authority': 'ca.crt' },
    );
    const connection = await createKubeConnectionSource({ kubeconfig }).current();
    expect(connection.tls).toEqual({ ca: 'CA' });
    expect(connection.headers).toEqual({ authorization: 'Bearer from-file' });
  });

  test.each([
    { as: 'somebody' },
    { 'as-uid': 'u-1' },
    { 'as-groups': ['readers'] },
    { 'as-user-extra': { scope: ['less'] } },
  ])('that wants another user is refused: %j', async (impersonation) => {
    const kubeconfig = writeConfig(folder(), { token: 'secret', ...impersonation });
    await expect(createKubeConnectionSource({ kubeconfig }).current()).rejects.toMatchObject({
      code: 'InvalidKubeconfig',
      message: expect.stringContaining('impersonation'),
    });
  });

  test('is read again when it is old, or did not work', async () => {
    const at = folder();
    const clock = manualClock();
    const kubeconfig = writeConfig(at, { token: 'one' });
    const source = createKubeConnectionSource({ kubeconfig, clock, refreshMs: 1000 });
    const token = async (): Promise<string | undefined> => (await source.current()).headers.authorization;
    const before = (await source.current()).fingerprint;
    writeConfig(at, { token: 'two' });
    expect(await token()).toBe('Bearer one');
    await clock.advance(1000);
    expect(await token()).toBe('Bearer two');
    writeConfig(at, { token: 'three' });
    source.invalidate();
    expect(await token()).toBe('Bearer three');
    // A new token travels on the old sockets; a new certificate does not.
    expect((await source.current()).fingerprint).toBe(before);
    writeConfig(at, { 'client-certificate-data': base64('C'), 'client-key-data': base64('K') });
    source.invalidate();
    expect((await source.current()).fingerprint).not.toBe(before);
  });

  test('asks a credential plugin', async () => {
    const at = folder();
    const plugin = write(
      join(at, 'plugin'),
      `#!/bin/sh
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "from-plugin"}}'
`,
    );
    chmodSync(plugin, 0o755);
    const kubeconfig = writeConfig(at, {
      exec: {
        apiVersion: 'client.authentication.k8s.io/v1',
        command: plugin,
        interactiveMode: 'Never',
      },
    });
    const connection = await createKubeConnectionSource({ kubeconfig }).current();
    expect(new Map(Object.entries(connection.headers).map(([name, value]) => [name.toLowerCase(), value]))).toEqual(
      new Map([['authorization', 'Bearer from-plugin']]),
    );
  }, 30_000);

  test.each([
    ['is not there', undefined, 'there is no kubeconfig'],
    ['is no YAML', '{', 'config: '],
    ['has no current-context', 'contexts: []', 'no current-context'],
    ['names a context that is missing', 'current-context: x', 'no entry "x" under contexts'],
    [
      'names no server',
      stringify({
        'current-context': 'x',
        contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
        clusters: [{ name: 'c', cluster: {} }],
        users: [{ name: 'u', user: {} }],
      }),
      'names no server',
    ],
  ])('that %s is told so', async (_, text, message) => {
    const file = join(folder(), 'config');
    if (text !== undefined) {
      write(file, text);
    }
    const reading = createKubeConnectionSource({ kubeconfig: file }).current();
    await expect(reading).rejects.toMatchObject({ code: 'InvalidKubeconfig', retryable: true });
    await expect(reading).rejects.toThrow(message);
  });

  test('that comes later is found then', async () => {
    const at = folder();
    const source = createKubeConnectionSource({ kubeconfig: join(at, 'config') });
    await expect(source.current()).rejects.toThrow('there is no kubeconfig');
    writeConfig(at, {});
    expect((await source.current()).origin).toBe('https://api.example:6443');
  });
});

describe('in a Pod', () => {
  const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };

  test('the service account is used', async () => {
    const serviceAccountFolder = join(folder(), 'account');
    mkdirSync(serviceAccountFolder);
    write(join(serviceAccountFolder, 'ca.crt'), 'CA');
    write(join(serviceAccountFolder, 'token'), 'pod-token\n');
    expect(await createKubeConnectionSource({ env, serviceAccountFolder }).current()).toMatchObject({
      origin: 'https://[fd00::1]',
      tls: { ca: 'CA' },
      headers: { authorization: 'Bearer pod-token' },
    });
  });

  test('the client library of Kubernetes is not loaded', async () => {
    const serviceAccountFolder = folder();
    write(join(serviceAccountFolder, 'ca.crt'), 'CA');
    write(join(serviceAccountFolder, 'token'), 'pod-token');
    const module = (path: string): string => JSON.stringify(join(import.meta.dirname, '../../../../src', path));
    const script = `
      import { registerHooks } from 'node:module';
      const loaded = [];
      registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
      const { createKubeConnectionSource } = await import(${module('kube/client/kube-config.ts')});
      const { createKubeClient } = await import(${module('kube/client/client.ts')});
      await import(${module('kube/cache/informer.ts')});
      await import(${module('kube/controller/reconciler.ts')});
      await import(${module('kube/controller/leader-elector.ts')});
      await import(${module('kube/events/event-recorder.ts')});
      const source = createKubeConnectionSource(${JSON.stringify({ env, serviceAccountFolder })});
      await source.current();
      await createKubeClient({ source }).close();
      console.log(JSON.stringify(loaded));`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script]);
    const loaded = JSON.parse(stdout) as string[];
    expect(loaded.some((url) => url.endsWith('src/kube/client/transport.ts'))).toBe(true);
    expect(loaded.filter((url) => url.includes('@kubernetes/'))).toEqual([]);
  }, 30_000);

  test('elsewhere a message says what is missing', async () => {
    await expect(createKubeConnectionSource({ env: {} }).current()).rejects.toThrow('no kubeconfig was given');
  });
});
