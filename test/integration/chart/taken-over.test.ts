import { manifestList } from '../../support/worker-manifests.ts';
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LambdaNode, lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { GATEWAY_SIGNER } from '../../../src/api/name.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { CaController } from '../../../src/controller/certificates/ca-controller.ts';
import { guardPod } from '../../../src/controller/reservation/hold-pod.ts';
import {
  certificateSigningRequests,
  configMaps,
  type Pod,
  pods,
  secrets,
} from '../../../src/kube/api/resource-types.ts';
import type { KubeClient, PatchBody } from '../../../src/kube/api/types.ts';
import { type ChartCluster, startChartCluster } from '../../support/chart-cluster.ts';
import { waitFor } from '../../support/wait-for.ts';

const system = 'esb-system';
const toStatus = { subresource: 'status' } as const;
const image = 'registry.example/esb:1';
const refused = (told: string) => ({
  code: 'Forbidden',
  message: expect.stringContaining(told) as string,
});
const merge = (body: object): PatchBody => ({ kind: 'merge', body });
const key = (name: string) => ({ namespace: 'default', name });

/** The rights of the chart, by real tokens of the parts of ESB. */
describe('taken over', () => {
  let cluster: ChartCluster;
  let admin: KubeClient;
  let lambdaNode: LambdaNode;

  beforeAll(async () => {
    cluster = await startChartCluster();
    admin = cluster.admin;
    await cluster.install(['--set', `hold.image=${image}`]);
    lambdaNode = await admin.patch(
      lambdaNodes,
      { name: 'node-1' },
      { kind: 'apply', fieldManager: 'test', body: { metadata: { name: 'node-1' } } },
    );
    const worker = { metadata: key('called'), spec: { image: 'hello:1' } };
    await admin.create(lambdaWorkers, worker as never);
    const status = { assignment: { nodeName: 'node-1', epoch: 3 }, phase: 'Running', restartCount: 1 };
    await admin.patch(lambdaWorkers, key('called'), merge({ status }), toStatus);
  });

  afterAll(() => cluster.stop());

  describe('whoever may wake a worker', () => {
    let waker: KubeClient;
    const tell = (status: object) => waker.patch(lambdaWorkers, key('called'), merge({ status }), toStatus);

    beforeAll(async () => {
      for (const args of [
        ['serviceaccount', 'waker'],
        ['role', 'waker', '--verb=patch', '--resource=lambdaworkers.esb.dev/status'],
        ['rolebinding', 'waker', '--role=waker', '--serviceaccount=default:waker'],
      ]) {
        await cluster.server.kubectl(['-n', 'default', 'create', ...args]);
      }
      waker = await cluster.clientOf({ name: 'waker', namespace: 'default' });
      // A change that was let through is none when it is made again.
      let restartCount = 1;
      await waitFor('the policy', () => {
        restartCount += 1;
        return tell({ restartCount }).then(
          () => false,
          () => true,
        );
      });
    });

    it('writes a stamp, and nothing else of a status', async () => {
      await tell({ lastInvocationTime: '2026-11-01T00:00:00Z' });
      await tell({ lastInvocationTime: '2026-11-01T00:00:01Z' });
      for (const status of [
        { assignment: { nodeName: 'node-2', epoch: 4 } },
        { assignment: { epoch: 2 ** 53 - 1 } },
        { assignment: null },
        { lastEpoch: 9 },
      ]) {
        await expect(tell(status), JSON.stringify(status)).rejects.toMatchObject(refused('by the controller alone'));
      }
      for (const status of [
        { phase: 'Paused' },
        { phase: null },
        { restartCount: 0 },
        { observedInvocationTime: '2026-11-01T00:00:01Z' },
        { address: { ip: '127.0.0.1', port: 10250 } },
        {
          conditions: [
            {
              type: 'Ready',
              status: 'False',
              reason: 'A',
              message: '',
              lastTransitionTime: '2026-11-01T00:00:00Z',
            },
          ],
        },
      ]) {
        await expect(tell(status), JSON.stringify(status)).rejects.toMatchObject(refused('only lastInvocationTime'));
      }
      expect((await admin.get(lambdaWorkers, key('called')))?.status).toMatchObject({
        assignment: { nodeName: 'node-1', epoch: 3 },
        phase: 'Running',
        lastInvocationTime: '2026-11-01T00:00:01Z',
      });
    });
  });

  describe('a gateway', () => {
    let gateway: KubeClient;

    beforeAll(async () => {
      gateway = await cluster.clientOf({ name: 'esb-gateway' });
    });

    it('writes nothing of a worker', async () => {
      const stamp = merge({ status: { lastInvocationTime: '2026-11-01T00:00:02Z' } });
      await expect(gateway.patch(lambdaWorkers, key('called'), stamp, toStatus)).rejects.toMatchObject({
        code: 'Forbidden',
      });
    });

    it('asks for certificates of one signer alone', async () => {
      const request = await certificateRequest();
      const ask = (name: string, signerName: string) =>
        gateway.create(certificateSigningRequests, {
          metadata: { name },
          spec: { request, signerName, usages: ['client auth'] },
        });
      await ask('own', GATEWAY_SIGNER);
      for (const signer of ['kubernetes.io/kube-apiserver-client', 'other.example/signer']) {
        await expect(ask('other', signer)).rejects.toMatchObject(refused('esb.dev/gateway-client alone'));
      }
    });
  });

  describe('a controller', () => {
    let controller: KubeClient;
    let good: Pod;

    beforeAll(async () => {
      controller = await cluster.clientOf({ name: 'esb-controller' });
      const settings = { image, pullPolicy: 'Never', priorityClassName: 'esb-hold' };
      good = guardPod(settings, lambdaNode, system, 120, []);
    });

    it('assigns workers, with numbers that every part can count on', async () => {
      const assign = (epoch: number) =>
        controller.patch(
          lambdaWorkers,
          key('called'),
          merge({ status: { assignment: { nodeName: 'node-1', epoch } } }),
          toStatus,
        );
      await assign(4);
      await expect(assign(2 ** 53)).rejects.toThrow('9007199254740991');
      await expect(
        controller.patch(lambdaWorkers, key('called'), merge({ status: { lastEpoch: 2 ** 53 } }), toStatus),
      ).rejects.toThrow('9007199254740991');
    });

    it('writes its finalizer of a worker, and nothing else of the object', async () => {
      const made = { metadata: key('kept'), spec: { image: 'hello:1' } };
      await admin.create(lambdaWorkers, made as never);
      const foreign = ['example.org/other'];
      const labels = { team: 'a' };
      const annotations = { note: 'a' };
      await admin.patch(lambdaWorkers, key('kept'), merge({ metadata: { finalizers: foreign, labels, annotations } }));
      const write = (body: object) => controller.patch(lambdaWorkers, key('kept'), merge(body));
      let tries = 0;
      await waitFor('the policy', () => {
        tries += 1;
        return write({ metadata: { labels: { team: `b${tries}` } } }).then(
          () => false,
          () => true,
        );
      });
      await admin.patch(lambdaWorkers, key('kept'), merge({ metadata: { labels } }));
      for (const body of [
        { spec: { image: 'evil.example/hello:1' } },
        { spec: { command: ['sh'] } },
        { metadata: { labels: { team: 'b' } } },
        { metadata: { labels: null } },
        { metadata: { annotations: { note: 'b' } } },
        { metadata: { annotations: { note: null } } },
        { metadata: { finalizers: null } },
        { metadata: { finalizers: [...foreign, 'esb.dev/worker', 'example.org/more'] } },
        { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'a', uid: 'a' }] } },
      ]) {
        await expect(write(body), JSON.stringify(body)).rejects.toMatchObject(
          refused('the finalizer esb.dev/worker of a worker, and change nothing else'),
        );
      }
      await write({ metadata: { finalizers: [...foreign, 'esb.dev/worker'] } });
      await admin.delete(lambdaWorkers, key('kept'));
      await write({ metadata: { finalizers: foreign } });
      await admin.patch(lambdaWorkers, key('kept'), merge({ metadata: { finalizers: null } }));
      expect(await admin.get(lambdaWorkers, key('kept'))).toBeUndefined();
    });

    it('makes, changes and deletes workers of a LambdaFunction, and no others', async () => {
      const owner = { apiVersion: 'esb.dev/v1alpha1', kind: 'LambdaFunction', name: 'f', uid: 'u', controller: true };
      const make = (name: string, ownerReferences: readonly object[], annotations = { 'esb.dev/template': '1' }) =>
        controller.create(lambdaWorkers, {
          metadata: { ...key(name), ownerReferences, annotations },
          spec: { image: 'hello:1', functionName: 'f' },
        } as never);
      const mine = refused('create and delete workers of a LambdaFunction alone');
      await waitFor('the policy', () =>
        make('alone', []).then(
          () => admin.delete(lambdaWorkers, key('alone')).then(() => false),
          () => true,
        ),
      );
      for (const references of [
        [],
        [{ ...owner, kind: 'Deployment', apiVersion: 'apps/v1' }],
        [{ ...owner, controller: false }],
      ]) {
        await expect(make('alone', references)).rejects.toMatchObject(mine);
      }
      await expect(controller.delete(lambdaWorkers, key('called'))).rejects.toMatchObject(mine);
      const made = await make('owned', [owner]);
      const template = { ...made, metadata: { ...made.metadata, annotations: { 'esb.dev/template': '2' } } };
      await expect(controller.update(lambdaWorkers, template)).rejects.toMatchObject({ code: 'Forbidden' });
      const { resourceVersion, uid } = made.metadata;
      const changed = await controller.patch(lambdaWorkers, key('owned'), {
        kind: 'json',
        body: [
          { op: 'replace', path: '/metadata/annotations/esb.dev~1template', value: '2' },
          { op: 'replace', path: '/spec', value: { ...made.spec, image: 'hello:2' } },
          { op: 'add', path: '/metadata/uid', value: uid },
          { op: 'add', path: '/metadata/resourceVersion', value: resourceVersion },
        ],
      });
      expect(changed.spec.image).toBe('hello:2');
      await expect(
        controller.patch(lambdaWorkers, key('owned'), merge({ metadata: { ownerReferences: null } })),
      ).rejects.toMatchObject(refused('the finalizer esb.dev/worker of a worker, and change nothing else'));
      await controller.delete(lambdaWorkers, key('owned'));
      await admin.patch(lambdaWorkers, key('owned'), merge({ metadata: { finalizers: null } })).catch(() => undefined);
    });

    it('writes its finalizer also where a policy of the cluster labels whatever is written', async () => {
      await admin.create(lambdaWorkers, { metadata: key('older'), spec: { image: 'hello:1' } } as never);
      const labelled = async (name: string): Promise<boolean> =>
        (await admin.get(lambdaWorkers, key(name)))?.metadata.labels?.centre === 'one';
      const rule = { apiGroups: ['esb.dev'], apiVersions: ['*'], resources: ['lambdaworkers'] };
      const group = 'admissionregistration.k8s.io/v1';
      const metadata = { name: 'centre.example.org' };
      const policy = {
        apiVersion: group,
        kind: 'MutatingAdmissionPolicy',
        metadata,
        spec: {
          reinvocationPolicy: 'Never',
          matchConstraints: { resourceRules: [{ ...rule, operations: ['UPDATE'] }] },
          mutations: [
            {
              patchType: 'ApplyConfiguration',
              applyConfiguration: {
                expression: 'Object{metadata: Object.metadata{labels: Object.metadata.labels{centre: "one"}}}',
              },
            },
          ],
        },
      };
      const binding = {
        apiVersion: group,
        kind: 'MutatingAdmissionPolicyBinding',
        metadata,
        spec: { policyName: metadata.name },
      };
      const items = [policy, binding];
      const list = manifestList(items);
      await cluster.server.kubectl(['create', '-f', '-'], list);
      try {
        await waitFor('the policy of the cluster', async () => {
          await admin.patch(
            lambdaWorkers,
            key('called'),
            merge({ metadata: { annotations: { at: `${Date.now()}` } } }),
          );
          return await labelled('called');
        });
        const finalizers = ['esb.dev/worker'];
        await controller.patch(lambdaWorkers, key('older'), merge({ metadata: { finalizers } }));
        expect(await labelled('older')).toBe(true);
      } finally {
        await cluster.server.kubectl(['delete', '-f', '-'], list);
      }
    });

    it('keeps its authority in the Secret that the chart makes, and makes none', async () => {
      const keeper = new CaController({
        client: controller,
        systemNamespace: system,
        clock: systemClock,
        logger: silentLogger(),
      });
      await keeper.refresh();
      await keeper.refresh();
      const authority = { namespace: system, name: 'esb-client-ca' };
      expect((await admin.get(secrets, authority))?.data).toHaveProperty(['tls.key']);
      expect((await admin.get(configMaps, authority))?.data).toHaveProperty(['ca.crt']);
      // A later release leaves what is in them.
      await cluster.install(['--set', `hold.image=${image}`]);
      expect((await admin.get(secrets, authority))?.data).toHaveProperty(['tls.key']);

      const ranges = { namespace: system, name: 'esb-cluster-ranges' };
      const published = await controller.get(configMaps, ranges);
      await controller.update(configMaps, {
        ...published,
        metadata: ranges,
        data: { podCIDRs: '10.0.0.0/8\n' },
      });

      const token = {
        metadata: {
          namespace: system,
          name: 'token',
          annotations: { 'kubernetes.io/service-account.name': 'esb-agent' },
        },
        type: 'kubernetes.io/service-account-token',
      };
      await expect(controller.create(secrets, token)).rejects.toMatchObject(refused('secrets'));
      const config = { metadata: { namespace: system, name: 'esb-worker-policy-2' } };
      await expect(controller.create(configMaps, config)).rejects.toMatchObject(refused('configmaps'));
    });

    const spec = (change: object) => (pod: Pod) => ({ ...pod, spec: { ...pod.spec, ...change } });
    const container = (change: object) => (pod: Pod) =>
      spec({ containers: [{ ...pod.spec?.containers?.[0], ...change }] })(pod);
    const secured = (change: object) => (pod: Pod) =>
      spec({ securityContext: { ...pod.spec?.securityContext, ...change } })(pod);
    const securedContainer = (change: object) => (pod: Pod) =>
      container({
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
          ...change,
        },
      })(pod);

    it.each<[string, (pod: Pod) => object, string]>([
      ['the account of the agents', spec({ serviceAccountName: 'esb-agent' }), 'runs as esb-hold or esb-reserve'],
      ['a token', spec({ automountServiceAccountToken: true }), 'without a token'],
      ['another priority', spec({ priorityClassName: 'system-node-critical' }), 'priority class of the release'],
      ['the priority of demand', spec({ priorityClassName: 'esb-demand' }), 'priority class of the release'],
      ['the network of the node', spec({ hostNetwork: true }), 'nothing of its host'],
      ['the processes of the node', spec({ hostPID: true }), 'nothing of its host'],
      ['a folder of the node', spec({ volumes: [{ name: 'v', hostPath: { path: '/' } }] }), 'no volumes'],
      ['a Secret as a volume', spec({ volumes: [{ name: 'v', secret: { secretName: 's' } }] }), 'no volumes'],
      [
        'the events at rest',
        spec({ volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'esb-events' } }] }),
        'no volumes',
      ],
      ['a volume of the network', spec({ volumes: [{ name: 'v', nfs: { server: 's', path: '/' } }] }), 'no volumes'],
      ['processes that see each other', spec({ shareProcessNamespace: true }), 'no field'],
      ['a container that goes first', spec({ initContainers: [{ name: 'first', image }] }), 'no field'],
      [
        'a second container',
        (pod) => spec({ containers: [...(pod.spec?.containers ?? []), { name: 'two', image }] })(pod),
        'one container',
      ],
      [
        'a Secret in a variable',
        container({ env: [{ name: 'A', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } }] }),
        'without environment',
      ],
      [
        'a Secret as its variables',
        container({ envFrom: [{ secretRef: { name: 'esb-client-ca' } }] }),
        'without environment',
      ],
      ['a port of the node', container({ ports: [{ containerPort: 80, hostPort: 80 }] }), 'ports'],
      ['another program', container({ command: ['sh'] }), 'nothing but wait'],
      ['the program of the image', container({ command: undefined }), 'nothing but wait'],
      ['another part of ESB', container({ args: ['agent'] }), 'nothing but wait'],
      ['a hook', container({ lifecycle: { preStop: { exec: { command: ['sh'] } } } }), 'hooks'],
      ['another image', container({ image: 'evil.example/esb:1' }), `runs ${image}, and not evil.example/esb:1`],
      ['privileges', securedContainer({ privileged: true, allowPrivilegeEscalation: true }), 'no way to more'],
      ['capabilities', securedContainer({ capabilities: { add: ['SYS_ADMIN'], drop: ['ALL'] } }), 'no way to more'],
      ['a way to more', securedContainer({ allowPrivilegeEscalation: true }), 'no way to more'],
      ['a writable root', securedContainer({ readOnlyRootFilesystem: false }), 'no way to more'],
      ['root of its own', securedContainer({ runAsUser: 0 }), 'no way to more'],
      ['root', secured({ runAsNonRoot: false, runAsUser: 0 }), 'is not root'],
      ['all system calls', secured({ seccompProfile: { type: 'Unconfined' } }), 'seccomp RuntimeDefault'],
      ['a setting of the kernel', secured({ sysctls: [{ name: 'kernel.msgmax', value: '1' }] }), 'is not root'],
    ])('makes no Pod with %s', async (_what, change, told) => {
      await expect(controller.create(pods, change(good) as Pod)).rejects.toMatchObject(refused(told));
    });

    it('makes the Pods that hold memory, lets go of them, and gives them no other image', async () => {
      await controller.create(pods, good);
      const pod = { namespace: system, name: good.metadata.name };
      const replace = (value: string): PatchBody => ({
        kind: 'json',
        body: [{ op: 'replace', path: '/spec/containers/0/image', value }],
      });
      // The image that the Pod had before an upgrade.
      await admin.patch(pods, pod, replace('registry.example/esb:0'));
      await expect(controller.patch(pods, pod, replace('evil.example/esb:1'))).rejects.toMatchObject(
        refused('and not evil.example/esb:1'),
      );
      await controller.patch(pods, pod, merge({ metadata: { finalizers: null } }));
      await controller.patch(pods, pod, replace(image));
      await controller.delete(pods, pod);
    });

    it('touches no Pod but those', async () => {
      const name = { namespace: system, name: 'bystander' };
      const other = { ...good, metadata: { ...good.metadata, name: 'esb-controller-2' } };
      await expect(controller.create(pods, other)).rejects.toMatchObject(refused('only write Pods that hold memory'));
      await admin.create(pods, { ...good, metadata: name });
      await expect(controller.delete(pods, name)).rejects.toMatchObject(refused('only write Pods that hold memory'));
    });
  });
});

/** A request for a certificate as gateways send it, base64. */
async function certificateRequest(): Promise<string> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=esb-gateway',
    keys: await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']),
    signingAlgorithm: algorithm,
  });
  return Buffer.from(request.toString('pem')).toString('base64');
}
