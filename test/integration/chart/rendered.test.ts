import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LambdaNode } from '../../../src/api/lambda-node.ts';
import { guardPod, reservePod } from '../../../src/controller/reservation/hold-pod.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import {
  chartFolder,
  chartNotes,
  helm,
  objectsIn,
  podTemplates,
  type RenderedObject,
  renderChart,
  valuesArguments,
  valuesFiles,
} from '../../support/chart.ts';
import { operatorDefinitions } from '../../support/operator-definitions.ts';
import { waitFor } from '../../support/wait-for.ts';

const root = join(import.meta.dirname, '../../..');
const strict = ['apply', '--server-side', '--validate=strict'] as const;
const dryRun = [...strict, '--dry-run=server'] as const;

describe('the rendered chart', () => {
  let server: ApiServer;

  beforeAll(async () => {
    server = await startApiServer();
    for (const file of await operatorDefinitions()) {
      await server.kubectl(['apply', '--server-side', '-f', file]);
    }
    for (const part of ['crds', 'manifests/namespace.yaml']) {
      await server.kubectl(['apply', '--server-side', '-f', join(root, part)]);
    }
    await server.kubectl(['wait', '--for=condition=Established', '--all', 'crd']);
  });

  afterAll(() => server.stop());

  it.each(valuesFiles)('is what the API server takes, with the values %s', async (name) => {
    const text = await renderChart(valuesArguments(name));
    const told = await server.kubectl([...dryRun, '--force-conflicts', '-f', '-'], text);
    expect(told.trim().split('\n')).toHaveLength(objectsIn(text).length);
  });

  it('is refused with a field that there is none of', async () => {
    const text = (await renderChart()).replace('maxUnavailable: 1', 'maxUnavailabel: 1');
    await expect(server.kubectl([...dryRun, '--force-conflicts', '-f', '-'], text)).rejects.toThrow('maxUnavailabel');
  });

  it('is taken from manifests/ as a whole', async () => {
    await server.kubectl([...strict, '--force-conflicts', '-k', join(root, 'manifests')]);
    const told = await server.kubectl(['get', 'deployments,daemonsets,statefulsets', '-A', '-o', 'name']);
    expect(told.trim().split('\n').toSorted()).toEqual([
      'daemonset.apps/esb-agent',
      'deployment.apps/esb-controller',
      'deployment.apps/esb-gateway',
      'statefulset.apps/esb-events',
    ]);
  });

  it('is the same as manifests/, but for what means something to Helm alone', async () => {
    const helmOnly = new Set(['helm.sh/chart', 'app.kubernetes.io/managed-by', 'helm.sh/resource-policy']);
    const plain = (object: RenderedObject) =>
      JSON.parse(
        JSON.stringify(object, (key, value: unknown) =>
          helmOnly.has(key) ||
          (key === 'annotations' && Object.keys(value as object).every((each) => helmOnly.has(each)))
            ? undefined
            : value,
        ),
      ) as RenderedObject;
    const byName = (objects: readonly RenderedObject[]) =>
      new Map(
        objects.map((object) => [
          `${object.kind} ${object.metadata.namespace ?? ''}/${object.metadata.name}`,
          plain(object),
        ]),
      );
    // The policies of manifests/ are those of a local instance, too, whose controller is a user.
    const chart = byName(objectsIn(await renderChart(['--no-hooks', '--set', 'controller.localUser=true'])));
    const manifests = byName(objectsIn(await server.kubectl(['kustomize', join(root, 'manifests')])));
    expect(manifests.get('Namespace /esb-system')).toBeDefined();
    manifests.delete('Namespace /esb-system');
    expect([...manifests.keys()].toSorted()).toEqual([...chart.keys()].toSorted());
    for (const [name, object] of chart) {
      expect(manifests.get(name), name).toEqual(object);
    }
  });

  it('runs one image in all Pods of manifests/, also those that the controller makes', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'esb-manifests-'));
    try {
      await cp(join(root, 'manifests'), folder, { recursive: true });
      const file = join(folder, 'kustomization.yaml');
      const text = await readFile(file, 'utf8');
      await writeFile(file, text.replace('newName: esb', 'newName: 192.0.2.1:5000/esb\n    newTag: "2"'));
      const templates = podTemplates(objectsIn(await server.kubectl(['kustomize', folder])));
      expect(templates).toHaveLength(4);
      const images = templates.flatMap(({ spec }) => spec.containers.map(({ image }) => image));
      expect(new Set(images)).toEqual(new Set(['192.0.2.1:5000/esb:2']));
      const args = templates.flatMap(({ spec }) => spec.containers.flatMap((container) => container.args));
      expect(args).toContain('--hold-image=192.0.2.1:5000/esb:2');
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('takes another value of the class of hold Pods on an upgrade', async () => {
    const classes = async (...values: readonly string[]) => {
      const text = await renderChart(values.flatMap((value) => ['--set', value]));
      return JSON.stringify({
        apiVersion: 'v1',
        kind: 'List',
        items: objectsIn(text).filter(({ kind }) => kind === 'PriorityClass'),
      });
    };
    const apply = async (text: string) => server.kubectl([...strict, '--force-conflicts', '-f', '-'], text);
    await apply(await classes());
    await expect(apply(await classes('hold.priorityClass.value=1000'))).resolves.toContain('esb-hold-1000');
  });

  it('has the API server serve Leases before what else the same accounts ask for', async () => {
    const schemas = objectsIn(await renderChart()).filter(({ kind }) => kind === 'FlowSchema');
    const uids = new Map<string, string>();
    for (const schema of schemas) {
      await server.kubectl([...strict, '-f', '-'], JSON.stringify(schema));
      const { name } = schema.metadata;
      const uid = await server.kubectl(['get', 'flowschema', name, '-o', 'jsonpath={.metadata.uid}']);
      uids.set(uid, name);
    }
    const flowOf = async (role: string, method: 'GET' | 'PATCH', path: string) => {
      const kubeconfig = await server.kubeconfig(`system:serviceaccount:esb-system:esb-${role}`, [
        'system:serviceaccounts',
        'system:authenticated',
      ]);
      const { origin, tls } = await createKubeConnectionSource({ kubeconfig }).current();
      const dispatcher = new Agent({ connect: tls });
      try {
        const answer = await request(`${origin}${path}`, {
          dispatcher,
          method,
          headers: { 'content-type': 'application/merge-patch+json' },
          ...(method === 'PATCH' ? { body: '{}' } : {}),
        });
        await answer.body.dump();
        return uids.get(String(answer.headers['x-kubernetes-pf-flowschema-uid'])) ?? 'another';
      } finally {
        await dispatcher.destroy();
      }
    };
    const leases = '/apis/coordination.k8s.io/v1/namespaces/esb-system/leases';
    // The API server takes a schema up a little after it was written.
    await waitFor('the schemas', async () => (await flowOf('agent', 'PATCH', `${leases}/n1`)) !== 'another');
    expect(await flowOf('agent', 'PATCH', `${leases}/n1`)).toBe('esb-agent-leases');
    expect(await flowOf('controller', 'GET', `${leases}/esb-controller`)).toBe('esb-controller-leases');
    expect(await flowOf('agent', 'GET', '/apis/esb.dev/v1alpha1/lambdaworkers')).toBe('another');
    expect(await flowOf('gateway', 'PATCH', `${leases}/n1`)).toBe('another');
  });

  it('is followed by a first function that the API server takes', async () => {
    const text = /<<END\n(?<text>[\s\S]*?\n)END\n/.exec(await chartNotes())?.groups?.text;
    await expect(server.kubectl([...dryRun, '-n', 'default', '-f', '-'], text)).resolves.toContain('hello');
  });

  it('has samples and a way to uninstall that the API server takes', async () => {
    for (const args of [
      ['-f', join(root, 'manifests/samples')],
      ['-f', join(root, 'manifests/local')],
      ['-k', join(root, 'manifests/uninstall')],
    ]) {
      await expect(server.kubectl([...dryRun, ...args])).resolves.toContain('serverside-applied');
    }
  });

  describe('in a namespace with Pod Security "restricted"', () => {
    const namespace = 'restricted';

    beforeAll(async () => {
      await server.kubectl(['create', 'namespace', namespace]);
      await server.kubectl([...['label', 'namespace', namespace], 'pod-security.kubernetes.io/enforce=restricted']);
    });

    const create = async (template: { readonly of: string; readonly spec: object }) =>
      server.kubectl(
        ['create', '--dry-run=server', '-f', '-'],
        JSON.stringify({
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: 'tried', namespace },
          spec: { ...template.spec, restartPolicy: 'Never' },
        }),
      );

    it.each(valuesFiles)('runs everything but the agent, with the values %s', async (name) => {
      const templates = podTemplates(objectsIn(await renderChart(valuesArguments(name))));
      const restricted = templates.filter(({ of }) => of !== 'DaemonSet esb-agent');
      expect(restricted.map(({ of }) => of)).toEqual(
        expect.arrayContaining(['Deployment esb-controller', 'Pod esb-test-gateway']),
      );
      for (const template of restricted) {
        await expect(create(template), template.of).resolves.toContain('pod/tried created');
      }
    });

    it('runs the guard and the reservation of a node', async () => {
      const node = { metadata: { name: 'node-1', uid: 'uid' }, status: { capacity: { memoryMiB: 100 } } };
      const settings = { image: 'esb:1', pullPolicy: 'Always' };
      for (const pod of [
        guardPod(settings, node as unknown as LambdaNode, namespace, 120, []),
        reservePod(settings, node as unknown as LambdaNode, namespace, { memoryMiB: 100, milliCPU: 50 }, []),
      ]) {
        await expect(create({ of: 'hold', spec: pod.spec ?? {} })).resolves.toContain('pod/tried created');
      }
    });

    it('is not installed with agents, which would have no Pods there', async () => {
      const install = (args: readonly string[]) =>
        helm([
          ...['install', 'esb', chartFolder, '--namespace', namespace, '--dry-run=server', '--take-ownership'],
          ...['--kubeconfig', server.adminKubeconfig, '--set', 'crds.install=false', ...args],
        ]);
      await expect(install([])).rejects.toThrow('pod-security.kubernetes.io/enforce=privileged');
      await expect(install(['--set', 'agent.enabled=false'])).resolves.toContain('esb-controller');
    });

    it('does not run the agent, which needs the node', async () => {
      const agent = podTemplates(objectsIn(await renderChart())).find(({ of }) => of === 'DaemonSet esb-agent');
      await expect(create(agent ?? { of: '', spec: {} })).rejects.toThrow('violates PodSecurity');
    });
  });
});
