import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { GUARD_ROLE, HOLD_ROLE_LABEL, holdLabels, type LambdaNode, lambdaNodes } from '../../../src/api/lambda-node.ts';
import { lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import type { CommandContext } from '../../../src/cli/command-context.ts';
import { type RetireOptions, removeLeftovers, retireNodes, runRetire, whyNotLeft } from '../../../src/cli/retire.ts';
import { configMaps, leases, pods, secrets } from '../../../src/kube/api/resource-types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { startFakeApiServer } from '../../support/fake-api-server.ts';
import { manualClock } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

type Retired = 'False' | 'True';

const options: RetireOptions = {
  nodes: [],
  all: false,
  leftovers: false,
  timeout: 60,
  systemNamespace: 'esb-system',
};

async function world() {
  const api = await startFakeApiServer();
  const client = createKubeClient({ source: api.source });
  const clock = manualClock();
  const said: string[] = [];
  onTestFinished(async () => {
    await client.close();
    await api.stop();
  });
  const node = (name: string, retired?: Retired, message = 'not yet'): void => {
    const present = api.get(lambdaNodes, { name });
    const condition = {
      type: 'Retired',
      status: retired ?? 'False',
      reason: 'Testing',
      message,
      lastTransitionTime: '2026-01-01T00:00:00Z',
    };
    api.put(lambdaNodes, {
      metadata: { name },
      spec: present?.spec ?? {},
      ...(retired === undefined ? {} : { status: { conditions: [condition] } }),
    } as LambdaNode);
  };
  const lease = (name: string): void => void api.put(leases, { metadata: { name, namespace: 'esb-system' }, spec: {} });
  const worker = (finalizers: readonly string[]): void =>
    void api.put(lambdaWorkers, {
      metadata: { name: 'hello', namespace: 'default', finalizers },
      spec: { image: 'hello:1' },
    } as never);
  const names = (): string[] => api.all(lambdaNodes).map(({ metadata }) => metadata.name);
  const leaseNames = (): string[] => api.all(leases).map(({ metadata }) => metadata.name);
  const parts = {
    client,
    clock,
    signal: new AbortController().signal,
    say: (line: string) => said.push(line),
  };
  /** Lets the time go on until it has ended. */
  const ended = async (work: Promise<void>): Promise<Error | undefined> => {
    let outcome: { readonly error: Error | undefined } | undefined;
    work.then(
      () => (outcome = { error: undefined }),
      (error: Error) => (outcome = { error }),
    );
    await waitFor(
      'the command to end',
      async () => {
        await clock.advance(1_000);
        return outcome !== undefined;
      },
      { everyMs: 10 },
    );
    return outcome?.error;
  };
  return { api, clock, said, node, lease, worker, names, leaseNames, parts, ended };
}

describe('esb retire', () => {
  it('asks for the retirement of the named node alone and waits until its agent has left it', async () => {
    const { api, said, node, parts, ended, names } = await world();
    node('node-a');
    node('node-b');
    const work = retireNodes({ ...options, nodes: ['node-a'] }, parts);
    await waitFor('the request', () => api.get(lambdaNodes, { name: 'node-a' })?.spec?.retired === true);
    node('node-a', 'False', 'its workers are being moved');
    await waitFor('the word of the agent', async () => {
      await parts.clock.advance(1_000);
      return said.includes('node-a: its workers are being moved');
    });
    node('node-a', 'True');
    expect(await ended(work)).toBeUndefined();
    expect(said.at(-1)).toBe('node-a: left');
    expect(api.get(lambdaNodes, { name: 'node-b' })?.spec?.retired).toBeUndefined();
    expect(names()).toEqual(['node-a', 'node-b']);
  });

  it('fails when the node is not left in time, and says why', async () => {
    const { node, parts, ended } = await world();
    node('node-a', 'False', 'the bridge stays');
    const error = await ended(retireNodes({ ...options, nodes: ['node-a'] }, parts));
    expect(error?.message).toBe('after 60 s these are not left yet: node-a: the bridge stays');
  });

  it('refuses a node that there is none of, and asks for nothing', async () => {
    const { api, node, parts, ended } = await world();
    node('node-a');
    const error = await ended(retireNodes({ ...options, nodes: ['node-a', 'nowhere'] }, parts));
    expect(error?.message).toBe('there is no LambdaNode nowhere');
    expect(api.get(lambdaNodes, { name: 'node-a' })?.spec?.retired).toBeUndefined();
  });

  it('with --all forgets every node, passes over silent ones at the time limit, and leaves other Leases', async () => {
    const { said, node, lease, worker, parts, ended, names, leaseNames } = await world();
    node('node-a', 'True');
    node('node-b');
    for (const name of ['node-a', 'node-b', 'of-others']) {
      lease(name);
    }
    worker([]);
    expect(await ended(retireNodes({ ...options, all: true }, parts))).toBeUndefined();
    expect(said).toContain('Given up: node-b: its agent has not answered yet. What ESB made there stays.');
    expect(names()).toEqual([]);
    expect(leaseNames()).toEqual(['of-others']);
  });

  it('with --all waits until no guard Pod is there, which the deletion of the namespace would wait for', async () => {
    const { api, clock, node, parts, said } = await world();
    node('node-a', 'True');
    const labels = { ...holdLabels, [HOLD_ROLE_LABEL]: GUARD_ROLE };
    const guard = { name: 'esb-hold-node-a', namespace: 'esb-system' };
    api.put(pods, { metadata: { ...guard, labels } });
    const retiring = retireNodes({ ...options, all: true }, parts);
    await waitFor('the node to be forgotten', () => api.all(lambdaNodes).length === 0, { everyMs: 5 });
    await clock.advance(5_000);
    expect(said).not.toContain('ESB has left every node.');
    api.remove(pods, guard);
    await waitFor('the end', async () => {
      await clock.advance(1_000);
      return said.includes('ESB has left every node.');
    });
    await retiring;
  });

  it('with --all fails as long as a worker could not be deleted any more', async () => {
    const { worker, parts, ended } = await world();
    worker(['esb.dev/worker']);
    const error = await ended(retireNodes({ ...options, all: true }, parts));
    expect(error?.message).toContain('the finalizer esb.dev/worker is still on default/hello');
  });

  it('with --leftovers removes what ESB made in its own namespace', async () => {
    const { api, lease, parts, leaseNames } = await world();
    for (const name of ['esb-controller', 'of-others']) {
      lease(name);
    }
    api.put(configMaps, { metadata: { name: 'esb-cluster-ranges', namespace: 'esb-system' } });
    for (const name of ['esb-client-ca', 'of-others']) {
      api.put(secrets, { metadata: { name, namespace: 'esb-system' } });
      api.put(configMaps, { metadata: { name, namespace: 'esb-system' } });
    }
    await removeLeftovers(options, parts);
    expect(leaseNames()).toEqual(['of-others']);
    expect(api.all(secrets).map(({ metadata }) => metadata.name)).toEqual(['of-others']);
    expect(api.all(configMaps).map(({ metadata }) => metadata.name)).toEqual(['of-others']);
  });

  it('takes no list of kubeconfigs for the name of one', async () => {
    vi.stubEnv('KUBERNETES_SERVICE_HOST', '');
    vi.stubEnv('ESB_HOME', '/nowhere/esb');
    vi.stubEnv('KUBECONFIG', '/nowhere/one:/nowhere/two');
    onTestFinished(() => void vi.unstubAllEnvs());
    const context = { signal: new AbortController().signal } as CommandContext;
    await expect(runRetire({ ...options, all: true }, context)).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: 'KUBECONFIG names several files; name one with --kubeconfig',
    });
  });

  it('says of a node whose retirement was taken back that it is not left', () => {
    expect(whyNotLeft({ metadata: { name: 'node-a' }, spec: { retired: false } } as LambdaNode)).toBe(
      'somebody took its retirement back',
    );
  });
});
