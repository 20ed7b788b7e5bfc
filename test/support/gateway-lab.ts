import { InvokeCommand, type InvokeCommandInput, type InvokeCommandOutput, LambdaClient } from '@aws-sdk/client-lambda';
import { onTestFinished } from 'vitest';
import type { LambdaFunction } from '../../src/api/lambda-function.ts';
import type { LambdaNode } from '../../src/api/lambda-node.ts';
import type { LambdaVersion } from '../../src/api/lambda-version.ts';
import type { LambdaWorker } from '../../src/api/lambda-worker.ts';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/logger.ts';
import type { CertifiedKey } from '../../src/common/x509.ts';
import { Gateway, type GatewayOptions } from '../../src/gateway/gateway.ts';
import { createCertificateAuthority } from './certificate-authority.ts';
import { type FakeAgent, startFakeAgent } from './fake-agent.ts';
import { type FakeInformer, fakeInformer } from './fake-informer.ts';
import { inThreadEventStore } from './in-thread-event-store.ts';
import { waitFor } from './wait-for.ts';
import { workerFixture } from './worker-fixture.ts';

export interface GatewayLabOptions {
  /** Names of the nodes, each with an agent. Default one, `node-1`. */
  readonly nodes?: readonly string[];
  readonly maxWaitMs?: number;
  /** Options of the gateway, in place of those of the lab. */
  readonly gateway?: Partial<GatewayOptions>;
}

/** A gateway with fake agents and fake informers, called by the AWS SDK. */
export interface GatewayLab {
  readonly gateway: Gateway;
  readonly url: string;
  /** Tries nothing twice. */
  readonly client: LambdaClient;
  readonly agents: readonly FakeAgent[];
  /** The first of them. */
  readonly agent: FakeAgent;
  readonly workers: FakeInformer<LambdaWorker>;
  readonly nodes: FakeInformer<LambdaNode>;
  readonly functions: FakeInformer<LambdaFunction>;
  readonly versions: FakeInformer<LambdaVersion>;
  /** Adds a running worker to an agent, the first by default, and to the resources. Waits until it can be called. */
  addWorker(name: string, options?: AddWorkerOptions): Promise<void>;
  /** The SDK's answer. Nothing is tried twice. */
  invoke(name: string, input?: Partial<InvokeCommandInput>, signal?: AbortSignal): Promise<InvokeCommandOutput>;
  /** Waits until the gateway has a Watch on as many agents. */
  connected(count?: number): Promise<void>;
}

export interface AddWorkerOptions {
  readonly functionName?: string;
  readonly agent?: FakeAgent;
  readonly epoch?: number;
  readonly phase?: string;
  readonly callable?: boolean;
  readonly timeoutSeconds?: number;
  readonly runtimeInterface?: 'Lambda' | 'Emulator';
  /** Of the function; absent for $LATEST. */
  readonly version?: number;
}

/** Starts one; it ends with the test. */
export async function gatewayLab(options: GatewayLabOptions = {}): Promise<GatewayLab> {
  const authority = await createCertificateAuthority();
  const { certificate, key } = await authority.issueGateway(['default']);
  const identity: CertifiedKey = { certificate, privateKey: key };
  const agents = await Promise.all(
    (options.nodes ?? ['node-1']).map((nodeName) =>
      startFakeAgent({ nodeName, clientAuthority: authority.certificate }),
    ),
  );
  const [agent] = agents;
  if (agent === undefined) {
    throw new Error('there has to be a node');
  }
  const workers = fakeInformer<LambdaWorker>();
  const nodes = fakeInformer<LambdaNode>(agents.map(({ node }) => node));
  const functions = fakeInformer<LambdaFunction>();
  const versions = fakeInformer<LambdaVersion>();
  const gateway = new Gateway({
    namespace: 'default',
    workers,
    nodes,
    functions,
    versions,
    identity: { current: identity, accepted: () => undefined, refused: () => undefined },
    // As the requests that tests sign have it.
    hosts: ['gateway.example'],
    events: { kind: 'Here', store: inThreadEventStore() },
    clock: systemClock,
    logger: silentLogger(),
    maxWaitMs: options.maxWaitMs ?? 5_000,
    lameDuckMs: 0,
    eventDrainMs: 100,
    ...options.gateway,
  });
  const port = await gateway.listen({ host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${port}`;
  const client = new LambdaClient({
    endpoint: url,
    region: 'us-east-1',
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    maxAttempts: 1,
  });
  onTestFinished(async () => {
    client.destroy();
    const stopped = gateway.stop();
    await Promise.all(agents.map((each) => each.stop()));
    await stopped;
  });
  const lab: GatewayLab = {
    gateway,
    url,
    client,
    agents,
    agent,
    workers,
    nodes,
    functions,
    versions,
    async addWorker(name, worker = {}) {
      const owner = worker.agent ?? agent;
      const functionName = worker.functionName ?? name;
      owner.put({
        name,
        functionName,
        epoch: worker.epoch ?? 1,
        ...(worker.phase === undefined ? {} : { phase: worker.phase }),
        ...(worker.callable === undefined ? {} : { callable: worker.callable }),
      });
      workers.put(
        workerFixture({
          name,
          spec: {
            functionName,
            timeoutSeconds: worker.timeoutSeconds ?? 3,
            ...(worker.version === undefined ? {} : { version: worker.version }),
            ...(worker.runtimeInterface === undefined ? {} : { runtimeInterface: worker.runtimeInterface }),
          },
          status: { assignment: { nodeName: owner.nodeName, epoch: worker.epoch ?? 1 } },
        }),
      );
      await waitFor(`worker ${name} to be known`, () => gateway.view.worker(`uid-of-${name}`)?.holding !== undefined, {
        everyMs: 5,
      });
    },
    invoke: (name, input = {}, signal) =>
      client.send(
        new InvokeCommand({ FunctionName: name, ...input }),
        signal === undefined ? {} : { abortSignal: signal },
      ),
    connected: async (count = agents.length) => {
      await waitFor('agents to be connected', () => gateway.view.connected.size === count, { everyMs: 5 });
    },
  };
  await lab.connected();
  return lab;
}

/** The payload of an SDK answer, as text. */
export function payloadOf(answer: InvokeCommandOutput): string {
  return Buffer.from(answer.Payload ?? []).toString();
}
