import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type LambdaFunction, lambdaFunctions } from '../../../src/api/lambda-function.ts';
import type { LocalInstance } from '../../../src/cli/command-context.ts';
import { type DeployOptions, runDeploy } from '../../../src/cli/deploy/deploy.ts';
import { hasCode } from '../../../src/common/errors.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { RegistryClient } from '../../../src/oci/registry-client.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { run } from '../../support/command.ts';
import { freePort } from '../../support/free-port.ts';
import { functionManifest } from '../../support/function-manifest.ts';
import { type OwnedProcess, startOwnedProcess } from '../../support/owned-process.ts';
import { ownArchitecture, testImage } from '../../support/test-image.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';

const defaults: Omit<DeployOptions, 'folder'> = {
  namespace: 'default',
  plainHttp: false,
  forceConflicts: false,
  wait: 30,
};
const noMessage = { reason: 'Test', message: 'so says the test' };

describe('esb deploy, with a real registry and API server', () => {
  let work: string;
  let api: ApiServer;
  let registry: OwnedProcess;
  let host: string;
  let client: ReturnType<typeof createKubeClient>;

  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), 'esb-deploy-test-'));
    host = `127.0.0.1:${await freePort()}`;
    registry = await startOwnedProcess({
      program: join(toolsFolder(), 'crane'),
      args: ['registry', 'serve', '--address', host],
      logFile: join(work, 'registry.log'),
    });
    api = await startApiServer();
    client = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: api.adminKubeconfig }) });
    await waitFor('the registry', async () => (await fetch(`http://${host}/v2/`)).ok);
    for (const name of ['python-base', 'nodejs-base']) {
      await putBase(name);
    }
  }, 120_000);

  afterAll(async () => {
    await client.close();
    await api.stop();
    await registry.kill();
    await rm(work, { recursive: true, force: true });
  });

  /** An image in the place of a base. */
  async function putBase(name: string, architecture = ownArchitecture): Promise<void> {
    const base = await testImage({
      files: [{ path: '/usr/bin/entry', content: name }],
      entrypoint: ['/usr/bin/entry'],
      env: ['LAMBDA_TASK_ROOT=/var/task', 'PYTHON_VERSION=3.11'],
      architecture,
    });
    const target = new RegistryClient({ registry: host });
    for (const { content, digest } of base.blobs) {
      await target.pushBlob(name, { digest, size: content.length, open: () => Promise.resolve(content) });
    }
    await target.pushManifest(name, 'latest', base.manifest);
  }

  const folderOf = async (name: string, files: Readonly<Record<string, string>>): Promise<string> => {
    const folder = join(work, name);
    await mkdir(folder, { recursive: true });
    for (const [file, text] of Object.entries(files)) {
      await writeFile(join(folder, file), text);
    }
    return folder;
  };

  const stored = async (name: string, namespace = 'default'): Promise<LambdaFunction> => {
    const found = await client.get(lambdaFunctions, { namespace, name });
    if (found === undefined) {
      throw new Error(`there is no LambdaFunction ${name}`);
    }
    return found;
  };

  /** Writes the status of a function as the controller would, until the test is over. */
  function controllerOf(name: string, verdict: 'Ready' | 'Stalled'): void {
    const stop = new AbortController();
    const turn = async (): Promise<void> => {
      while (!stop.signal.aborted) {
        const found = await client.get(lambdaFunctions, { namespace: 'default', name });
        const { generation } = found?.metadata ?? {};
        if (found !== undefined && found.status?.observedGeneration !== generation) {
          const of = { observedGeneration: generation, lastTransitionTime: new Date().toISOString(), ...noMessage };
          const ready = { type: 'Ready', status: verdict === 'Ready' ? 'True' : 'False', ...of };
          const conditions = verdict === 'Ready' ? [ready] : [ready, { type: 'Stalled', status: 'True', ...of }];
          const body = { status: { observedGeneration: generation, conditions } };
          await client.patch(
            lambdaFunctions,
            { namespace: 'default', name },
            { kind: 'merge', body },
            { subresource: 'status' },
          );
        }
        // The part that the test plays takes as long.
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    const running = turn();
    onTestFinished(async () => {
      stop.abort();
      await running;
    });
  }

  async function deploy(folder: string, options: Partial<DeployOptions> = {}, kubeconfig = api.adminKubeconfig) {
    let shown = '';
    const instance: Pick<LocalInstance, 'kubeconfig' | 'registry' | 'gateway'> = {
      kubeconfig: () => Promise.resolve(kubeconfig),
      registry: () => Promise.resolve(host),
      gateway: () => Promise.resolve({ url: 'http://127.0.0.1:1', keyFile: '/none' }),
    };
    const code = await runDeploy(
      { ...defaults, folder, ...options },
      {
        signal: new AbortController().signal,
        openInstance: () => Promise.resolve(instance as LocalInstance),
        write: (text) => {
          shown += text;
        },
      },
    );
    return { code, shown };
  }

  /** The files that an image of a function has beside its base, and its configuration. */
  async function contentOf(name: string) {
    const reader = new RegistryClient({ registry: host });
    const digest = (await stored(name)).spec.template.spec.image.split('@')[1] ?? '';
    const manifest = JSON.parse((await reader.manifest(name, digest)).content.toString()) as {
      readonly config: { readonly digest: string };
      readonly layers: readonly { readonly digest: string }[];
    };
    const { config } = JSON.parse((await reader.document(name, manifest.config.digest)).toString()) as {
      readonly config: Readonly<Record<string, unknown>>;
    };
    const files: string[] = [];
    for (const layer of manifest.layers) {
      const tar = extract();
      const blob = await buffer(await reader.blob(name, layer.digest, new AbortController().signal));
      tar.end(gunzipSync(blob));
      for await (const entry of tar) {
        files.push(entry.header.name);
        entry.resume();
      }
    }
    return { config, files };
  }

  it('a cluster without LambdaFunctions is told of before anything is built or pushed', async () => {
    const folder = await folderOf('early', { 'app.py': 'def handler(e, c): pass' });
    await expect(deploy(folder)).rejects.toSatisfy(
      (error) => hasCode(error, 'NotFound') && error.message.includes('the cluster has no LambdaFunctions'),
    );
    expect(await new RegistryClient({ registry: host }).hasManifest('early', 'latest')).toBe(false);
    await api.kubectl(['apply', '--server-side', '-f', join(import.meta.dirname, '../../../crds')]);
    await api.kubectl(['wait', '--for=condition=Established', '--timeout=30s', 'crd/lambdafunctions.esb.dev']);
  });

  it('a folder in Python becomes an image with its packages, and a function that rests paused', async () => {
    const folder = await folderOf('greeter', {
      'app.py': 'import demo\n\ndef handler(event, context):\n    return demo.word\n',
      'requirements.txt': './demo-1.0-py3-none-any.whl\n',
      '.esbignore': '*.whl\n',
    });
    const wheel = join(folder, 'demo-1.0-py3-none-any.whl');
    const program = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('demo.py', 'word = "hello"')
    wheel.writestr('demo-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n')
    wheel.writestr('demo-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr('demo-1.0.dist-info/RECORD', '')
`;
    await run('python3', ['-c', program, wheel]);
    controllerOf('greeter', 'Ready');
    const { code, shown } = await deploy(folder, { memory: '192Mi', timeout: 7 });
    expect(code).toBe(0);
    expect(shown).toMatch(/✓ building the image of greeter .*✓ pushing .*greeter is up to date\./s);
    expect(shown).toContain(`esb invoke greeter '{"name": "Ada"}'`);
    expect(shown).toContain('aws lambda invoke --endpoint-url http://127.0.0.1:1 --function-name greeter');
    const made = await stored('greeter');
    expect(made.spec.template.spec).toMatchObject({
      image: expect.stringMatching(`^${host}/greeter@sha256:[0-9a-f]{64}$`),
      handler: 'app.handler',
      desiredState: 'Paused',
      timeoutSeconds: 7,
      resources: { limits: { memory: '192Mi' } },
    });
    const { config, files } = await contentOf('greeter');
    expect(config).toMatchObject({ Entrypoint: ['/usr/bin/entry'], Cmd: ['app.handler'], WorkingDir: '/var/task' });
    expect(files).toEqual(expect.arrayContaining(['var/task/app.py', 'var/task/demo.py', 'var/task/requirements.txt']));
    expect(files.filter((file) => /whl|esbignore|pyc/.test(file))).toEqual([]);

    // The same folder again, also from another place with other times.
    const again = join(work, 'again', 'greeter');
    await cp(folder, again, { recursive: true });
    expect((await deploy(again)).shown).toContain('greeter is as it was: nothing has changed.');
    expect(await stored('greeter')).toEqual(made);

    // Another line: another image, and the settings of before.
    await writeFile(join(folder, 'app.py'), 'def handler(event, context):\n    return "changed"\n');
    await deploy(folder);
    const changed = await stored('greeter');
    expect(changed.metadata.generation).toBe((made.metadata.generation ?? 0) + 1);
    expect(changed.spec.template.spec).toEqual({
      ...made.spec.template.spec,
      image: expect.not.stringContaining(made.spec.template.spec.image),
    });
  });

  it('a folder in Node.js becomes an image with the packages of its lock file', async () => {
    const packed = join(work, 'demo-packed', 'package');
    await mkdir(packed, { recursive: true });
    await writeFile(join(packed, 'package.json'), '{"name":"demo","version":"1.0.0"}');
    await writeFile(join(packed, 'index.js'), 'module.exports = 1;');
    const archive = join(work, 'demo-1.0.0.tgz');
    await run('tar', ['-C', join(work, 'demo-packed'), '-czf', archive, 'package']);
    const content = await readFile(archive);
    const server = createServer((_, response) => response.end(content));
    const port = await freePort();
    const listening = Promise.withResolvers<void>();
    server.listen(port, '127.0.0.1', listening.resolve);
    await listening.promise;
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    const dependencies = { demo: '1.0.0' };
    const folder = await folderOf('modern', {
      'index.mjs': 'export const handler = async () => 1;',
      'package.json': JSON.stringify({ name: 'modern', version: '1.0.0', dependencies }),
      'package-lock.json': JSON.stringify({
        name: 'modern',
        version: '1.0.0',
        lockfileVersion: 3,
        packages: {
          '': { name: 'modern', version: '1.0.0', dependencies },
          'node_modules/demo': {
            version: '1.0.0',
            resolved: `http://127.0.0.1:${port}/demo-1.0.0.tgz`,
            integrity: `sha512-${createHash('sha512').update(content).digest('base64')}`,
          },
        },
      }),
    });
    // Packages of this machine stay here.
    await mkdir(join(folder, 'node_modules/other'), { recursive: true });
    await writeFile(join(folder, 'node_modules/other/index.js'), '');
    controllerOf('modern', 'Ready');
    await deploy(folder);
    const { config, files } = await contentOf('modern');
    expect(config).toMatchObject({ Cmd: ['index.handler'] });
    expect(files).toEqual(expect.arrayContaining(['var/task/index.mjs', 'var/task/node_modules/demo/index.js']));
    expect(files.filter((file) => file.includes('other'))).toEqual([]);
    expect((await deploy(folder)).shown).toContain('nothing has changed');
  });

  it('a folder in Go becomes an image of nothing but its program', async () => {
    const folder = await folderOf('native', {
      'go.mod': 'module native\n\ngo 1.21\n',
      'main.go': 'package main\n\nfunc main() { println("hello") }\n',
    });
    controllerOf('native', 'Ready');
    await deploy(folder, { workers: 2 });
    const { config, files } = await contentOf('native');
    expect(files).toEqual(['var/task/bootstrap']);
    expect(config).toMatchObject({ Entrypoint: ['/var/task/bootstrap'], WorkingDir: '/var/task' });
    const made = await stored('native');
    expect(made.spec.scaling.minWorkers).toBe(2);
    expect(made.spec.template.spec.handler).toBeUndefined();
    expect((await deploy(folder)).shown).toContain('nothing has changed');
    await expect(
      deploy(await folderOf('native', { 'main.go': 'package main\n\nfunc main() { oops }\n' })),
    ).rejects.toThrow(/go build failed .*undefined: oops/s);
  });

  it('fields of other managers are left alone, or taken over where that is asked for', async () => {
    const folder = await folderOf('shared', { 'app.py': 'def handler(e, c): pass' });
    controllerOf('shared', 'Ready');
    await deploy(folder, { workers: 1 });
    await api.kubectl(['scale', 'lambdafunction/shared', '--replicas=3']);
    await deploy(folder);
    expect((await stored('shared')).spec.scaling.minWorkers).toBe(3);
    await expect(deploy(folder, { workers: 1 })).rejects.toSatisfy(
      (error) => hasCode(error, 'Conflict') && /minWorkers.*--force-conflicts/s.test(error.message),
    );
    await deploy(folder, { workers: 1, forceConflicts: true });
    expect((await stored('shared')).spec.scaling.minWorkers).toBe(1);
  });

  it('a setting of an earlier deploy goes back to its default where it is unset', async () => {
    const folder = await folderOf('unset', { 'app.py': 'def handler(e, c): pass' });
    controllerOf('unset', 'Ready');
    await deploy(folder, { workers: 3, timeout: 9, memory: '256Mi' });
    await deploy(folder, { unset: ['workers', 'timeout'] });
    expect((await stored('unset')).spec).toMatchObject({
      scaling: { minWorkers: 1 },
      template: { spec: { timeoutSeconds: 3, resources: { limits: { memory: '256Mi' } } } },
    });
    await expect(deploy(folder, { unset: ['handler'] })).rejects.toSatisfy((error) =>
      hasCode(error, 'InvalidArgument'),
    );
  });

  it('a folder with another handler replaces a function by its name alone where that is written', async () => {
    controllerOf('src', 'Ready');
    await deploy(await folderOf('src', { 'app.py': 'def handler(e, c): pass' }));
    const before = await stored('src');
    const other = await folderOf('other/src', { 'lambda_function.py': 'def lambda_handler(e, c): pass' });
    await expect(deploy(other)).rejects.toSatisfy(
      (error) => hasCode(error, 'Conflict') && error.message.includes('write --name src'),
    );
    expect(await stored('src')).toEqual(before);
    const { shown } = await deploy(other, { name: 'src' });
    expect(shown).toMatch(/in place of [0-9a-f]{12} of \d{4}-/);
    expect((await stored('src')).spec.template.spec.handler).toBe('lambda_function.lambda_handler');
  });

  it('a template that an undo has brought back is changed by the next deploy', async () => {
    const folder = await folderOf('undone', { 'app.py': 'def handler(e, c): pass' });
    controllerOf('undone', 'Ready');
    await deploy(folder);
    const deployed = (await stored('undone')).spec.template.spec.image;
    const undo = async (manager: string): Promise<void> => {
      const body = [{ op: 'replace', path: '/spec/template', value: { spec: { image: 'registry.example/before:1' } } }];
      const key = { namespace: 'default', name: 'undone' };
      await client.patch(lambdaFunctions, key, { kind: 'json', body, fieldManager: manager });
    };
    await undo('esb-rollout');
    await deploy(folder);
    expect((await stored('undone')).spec.template.spec.image).toBe(deployed);
    await undo('somebody');
    await expect(deploy(folder)).rejects.toSatisfy((error) => hasCode(error, 'Conflict'));
  });

  it('a function of the same name that something else has made is not touched', async () => {
    const other = functionManifest('taken', { template: { spec: { image: 'registry.example/other:1' } } });
    await api.kubectl(['apply', '-f', '-'], other);
    const folder = await folderOf('taken', { 'app.py': 'def handler(e, c): pass' });
    await expect(deploy(folder)).rejects.toSatisfy((error) => hasCode(error, 'Conflict'));
    expect((await stored('taken')).spec.template.spec.image).toBe('registry.example/other:1');
  });

  it('a function that cannot become up to date ends the command with the reason', async () => {
    const folder = await folderOf('stuck', { 'app.py': 'def handler(e, c): pass' });
    controllerOf('stuck', 'Stalled');
    await expect(deploy(folder)).rejects.toSatisfy(
      (error) => hasCode(error, 'NotDeployed') && error.message.includes('Test: so says the test'),
    );
  });

  it('a controller that does nothing is waited for as long as was asked', async () => {
    const folder = await folderOf('slow', { 'app.py': 'def handler(e, c): pass' });
    await expect(deploy(folder, { wait: 1 })).rejects.toSatisfy(
      (error) =>
        hasCode(error, 'NotDeployed') && /not up to date after 1 s: the controller has not looked/.test(error.message),
    );
  });

  it('a user without the right, and a namespace that is not there, are told of with the way out', async () => {
    const folder = await folderOf('denied', { 'app.py': 'def handler(e, c): pass' });
    await expect(deploy(folder, {}, await api.kubeconfig('mallory'))).rejects.toSatisfy(
      (error) => hasCode(error, 'Forbidden') && error.message.includes('get, create and patch of lambdafunctions'),
    );
    await expect(deploy(folder, { namespace: 'nowhere' })).rejects.toSatisfy(
      (error) => hasCode(error, 'NotFound') && error.message.includes('kubectl create namespace nowhere'),
    );
  });

  it('a base for another processor is refused with the way out', async () => {
    await putBase('foreign-base', ownArchitecture === 'arm64' ? 'amd64' : 'arm64');
    const folder = await folderOf('foreign', { 'app.py': 'def handler(e, c): pass' });
    await expect(deploy(folder, { base: `${host}/foreign-base:latest` })).rejects.toThrow(/--architecture/);
    await expect(deploy(folder, { base: `${host}/no-such-base:latest` })).rejects.toSatisfy(
      (error) => hasCode(error, 'ImageNotFound') && error.message.includes(`${host} has no image no-such-base`),
    );
  });
});
