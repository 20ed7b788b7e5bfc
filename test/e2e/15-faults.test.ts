import { mkdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { loadPackageDefinition, Server, ServerCredentials, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ensureNeeds } from '../../local/tools/debian-packages.ts';
import type { LambdaNode } from '../../src/api/lambda-node.ts';
import type { LambdaWorker } from '../../src/api/lambda-worker.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { createCertificateAuthority } from '../support/certificate-authority.ts';
import { run } from '../support/command.ts';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';
import { Parts } from './support/parts.ts';

const library = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1';
const onNode2 = { nodeName: 'node-2' };

describe('a fault is told, and gone when its cause is gone:', () => {
  const esb = instance();
  const parts = new Parts(esb);
  const node2 = join(esb.home, 'nodes', 'node-2');

  async function nodeCondition(type: string, node = 'node-2') {
    const { stdout } = await esb.kubectl(['get', 'lambdanode', node, '-o', 'json']);
    return (JSON.parse(stdout) as LambdaNode).status?.conditions?.find((found) => found.type === type);
  }

  const workerCondition = (worker: LambdaWorker, type: string) =>
    worker.status?.conditions?.find((found) => found.type === type);

  async function waitForNode(type: string, status: string, reason?: string) {
    return waitFor(
      `${type} of node-2 to be ${status} ${reason ?? ''}`,
      async () => {
        const found = await nodeCondition(type);
        return found?.status === status && (reason === undefined || found.reason === reason) ? found : undefined;
      },
      { timeoutMs: 60_000, everyMs: 250 },
    );
  }

  /** Everything is as it should be on node-2: a new worker becomes ready and answers. */
  async function expectWorking(name: string): Promise<void> {
    await waitForNode('Ready', 'True');
    await esb.apply(name, onNode2);
    await esb.ready(name);
    expect((await esb.invoke(name)).payload.message).toBe(`hello from ${name}`);
  }

  it('a CNI plugin is missing', async () => {
    const plugin = join(esb.home, 'bin', 'bridge');
    const target = await readlink(plugin);
    const restore = async (): Promise<void> => {
      await rm(plugin, { force: true });
      await symlink(target, plugin);
    };
    await rm(plugin);
    onTestFinished(restore);
    const told = await waitForNode('NetworkReady', 'False', 'PluginMissing');
    expect(told.message).toContain('bridge');
    // node-1 has the same folder, so there is no other place for the worker.
    await esb.apply('pluginless', onNode2);
    // Nothing may happen meanwhile.
    await delay(2_000);
    const waiting = await esb.worker('pluginless');
    expect(workerCondition(waiting, 'Ready')?.status ?? 'False').toBe('False');
    await restore();
    await esb.ready('pluginless');
    await expectWorking('plugged');
  });

  it('the subnet of the workers collides with a route of the node', async () => {
    await parts.stop('agent-node-2');
    onTestFinished(() => parts.start('agent-node-2'), 60_000);
    const route = ['-n', 'esb-node-2', 'route'];
    await run('ip', [...route, 'add', 'blackhole', '10.234.128.0/24']);
    onTestFinished(async () => {
      await run('ip', [...route, 'del', 'blackhole', '10.234.128.0/24'], { mayFail: true });
    });
    void parts.start('agent-node-2').catch(() => undefined);
    const told = await waitForNode('NetworkReady', 'False', 'SubnetCollision');
    expect(told.message).toContain('10.234.128.0/24');
    await run('ip', [...route, 'del', 'blackhole', '10.234.128.0/24']);
    await expectWorking('routed');
  });

  it('containerd is stopped', async () => {
    await parts.stop('containerd-node-2');
    onTestFinished(() => parts.start('containerd-node-2'), 60_000);
    const told = await waitForNode('ContainerdReady', 'False');
    expect(told.message).toContain('containerd');
    await parts.start('containerd-node-2');
    await expectWorking('contained');
  });

  it('containerd is too old', async () => {
    await parts.stop('containerd-node-2');
    onTestFinished(() => parts.start('containerd-node-2'), 60_000);
    const { containerd } = loadPackageDefinition(
      loadSync('containerd/version.proto', { includeDirs: [join(import.meta.dirname, '../../proto')] }),
    ) as unknown as {
      containerd: { services: { version: { v1: { Version: ServiceClientConstructor } } } };
    };
    const old = new Server();
    old.addService(containerd.services.version.v1.Version.service, {
      Version: (_call: unknown, answer: (error: null, value: object) => void) =>
        answer(null, { version: 'v1.7.24', revision: 'old' }),
    });
    const socket = join(node2, 'containerd.sock');
    await rm(socket, { force: true });
    const bound = Promise.withResolvers<void>();
    old.bindAsync(`unix://${socket}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) {
        bound.resolve();
      } else {
        bound.reject(error);
      }
    });
    await bound.promise;
    onTestFinished(() => old.forceShutdown());
    const told = await waitForNode('ContainerdReady', 'False', 'RuntimeTooOld');
    expect(told.message).toMatch(/1\.7\.24.*2\.0/);
    old.forceShutdown();
    await rm(socket, { force: true });
    await parts.start('containerd-node-2');
    await expectWorking('renewed');
  });

  it('containerd is restarted in the middle of a creation', async () => {
    await waitForNode('Ready', 'True');
    const before = await parts.pidOf('containerd-node-2');
    await esb.apply('interrupted', onNode2);
    // Faults and calls come at any moment.
    await delay(150);
    process.kill(before, 'SIGKILL');
    await esb.ready('interrupted');
    expect((await esb.invoke('interrupted')).payload.counter).toBe(1);
    await expectWorking('uninterrupted');
  });

  it('the memory limit is too small for the process', async () => {
    await esb.apply('cramped', {
      ...onNode2,
      command: ['python3', '-c', 'x = bytearray(256 << 20); import time; time.sleep(60)'],
      resources: { limits: { memory: '32Mi' } },
      ephemeralStorage: '8Mi',
    });
    await esb.waitForWorker('cramped', 'told of its memory', (worker) => {
      const ready = workerCondition(worker, 'Ready');
      return ready?.status === 'False' && ready.reason === 'InitFailed' && /more memory/.test(ready.message ?? '');
    });
    await esb.patch('cramped', { command: [], resources: { limits: { memory: '128Mi' } } });
    await esb.ready('cramped');
    expect((await esb.invoke('cramped')).payload.counter).toBe(1);
  });

  it('the disk of the state folder is full', async () => {
    const folder = join(node2, 'agent', 'workers');
    await esb.apply('roomy', onNode2);
    await esb.ready('roomy');
    await parts.stop('agent-node-2');
    onTestFinished(() => parts.start('agent-node-2'), 60_000);
    await mkdir(folder, { recursive: true });
    const kept = join(esb.home, 'kept-records');
    await run('cp', ['-a', folder, kept]);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder]);
    onTestFinished(async () => {
      await parts.stop('agent-node-2');
      await run('umount', ['--lazy', folder], { mayFail: true });
      await rm(kept, { recursive: true, force: true });
    }, 60_000);
    await run('sh', ['-c', `cp -a ${kept}/. ${folder}/ && head -c 1048576 /dev/zero > ${folder}/filler; true`]);
    // Healthy it is when there is room again.
    void parts.start('agent-node-2').catch(() => undefined);
    const told = await waitForNode('DiskReady', 'False', 'DiskFull');
    expect(told.message).toContain(folder.slice(0, folder.lastIndexOf('/')));
    // Running workers go on to serve.
    expect((await esb.invoke('roomy')).payload.counter).toBe(1);
    await rm(join(folder, 'filler'));
    await expectWorking('cleared');
  });

  it('the API server rejects with 429', async () => {
    const manifest = {
      apiVersion: 'v1',
      kind: 'List',
      items: [
        {
          apiVersion: 'flowcontrol.apiserver.k8s.io/v1',
          kind: 'PriorityLevelConfiguration',
          metadata: { name: 'esb-e2e-none' },
          spec: {
            type: 'Limited',
            limited: {
              nominalConcurrencyShares: 0,
              lendablePercent: 0,
              borrowingLimitPercent: 0,
              limitResponse: { type: 'Reject' },
            },
          },
        },
        {
          apiVersion: 'flowcontrol.apiserver.k8s.io/v1',
          kind: 'FlowSchema',
          metadata: { name: 'esb-e2e-none' },
          spec: {
            priorityLevelConfiguration: { name: 'esb-e2e-none' },
            // 1 is for the schema called exempt alone.
            matchingPrecedence: 2,
            rules: [
              {
                subjects: [{ kind: 'User', user: { name: 'esb:agent:node-2' } }],
                resourceRules: [
                  {
                    verbs: ['*'],
                    apiGroups: ['*'],
                    resources: ['*'],
                    clusterScope: true,
                    namespaces: ['*'],
                  },
                ],
              },
            ],
          },
        },
      ],
    };
    await esb.apply('throttled', {
      ...onNode2,
      desiredState: 'Paused',
      idlePolicy: { pauseAfterSeconds: 1 },
    });
    await esb.ready('throttled');
    const remove = async (): Promise<void> => {
      await esb.kubectl(['delete', '--ignore-not-found', '-f', '-'], { input: JSON.stringify(manifest) });
    };
    onTestFinished(remove);
    await esb.kubectl(['apply', '-f', '-'], { input: JSON.stringify(manifest) });
    // The API server takes up the change after a while, and tells no client of that.
    await delay(3_000);
    for (const counter of [1, 2]) {
      expect((await esb.invoke('throttled')).payload.counter).toBe(counter);
      // The length of the outage is what is tested.
      await delay(2_000);
    }
    await remove();
    await expectWorking('unthrottled');
  });

  /** A webhook that every write of a worker's status has to pass, as `answer` will have it. */
  async function statusWebhook(answer: 'slow' | 'broken'): Promise<() => Promise<void>> {
    const authority = await createCertificateAuthority();
    const pair = await authority.issueServer();
    const server = createServer({ cert: pair.certificate, key: pair.key }, (incoming, outgoing) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('end', () => {
        if (answer === 'broken') {
          outgoing.statusCode = 500;
          outgoing.end();
          return;
        }
        const { request } = JSON.parse(Buffer.concat(chunks).toString()) as { request: { uid: string } };
        setTimeout(() => {
          outgoing.setHeader('content-type', 'application/json');
          outgoing.end(
            JSON.stringify({
              apiVersion: 'admission.k8s.io/v1',
              kind: 'AdmissionReview',
              response: { uid: request.uid, allowed: true },
            }),
          );
        }, 6_000);
      });
    });
    const listening = Promise.withResolvers<void>();
    server.listen(0, '127.0.0.1', listening.resolve);
    await listening.promise;
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const webhook = {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingWebhookConfiguration',
      metadata: { name: 'esb-e2e-fault' },
      webhooks: [
        {
          name: 'fault.e2e.esb.dev',
          admissionReviewVersions: ['v1'],
          sideEffects: 'None',
          failurePolicy: 'Fail',
          timeoutSeconds: 10,
          clientConfig: {
            url: `https://127.0.0.1:${port}/`,
            caBundle: Buffer.from(authority.certificate).toString('base64'),
          },
          rules: [
            {
              apiGroups: ['esb.dev'],
              apiVersions: ['*'],
              operations: ['UPDATE'],
              resources: ['lambdaworkers/status', 'lambdanodes/status'],
            },
          ],
        },
      ],
    };
    const remove = async (): Promise<void> => {
      await esb.kubectl(['delete', 'validatingwebhookconfiguration', 'esb-e2e-fault', '--ignore-not-found']);
      server.closeAllConnections();
      server.close();
    };
    onTestFinished(remove);
    await esb.kubectl(['apply', '-f', '-'], { input: JSON.stringify(webhook) });
    // The API server takes up the change after a while, and tells no client of that.
    await delay(2_000);
    return remove;
  }

  it.each(['slow', 'broken'] as const)('the API server is %s at every status write', async (kind) => {
    const name = `status-${kind}`;
    await waitForNode('Ready', 'True');
    await esb.apply(name, { ...onNode2, desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } });
    await esb.ready(name);
    const { status } = await esb.waitUntilPaused(name);
    const remove = await statusWebhook(kind);
    for (const counter of [1, 2, 3]) {
      const began = performance.now();
      expect((await esb.invoke(name)).payload.counter).toBe(counter);
      // A slow write takes six seconds; the first call of a worker starts its runtime.
      expect(performance.now() - began).toBeLessThan(4_000);
      await waitFor(
        'the worker to be frozen',
        async () => (await esb.taskState(status?.containerID ?? '', 'node-2')) === 'PAUSED',
      );
    }
    await remove();
    await esb.waitForWorker(
      name,
      'acknowledged',
      (worker) =>
        worker.status?.lastInvocationTime !== undefined &&
        worker.status.observedInvocationTime === worker.status.lastInvocationTime,
    );
    await expectWorking(`${name}-over`);
  });

  it('the API server is gone', async () => {
    await esb.apply('alone', { ...onNode2, desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } });
    await esb.ready('alone');
    const { status } = await esb.waitUntilPaused('alone');
    await parts.kill('apiserver');
    onTestFinished(() => parts.start('apiserver'), 60_000);
    for (const counter of [1, 2]) {
      expect((await esb.invoke('alone')).payload.counter).toBe(counter);
      await waitFor(
        'the worker to be frozen',
        async () => (await esb.taskState(status?.containerID ?? '', 'node-2')) === 'PAUSED',
      );
    }
    await parts.start('apiserver');
    await expectWorking('together');
  });

  it('the clock steps', { tags: ['M19'] }, async () => {
    const progress = createProgress({ write: () => undefined });
    await ensureNeeds([{ file: library, debianPackage: 'libfaketime', purpose: 'clock steps' }], progress);
    const stamp = join(esb.home, 'faketime');
    // The agent of node-2 reads the wall clock through a library that adds what this file says.
    await writeFile(stamp, '+0');
    const restore = await parts.withEnvironment('agent-node-2', {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: stamp,
      FAKETIME_NO_CACHE: '1',
      DONT_FAKE_MONOTONIC: '1',
    });
    onTestFinished(restore, 60_000);
    await parts.start('agent-node-2');
    await expectWorking('before-step');
    // Less than the step, and more than this test takes. An init shares the clock of its agent on every machine but here.
    await esb.apply('stepping', {
      ...onNode2,
      image: esb.image('python-emulator'),
      runtimeInterface: 'Emulator',
      idlePolicy: { pauseAfterSeconds: 3_600 },
    });
    const { status } = await esb.ready('stepping');
    await esb.invoke('stepping');
    await writeFile(stamp, '+7200');
    const told = await waitForNode('ClockStable', 'False', 'ClockStepped');
    expect(told.message).toContain('7200');
    // Two hours by the wall clock are no idle time, and a step is no activity.
    expect(await esb.taskState(status?.containerID ?? '', 'node-2')).toBe('RUNNING');
    expect((await esb.invoke('stepping')).payload.counter).toBe(2);
    await writeFile(stamp, '-7200');
    await esb.patch('stepping', { idlePolicy: { pauseAfterSeconds: 3 } });
    expect((await esb.invoke('stepping')).payload.counter).toBe(3);
    await waitFor(
      'the worker to be frozen',
      async () => (await esb.taskState(status?.containerID ?? '', 'node-2')) === 'PAUSED',
    );
    await restore();
    await expectWorking('after-step');
  });
});
