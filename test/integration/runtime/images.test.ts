import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import { systemCommandRunner } from '../../../src/common/exec/command-runner.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import type { ContainerRuntime, EnsureStep } from '../../../src/runtime/contract/runtime.ts';
import { CredentialProviders } from '../../../src/runtime/images/credential-providers.ts';
import { destroyAll, ensureRequest, type Lab, startLab } from '../../support/lab.ts';
import { testImage, workerFiles } from '../../support/test-image.ts';
import { waitFor } from '../../support/wait-for.ts';

async function unusedPort(): Promise<number> {
  const server = createServer();
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', listening.resolve);
  await listening.promise;
  const address = server.address();
  const closed = Promise.withResolvers<void>();
  server.close(() => closed.resolve());
  await closed.promise;
  return typeof address === 'object' && address !== null ? address.port : 0;
}

describe('an image', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  let hostsFolder: string;
  let count = 0;

  beforeAll(async () => {
    lab = await startLab();
    hostsFolder = join(lab.folder, 'certs.d');
    await mkdir(hostsFolder);
    runtime = await lab.runtime({
      hostsFolder,
      credentials: new CredentialProviders({
        configFile: join(lab.folder, 'providers.yaml'),
        programFolder: lab.folder,
        runner: systemCommandRunner,
        clock: systemClock,
        logger: silentLogger(),
      }),
    });
  });
  afterAll(async () => {
    await lab?.close();
  });
  afterEach(async () => {
    lab.registry.credentials = undefined;
    lab.registry.authentication = 'basic';
    lab.registry.hold = undefined;
    await destroyAll(runtime);
    expect(await lab.leftovers()).toEqual([]);
  });

  /** A reference that was not pulled yet. */
  async function fresh(options: Parameters<typeof testImage>[0] = {}): Promise<string> {
    count += 1;
    return lab.registry.put(`fresh-${count}:1`, await testImage({ env: [`COUNT=${count}`], ...options }));
  }
  const asked = (from: number, what: RegExp): number =>
    lab.registry.requests.slice(from).filter((request) => what.test(request)).length;

  it('is pulled once for many workers that need it at the same time', async () => {
    const reference = await fresh();
    const before = lab.registry.requests.length;
    const requests = Array.from({ length: 4 }, (_, index) =>
      ensureRequest(lab, `twin-${index}`, { image: { reference, pullPolicy: 'IfNotPresent' } }),
    );
    await Promise.all(requests.map((request) => runtime.ensure(request)));
    expect(asked(before, /GET .*\/manifests\//)).toBe(1);
    expect(await runtime.images()).toContain(reference);
  });

  it('waits for room when three others are being pulled', async () => {
    const release = Promise.withResolvers<void>();
    lab.registry.hold = release.promise;
    const references = await Promise.all([fresh(), fresh(), fresh(), fresh()]);
    const before = lab.registry.requests.length;
    const all = references.map((reference, index) =>
      runtime.ensure(ensureRequest(lab, `slow-${index}`, { image: { reference, pullPolicy: 'IfNotPresent' } })),
    );
    const repositories = (): Set<string> =>
      new Set(
        lab.registry.requests.slice(before).flatMap((request) => /(fresh-\d+)\/manifests/.exec(request)?.[1] ?? []),
      );
    await waitFor('three pulls', () => repositories().size === 3);
    release.resolve();
    await Promise.all(all);
    expect(repositories().size).toBe(4);
  });

  it('with a pull policy of IfNotPresent is not asked for again', async () => {
    const reference = await fresh();
    const image = { reference, pullPolicy: 'IfNotPresent' } as const;
    await runtime.ensure(ensureRequest(lab, 'first', { image }));
    const before = lab.registry.requests.length;
    const steps: EnsureStep[] = [];
    await runtime.ensure({
      ...ensureRequest(lab, 'second', { image }),
      onProgress: (step) => steps.push(step),
    });
    expect(asked(before, /./)).toBe(0);
    expect(steps).toEqual(['Creating', 'Starting']);
  });

  it('with a pull policy of Always follows its tag', async () => {
    const reference = lab.registry.put('moving:1', await testImage({ env: ['GREETING=old'] }));
    const image = { reference, pullPolicy: 'Always' } as const;
    const old = await runtime.ensure(ensureRequest(lab, 'old', { image }));
    lab.registry.put('moving:1', await testImage({ env: ['GREETING=new'] }));
    const fresher = await runtime.ensure(ensureRequest(lab, 'new', { image }));
    expect(fresher.image).not.toBe(old.image);
    const answer = await lab.caller.call(fresher.address ?? { ip: '', port: 0 }, {});
    expect(answer).toMatchObject({ env: { GREETING: 'new' } });
  });

  it('that was removed behind our back is pulled again', async () => {
    const reference = await fresh();
    const image = { reference, pullPolicy: 'IfNotPresent' } as const;
    const first = ensureRequest(lab, 'before', { image });
    await runtime.ensure(first);
    await runtime.destroy(first.containerId, { graceSeconds: 0 });
    await lab.ctr('images', 'rm', '--sync', reference);
    const steps: EnsureStep[] = [];
    await runtime.ensure({
      ...ensureRequest(lab, 'after', { image }),
      onProgress: (step) => steps.push(step),
    });
    expect(steps).toContain('Pulling');
  });

  it('whose name cannot be one is told as ImageInvalid', async () => {
    const image = { reference: 'Not A Name', pullPolicy: 'IfNotPresent' } as const;
    await expect(runtime.ensure(ensureRequest(lab, 'odd', { image }))).rejects.toMatchObject({
      code: 'ImageInvalid',
    });
  });

  it('with a pull policy of Never is not pulled', async () => {
    const reference = await fresh();
    const request = ensureRequest(lab, 'never', { image: { reference, pullPolicy: 'Never' } });
    await expect(runtime.ensure(request)).rejects.toMatchObject({
      code: 'ImageNotFound',
      message: expect.stringContaining('Never'),
    });
  });

  it('by digest is that one', async () => {
    const content = await testImage({ env: ['PINNED=1'] });
    lab.registry.put('pinned:1', content);
    const reference = `${lab.registry.host}/pinned@${content.manifest.digest}`;
    const info = await runtime.ensure(
      ensureRequest(lab, 'pinned', { image: { reference, pullPolicy: 'IfNotPresent' } }),
    );
    expect(info.image).toBe(reference);
  });

  it('of a private registry is pulled with the credentials of a secret', async () => {
    const reference = await fresh();
    lab.registry.credentials = { username: 'me', password: 'it:is' };
    const image = { reference, pullPolicy: 'IfNotPresent' } as const;
    await expect(runtime.ensure(ensureRequest(lab, 'nobody', { image }))).rejects.toMatchObject({
      code: 'ImagePullFailed',
      message: expect.stringContaining('imagePullSecrets'),
    });
    const auth = Buffer.from('me:it:is').toString('base64');
    const configs = ['{"auths":{}}', JSON.stringify({ auths: { [lab.registry.host]: { auth } } })];
    const pullSecrets = () => Promise.resolve({ configs, missing: [] });
    const info = await runtime.ensure(ensureRequest(lab, 'me', { image: { ...image, pullSecrets } }));
    expect(info.task.kind).toBe('Running');
  });

  it('of a private registry is pulled with what a credential provider gives, unless the worker names a secret', async () => {
    const api = 'credentialprovider.kubelet.k8s.io/v1';
    const auth = { [lab.registry.host]: { username: 'node', password: 'of-the-cloud' } };
    const answer = { apiVersion: api, kind: 'CredentialProviderResponse', cacheKeyType: 'Registry', auth };
    const program = join(lab.folder, 'cloud-provider');
    await writeFile(program, `#!/bin/sh\ncat > ${program}.asked\necho '${JSON.stringify(answer)}'\n`, { mode: 0o755 });
    const provider = { name: 'cloud-provider', apiVersion: api, matchImages: [lab.registry.host] };
    await writeFile(
      join(lab.folder, 'providers.yaml'),
      JSON.stringify({
        apiVersion: 'kubelet.config.k8s.io/v1',
        kind: 'CredentialProviderConfig',
        providers: [{ ...provider, defaultCacheDuration: '1h' }],
      }),
    );
    const reference = await fresh();
    const image = { reference, pullPolicy: 'IfNotPresent' } as const;
    lab.registry.credentials = { username: 'node', password: 'of-the-cloud' };
    const wrong = { auths: { [lab.registry.host]: { username: 'me', password: 'wrong' } } };
    const pullSecrets = () => Promise.resolve({ configs: [JSON.stringify(wrong)], missing: [] });
    await expect(
      runtime.ensure(ensureRequest(lab, 'named', { image: { ...image, pullSecrets } })),
    ).rejects.toMatchObject({ code: 'ImagePullFailed' });
    const info = await runtime.ensure(ensureRequest(lab, 'cloud', { image }));
    expect(info.task.kind).toBe('Running');
    expect(JSON.parse(await readFile(`${program}.asked`, 'utf8'))).toEqual({
      apiVersion: api,
      kind: 'CredentialProviderRequest',
      image: reference.replace(/:1$/, ''),
    });
    await rm(join(lab.folder, 'providers.yaml'));
    lab.registry.credentials = { username: 'node', password: 'changed' };
    await expect(
      runtime.ensure(ensureRequest(lab, 'unset', { image: { ...image, reference: await fresh() } })),
    ).rejects.toMatchObject({
      code: 'ImagePullFailed',
      message: expect.stringMatching(/credential providers: .*ENOENT.*providers\.yaml/),
    });
  });

  it('of a private registry is for the namespaces that have shown their right, over a restart and without the registry', {
    tags: ['T19'],
  }, async () => {
    const reference = await fresh({ files: await workerFiles() });
    lab.registry.credentials = { username: 'me', password: 'right' };
    lab.registry.authentication = 'token';
    const secretOf = (text: string) => {
      const auth = Buffer.from(text).toString('base64');
      const configs = [JSON.stringify({ auths: { [lab.registry.host]: { auth } } })];
      return () => Promise.resolve({ configs, missing: [] });
    };
    const start = (of: ContainerRuntime, namespace: string, secret?: string) => {
      const image = { reference, pullPolicy: 'IfNotPresent' } as const;
      const pullSecrets = secret === undefined ? {} : { pullSecrets: secretOf(secret) };
      const request = ensureRequest(lab, namespace, { image: { ...image, ...pullSecrets } });
      return of.ensure({ ...request, identity: { ...request.identity, namespace } });
    };
    await start(runtime, 'team-a', 'me:right');
    const before = lab.registry.requests.length;
    const refused = { code: 'ImageUnproven', retryable: true };
    await expect(start(runtime, 'team-b')).rejects.toMatchObject(refused);
    await expect(start(runtime, 'team-b', 'me:wrong')).rejects.toMatchObject(refused);
    expect(asked(before, /\/manifests\//)).toBeGreaterThan(0);
    expect(asked(before, /\/blobs\//)).toBe(0);

    const later = await lab.runtime({ hostsFolder });
    await lab.registry.takeDown();
    try {
      await expect(start(later, 'team-c', 'me:right')).rejects.toMatchObject({
        ...refused,
        message: expect.stringContaining('the registry does not answer'),
      });
      expect((await start(later, 'team-a')).task.kind).toBe('Running');
    } finally {
      await lab.registry.bringUp();
    }
    // The node leaves a registry that was away alone for a moment.
    await waitFor('team-b to be let', () =>
      start(later, 'team-b', 'me:right').then(
        ({ task }) => task.kind === 'Running',
        () => false,
      ),
    );
    expect(asked(before, /GET .*\/blobs\//)).toBe(0);
  });

  it('of a registry that certs.d describes is pulled from where it says', async () => {
    await fresh();
    lab.registry.put('mirrored:1', await testImage({ env: ['MIRROR=1'] }));
    const folder = join(hostsFolder, 'registry.test');
    await mkdir(folder);
    await writeFile(join(folder, 'hosts.toml'), `server = "http://${lab.registry.host}"\n`);
    const image = { reference: 'registry.test/mirrored:1', pullPolicy: 'IfNotPresent' } as const;
    const info = await runtime.ensure(ensureRequest(lab, 'mirrored', { image }));
    expect(info.image).toMatch(/^registry\.test\/mirrored@sha256:/);
  });

  it('that the registry does not have is told as ImageNotFound', async () => {
    const image = { reference: `${lab.registry.host}/missing:1`, pullPolicy: 'IfNotPresent' } as const;
    await expect(runtime.ensure(ensureRequest(lab, 'missing', { image }))).rejects.toMatchObject({
      code: 'ImageNotFound',
      retryable: true,
      message: expect.stringContaining(image.reference),
    });
  });

  it('of a registry that is not there is told as RegistryUnreachable', async () => {
    const reference = `127.0.0.1:${await unusedPort()}/missing:1`;
    const request = ensureRequest(lab, 'far', { image: { reference, pullPolicy: 'IfNotPresent' } });
    await expect(runtime.ensure(request)).rejects.toMatchObject({
      code: 'RegistryUnreachable',
      retryable: true,
      message: expect.stringContaining(reference),
    });
  });

  it('for another processor is told as ImageWrongPlatform', async () => {
    const reference = await fresh({ architecture: 's390x' });
    const request = ensureRequest(lab, 'foreign', { image: { reference, pullPolicy: 'IfNotPresent' } });
    await expect(runtime.ensure(request)).rejects.toMatchObject({ code: 'ImageWrongPlatform' });
  });

  it.each(['x86_64', ''])('whose author calls the processor %j runs under the filter of the node', async (name) => {
    const architecture = process.arch === 'x64' ? name : name.replace('x86_64', 'aarch64');
    const reference = await fresh({ architecture });
    const request = ensureRequest(lab, 'named', { image: { reference, pullPolicy: 'IfNotPresent' } });
    const { address } = await runtime.ensure(request);
    const status = 'read /proc/self/status';
    expect(await lab.caller.call(address ?? { ip: '', port: 0 }, { try: [status] }, 5_000)).toMatchObject({
      tried: { [status]: expect.stringContaining('Seccomp:\t2') },
    });
  });

  it('without an entrypoint is told as NoEntrypoint', async () => {
    const reference = await fresh({ entrypoint: null });
    const request = ensureRequest(lab, 'mute', { image: { reference, pullPolicy: 'IfNotPresent' } });
    await expect(runtime.ensure(request)).rejects.toMatchObject({ code: 'NoEntrypoint' });
  });

  it('whose program does not exist is told as what runc says of it', async () => {
    const reference = await fresh({ entrypoint: ['/no/such/program'] });
    const request = ensureRequest(lab, 'broken', { image: { reference, pullPolicy: 'IfNotPresent' } });
    await expect(runtime.ensure(request)).rejects.toMatchObject({
      code: expect.stringMatching(/^(Create|Start)Failed$/),
      message: expect.stringContaining('/no/such/program'),
    });
  });

  it('that names its user is run as that user', async () => {
    const named = await testImage({
      user: 'alice',
      files: [
        { path: '/etc/passwd', content: 'root:x:0:0::/:/x\nalice:x:1234:2345::/:/x\n' },
        { path: '/etc/group', content: 'staff:x:2345:\n' },
        ...(await workerFiles()),
      ],
    });
    const reference = lab.registry.put('named-user:1', named);
    const info = await runtime.ensure(
      ensureRequest(lab, 'alice', { image: { reference, pullPolicy: 'IfNotPresent' } }),
    );
    const answer = await lab.caller.call(info.address ?? { ip: '', port: 0 }, {});
    expect(answer).toMatchObject({ uid: 1234, gid: 2345 });
  });

  it('whose pull nobody waits for any more is not pulled on', async () => {
    const release = Promise.withResolvers<void>();
    lab.registry.hold = release.promise;
    const reference = await fresh();
    const caller = new AbortController();
    const request = ensureRequest(lab, 'gone', { image: { reference, pullPolicy: 'IfNotPresent' } });
    const ensured = runtime.ensure(request, { signal: caller.signal });
    await waitFor('the pull', () =>
      lab.registry.requests.some((line) => line.includes(`${reference.split('/')[1]?.split(':')[0]}/`)),
    );
    caller.abort();
    await expect(ensured).rejects.toMatchObject({ code: 'Aborted' });
    onTestFinished(() => release.resolve());
    await waitFor('nothing to be left', async () => (await lab.leftovers()).length === 0);
    expect(await runtime.images()).not.toContain(reference);
  });
});
