import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InvokeCommand, LambdaClient, type LambdaServiceException } from '@aws-sdk/client-lambda';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { type Authority, advanceAuthority } from '../../../src/controller/certificates/ca.ts';
import { signRequest } from '../../../src/controller/certificates/csr-signer.ts';
import { runGateway } from '../../../src/gateway/main.ts';
import { type CertificateSigningRequest, certificateSigningRequests } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { gatewayFlags } from '../../../src/options/gateway.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { type FakeAgent, startFakeAgent } from '../../support/fake-agent.ts';
import { freePort } from '../../support/free-port.ts';
import { isUnheard } from '../../support/lambda-caller.ts';
import { optionsOf } from '../../support/options.ts';
import { waitFor } from '../../support/wait-for.ts';

let api: ApiServer;
let admin: KubeClient;
let authority: Authority;
let kubeconfig: string;
let agent: FakeAgent;

interface RunningGateway {
  readonly url: string;
  readonly health: string;
  stop(): Promise<void>;
}

async function startGateway(stateDir: string): Promise<RunningGateway> {
  const [port, healthPort] = [await freePort(), await freePort()];
  const stop = new AbortController();
  const running = runGateway(
    optionsOf(gatewayFlags, [
      ...['--kubeconfig', kubeconfig, '--state-dir', stateDir],
      ...['--listen', `127.0.0.1:${port}`, '--health', `127.0.0.1:${healthPort}`],
      ...['--authentication', 'off', '--max-events', '100', '--max-event-bytes', '1Mi'],
    ]),
    { signal: stop.signal, logger: silentLogger() },
  );
  running.catch(() => undefined);
  const gateway: RunningGateway = {
    url: `http://127.0.0.1:${port}`,
    health: `http://127.0.0.1:${healthPort}`,
    async stop() {
      stop.abort();
      await running;
    },
  };
  onTestFinished(() => gateway.stop());
  await waitFor('the gateway to listen', async () => (await fetch(`${gateway.health}/healthz`)).ok);
  return gateway;
}

async function readiness(gateway: RunningGateway): Promise<string> {
  const answer = await fetch(`${gateway.health}/readyz`);
  return `${answer.status} ${(await answer.text()).trim()}`;
}

function lambda(gateway: RunningGateway): LambdaClient {
  const client = new LambdaClient({
    endpoint: gateway.url,
    region: 'us-east-1',
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    maxAttempts: 1,
  });
  onTestFinished(() => client.destroy());
  return client;
}

async function invoke(gateway: RunningGateway, name: string): Promise<string> {
  const answer = await lambda(gateway).send(new InvokeCommand({ FunctionName: name }));
  return Buffer.from(answer.Payload ?? []).toString();
}

function requests(): Promise<readonly CertificateSigningRequest[]> {
  return admin.list<CertificateSigningRequest>(certificateSigningRequests).then(({ items }) => items);
}

/** Signs requests, as the controller does. */
async function signRequests(): Promise<void> {
  for (const request of await requests()) {
    await signRequest(request, {
      client: admin,
      authority: () => authority.current,
      clock: systemClock,
      logger: silentLogger(),
    });
  }
}

async function addWorker(name: string): Promise<void> {
  await api.kubectl(
    ['apply', '-f', '-'],
    JSON.stringify({
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaWorker',
      metadata: { name, namespace: 'default' },
      spec: { image: 'registry.example/hello:1' },
    }),
  );
  const status = { status: { assignment: { nodeName: agent.nodeName, epoch: 1 } } };
  await api.kubectl(['patch', 'lw', name, '--subresource=status', '--type=merge', '-p', JSON.stringify(status)]);
  const { metadata } = await worker(name);
  agent.put({ name, worker: { namespace: 'default', name, uid: metadata.uid ?? '' } });
  onTestFinished(async () => {
    await api.bringUp();
    await api.kubectl(['delete', 'lw', name, '--ignore-not-found']);
    agent.remove(name);
  });
}

async function worker(name: string): Promise<LambdaWorker> {
  return JSON.parse(await api.kubectl(['get', 'lw', name, '-o', 'json'])) as LambdaWorker;
}

async function stateFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-gateway-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A gateway that is ready, with a certificate. */
async function readyGateway(stateDir: string): Promise<RunningGateway> {
  const gateway = await startGateway(stateDir);
  await waitFor('the gateway to be ready', async () => {
    await signRequests();
    return (await readiness(gateway)).startsWith('200');
  });
  return gateway;
}

beforeAll(async () => {
  api = await startApiServer();
  await api.kubectl(['apply', '-f', 'crds']);
  await api.kubectl(['wait', '--for=condition=Established', '-f', 'crds']);
  await api.kubectl(['create', 'namespace', 'esb-system']);
  await api.kubectl(['apply', '-f', 'manifests/rbac.yaml', '-f', 'manifests/local']);
  admin = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: api.adminKubeconfig }) });
  authority = await advanceAuthority(undefined, Date.now());
  kubeconfig = await api.kubeconfig('esb:gateway');
  agent = await startFakeAgent({ clientAuthority: authority.current.certificate });
  await api.kubectl(
    ['apply', '-f', '-'],
    JSON.stringify({
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaNode',
      metadata: { name: agent.nodeName },
    }),
  );
  const { endpoint, certificate } = agent.node.status ?? {};
  await api.kubectl([
    'patch',
    'ln',
    agent.nodeName,
    '--subresource=status',
    '--type=merge',
    '-p',
    JSON.stringify({ status: { endpoint, certificate } }),
  ]);
});

afterAll(async () => {
  await agent?.stop();
  await admin?.close();
  await api?.stop();
});

describe('a gateway on a real API server', () => {
  it('gets its certificate by a request, serves, and writes nothing of the call', async () => {
    const gateway = await startGateway(await stateFolder());
    await addWorker('hello');
    await waitFor('the gateway to ask', async () => (await requests()).length > 0);
    await waitFor('the gateway to say what it lacks', async () => (await readiness(gateway)).includes('NoCertificate'));
    await waitFor('the gateway to be ready', async () => {
      await signRequests();
      return (await readiness(gateway)).startsWith('200');
    });
    const metricsPage = async (): Promise<string> => await (await fetch(`${gateway.health}/metrics`)).text();
    // The API server ends watches of a kind that was defined a moment ago.
    await waitFor('the function', async () => (await metricsPage()).includes('esb_gateway_functions 1'));
    agent.onInvoke((call) => call.answer('"hi"', { stamp: '2031-02-03T04:05:06.000007Z' }));
    expect(await invoke(gateway, 'hello')).toBe('"hi"');
    // Activity is for the agent to write.
    expect((await worker('hello')).status?.lastInvocationTime).toBeUndefined();
    const metrics = await metricsPage();
    expect(metrics).toContain('esb_gateway_calls_total{function="hello",outcome="ok",start="warm"} 1');
    expect(metrics).toContain('esb_gateway_agents_connected 1');
  });

  it('hears of a new function and of the end of one', async () => {
    const gateway = await readyGateway(await stateFolder());
    const refusal = await waitFor('a gateway that hears from the API server', async () => {
      const outcome = await invoke(gateway, 'late').catch((error: LambdaServiceException) => error);
      const unheard = typeof outcome === 'object' && isUnheard(outcome.$metadata.httpStatusCode, outcome.message);
      return unheard ? undefined : outcome;
    });
    expect(refusal).toMatchObject({ name: 'ResourceNotFoundException' });
    await addWorker('late');
    agent.onInvoke((call) => call.answer('"late"'));
    await waitFor('the function', () => invoke(gateway, 'late'));
    await api.kubectl(['delete', 'lw', 'late']);
    await waitFor('the function to be gone', () =>
      invoke(gateway, 'late').then(
        () => false,
        (error: Error) => error.name === 'ResourceNotFoundException',
      ),
    );
  });

  it('that starts while the API server is away answers 503, and serves once it is back', {
    tags: ['G3'],
  }, async () => {
    const folder = await stateFolder();
    await addWorker('steady');
    const first = await readyGateway(folder);
    agent.onInvoke((call) => call.answer('"steady"'));
    expect(await invoke(first, 'steady')).toBe('"steady"');
    const asked = (await requests()).length;
    await first.stop();
    await api.takeDown();
    const second = await startGateway(folder);
    await expect(invoke(second, 'steady')).rejects.toMatchObject({
      name: 'ServiceException',
      $metadata: { httpStatusCode: 503 },
    });
    expect(await readiness(second)).toMatch(/^503/);
    await api.bringUp();
    await waitFor('the gateway to be ready again', async () => (await readiness(second)).startsWith('200'), {
      timeoutMs: 60_000,
    });
    expect(await invoke(second, 'steady')).toBe('"steady"');
    // The certificate of before has served.
    expect(await requests()).toHaveLength(asked);
  });

  it('serves while the API server is frozen', async () => {
    await addWorker('tireless');
    const gateway = await readyGateway(await stateFolder());
    agent.onInvoke((call) => call.answer('1'));
    expect(await invoke(gateway, 'tireless')).toBe('1');
    api.pause();
    try {
      agent.onInvoke((call) => call.answer('2'));
      for (let call = 0; call < 10; call += 1) {
        expect(await invoke(gateway, 'tireless')).toBe('2');
      }
    } finally {
      api.continue();
    }
  });
});
