import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ContainerdChannel } from '../../../src/containerd/containerd-channel.ts';
import type { ContainerRuntime, PullSecrets, WorkerInfo } from '../../../src/runtime/contract/runtime.ts';
import { ensureRequest, type Lab, startLab } from '../../support/lab.ts';
import { ownArchitecture, testImage, testIndex, workerFiles } from '../../support/test-image.ts';
import { waitFor } from '../../support/wait-for.ts';

const otherArchitecture = ownArchitecture === 'arm64' ? 'amd64' : 'arm64';

describe('pulling an image', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  let hostsFolder: string;
  let count = 0;

  beforeAll(async () => {
    lab = await startLab();
    hostsFolder = join(lab.folder, 'certs.d');
    await mkdir(hostsFolder);
    runtime = await lab.runtime({ hostsFolder, maxPulls: 2 });
  });
  afterAll(async () => {
    await lab?.close();
  });
  afterEach(async () => {
    lab.registry.credentials = undefined;
    lab.registry.authentication = 'basic';
    lab.registry.hold = undefined;
    lab.registry.pace = undefined;
    await Promise.all(
      (await runtime.list()).map(({ containerId }) => runtime.destroy(containerId, { graceSeconds: 0 })),
    );
    expect(await lab.leftovers()).toEqual([]);
  });

  const freshName = (): string => {
    count += 1;
    return `pull-${count}:1`;
  };
  /** A reference that was not pulled yet. */
  const fresh = async (options: Parameters<typeof testImage>[0] = {}): Promise<string> =>
    lab.registry.put(freshName(), await testImage({ env: [`COUNT=${count}`], ...options }));
  const ensure = async (name: string, reference: string, secrets?: PullSecrets): Promise<WorkerInfo> =>
    await runtime.ensure(
      ensureRequest(lab, name, {
        image: {
          reference,
          pullPolicy: 'IfNotPresent',
          ...(secrets === undefined ? {} : { pullSecrets: () => Promise.resolve(secrets) }),
        },
      }),
    );
  const requestsSince = (from: number, what: RegExp): readonly string[] =>
    lab.registry.requests.slice(from).filter((request) => what.test(request));
  const environmentOf = async ({ address }: WorkerInfo): Promise<unknown> =>
    ((await lab.caller.call(address ?? { ip: '', port: 0 }, {})) as { readonly env: unknown }).env;
  const secretsOf = (text: string): PullSecrets => {
    const auth = Buffer.from(text).toString('base64');
    return { configs: [JSON.stringify({ auths: { [lab.registry.host]: { auth } } })], missing: [] };
  };

  it('of several platforms takes this one, and fetches nothing of the others', async () => {
    const own = await testImage({ env: ['GREETING=own'] });
    const other = await testImage({ env: ['GREETING=other'], architecture: otherArchitecture });
    const index = testIndex([
      { image: other, architecture: otherArchitecture },
      { image: own, architecture: ownArchitecture },
    ]);
    const before = lab.registry.requests.length;
    const info = await ensure('many', lab.registry.putIndex(freshName(), index));
    expect(await environmentOf(info)).toMatchObject({ GREETING: 'own' });
    expect(info.image).toBe(`${lab.registry.host}/pull-${count}@${index.index.digest}`);
    expect(requestsSince(before, new RegExp(other.blobs[1]?.digest ?? 'none'))).toEqual([]);
  });

  it('can be told in advance by manifest and configuration alone', async () => {
    const resolve = async (reference: string, pullPolicy: 'IfNotPresent' | 'Never' = 'IfNotPresent'): Promise<void> =>
      await runtime.resolveImage({ reference, pullPolicy });
    const ballast = { path: '/opt/ballast', content: randomBytes(8 * 2 ** 20) };
    const image = await testImage({ env: ['GREETING=resolved'], files: [...(await workerFiles()), ballast] });
    const reference = lab.registry.putIndex(freshName(), testIndex([{ image, architecture: ownArchitecture }]));
    lab.registry.pace = { bytes: 16_384, everyMs: 50 };
    await resolve(reference);
    expect(await runtime.images(), 'the layers would take half a minute').not.toContain(reference);
    lab.registry.pace = undefined;
    await expect(resolve(reference, 'Never')).rejects.toMatchObject({ code: 'ImageNotFound' });
    await expect(resolve(`${lab.registry.host}/misspelt:1`)).rejects.toMatchObject({ code: 'ImageNotFound' });
    const foreign = await testImage({ architecture: otherArchitecture });
    const single = lab.registry.put(freshName(), foreign);
    await expect(resolve(single)).rejects.toMatchObject({ code: 'ImageWrongPlatform' });
    const index = testIndex([{ image: foreign, architecture: otherArchitecture }]);
    await expect(resolve(lab.registry.putIndex(freshName(), index))).rejects.toMatchObject({
      code: 'ImageWrongPlatform',
    });
    expect(await environmentOf(await ensure('resolved', reference)), 'a pull after it').toMatchObject({
      GREETING: 'resolved',
    });
    await resolve(reference, 'Never');
  });

  it('of several platforms without this one says which there are', async () => {
    const image = await testImage({ architecture: otherArchitecture });
    const index = testIndex([
      { image, architecture: otherArchitecture },
      { image, architecture: 's390x' },
    ]);
    await expect(ensure('none', lab.registry.putIndex(freshName(), index))).rejects.toMatchObject({
      code: 'ImageWrongPlatform',
    });
  });

  it.each(['gzip', 'zstd', 'none'] as const)('with layers compressed by %s runs', async (compression) => {
    const info = await ensure(compression, await fresh({ compression, env: [`GREETING=${compression}`] }));
    expect(await environmentOf(info)).toMatchObject({ GREETING: compression });
  });

  describe.each(['basic', 'token'] as const)('of a private registry with %s authentication', (kind) => {
    it('takes the right credentials, and tells of wrong and missing ones', async () => {
      const reference = await fresh();
      lab.registry.credentials = { username: 'me', password: 'right' };
      lab.registry.authentication = kind;
      const refusal = {
        code: 'ImagePullFailed',
        message: expect.stringContaining('spec.imagePullSecrets') as string,
      };
      await expect(ensure('nobody', reference)).rejects.toMatchObject(refusal);
      await expect(ensure('wrong', reference, secretsOf('me:wrong'))).rejects.toMatchObject(refusal);
      await expect(ensure('missing', reference, { configs: [], missing: ['regcred'] })).rejects.toMatchObject({
        code: 'ImagePullFailed',
        message: expect.stringContaining('pull secrets that do not exist: regcred') as string,
      });
      // Mended secrets are tried at once, after any failure.
      const info = await ensure('right', reference, secretsOf('me:right'));
      expect(info.task.kind).toBe('Running');
    });
  });

  it('of a registry of plain HTTP works when certs.d says so, and names certs.d when it does not', async () => {
    await fresh();
    for (const [name, scheme] of [
      ['plain.test', 'http'],
      ['tls.test', 'https'],
    ] as const) {
      await mkdir(join(hostsFolder, name));
      await writeFile(join(hostsFolder, name, 'hosts.toml'), `server = "${scheme}://${lab.registry.host}"\n`);
    }
    await expect(ensure('tls', `tls.test/pull-${count}:1`)).rejects.toMatchObject({
      code: 'RegistryUnreachable',
      message: expect.stringContaining('certs.d') as string,
    });
    const info = await ensure('plain', `plain.test/pull-${count}:1`);
    expect(info.image).toMatch(/^plain\.test\/pull-\d+@sha256:/);
  });

  it('that twenty workers want happens once', async () => {
    const ballast = { path: '/opt/ballast', content: randomBytes(2 ** 20) };
    const reference = await fresh({ files: [...(await workerFiles()), ballast] });
    const before = lab.registry.requests.length;
    const workers = await Promise.all(Array.from({ length: 20 }, (_, index) => ensure(`many-${index}`, reference)));
    expect(new Set(workers.map(({ image }) => image)).size).toBe(1);
    expect(requestsSince(before, /GET .*\/manifests\//)).toHaveLength(1);
    expect(requestsSince(before, /GET .*\/blobs\//)).toHaveLength(2);
  });

  it('waits for its turn when as many are pulled as may be, and says so', async () => {
    const release = Promise.withResolvers<void>();
    lab.registry.hold = release.promise;
    const references = await Promise.all([fresh(), fresh(), fresh(), fresh()]);
    const details: string[] = [];
    const before = lab.registry.requests.length;
    const all = references.map((reference, index) =>
      runtime.ensure({
        ...ensureRequest(lab, `slow-${index}`, { image: { reference, pullPolicy: 'IfNotPresent' } }),
        onProgress: (_step, detail) => details.push(detail ?? ''),
      }),
    );
    const repositories = (): number =>
      new Set(requestsSince(before, /\/manifests\//).map((line) => /pull-\d+/.exec(line)?.[0])).size;
    await waitFor('two pulls', () => repositories() === 2);
    await waitFor('two others to wait', () => details.filter((line) => /turn/.test(line)).length === 2);
    // Nothing may happen meanwhile.
    await delay(300);
    expect(repositories()).toBe(2);
    release.resolve();
    await Promise.all(all);
    expect(repositories()).toBe(4);
  });

  it('tells how far it is', async () => {
    const reference = await fresh({
      files: [...(await workerFiles()), { path: '/opt/ballast', content: randomBytes(4 * 2 ** 20) }],
    });
    lab.registry.pace = { bytes: 2 ** 19, everyMs: 100 };
    const details: string[] = [];
    await runtime.ensure({
      ...ensureRequest(lab, 'ballast', { image: { reference, pullPolicy: 'IfNotPresent' } }),
      onProgress: (step, detail) => details.push(`${step} ${detail ?? ''}`),
    });
    expect(details).toContainEqual(expect.stringMatching(/^Pulling \d+\.\d of \d+\.\d MiB \(\d+ %\)$/));
  });

  it('of a registry that is down is left alone for a while, and works when it is back', async () => {
    const reference = await fresh();
    const refusal = { code: 'RegistryUnreachable', retryable: true };
    await lab.registry.takeDown();
    try {
      await expect(ensure('down', reference)).rejects.toMatchObject(refusal);
    } finally {
      await lab.registry.bringUp();
    }
    const before = lab.registry.requests.length;
    await expect(ensure('early', reference)).rejects.toMatchObject(refusal);
    expect(lab.registry.requests.length).toBe(before);
    // The time is what is tested.
    await delay(1_600);
    const info = await ensure('back', reference);
    expect(info.task.kind).toBe('Running');
  });
});

describe('the first pull of a node', () => {
  it('survives collections of garbage by containerd', async () => {
    const lab = await startLab();
    onTestFinished(() => lab.close());
    const runtime = await lab.runtime();
    const channel = new ContainerdChannel({ socketPath: lab.socketPath, namespace: 'another' });
    onTestFinished(() => channel.close());
    const leases = 'containerd.services.leases.v1.Leases';
    let isOver = false;
    const collect = async (id: string): Promise<void> => {
      while (!isOver) {
        await channel.unary(leases, 'Create', { id });
        // Answered once the garbage is collected.
        await channel.unary(leases, 'Delete', { id, sync: true });
      }
    };
    const collections = Promise.all(Array.from({ length: 16 }, (_each, index) => collect(`collected-${index}`)));
    try {
      expect((await runtime.ensure(ensureRequest(lab, 'first'))).task.kind).toBe('Running');
    } finally {
      isOver = true;
      await collections;
    }
  });
});
