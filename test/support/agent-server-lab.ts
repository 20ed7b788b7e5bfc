import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Fleet } from '../../src/agent/model/fleet.ts';
import { AgentGrpcServer } from '../../src/agent/rpc/server.ts';
import { ServerIdentity } from '../../src/agent/rpc/server-identity.ts';
import type { LambdaFunction } from '../../src/api/lambda-function.ts';
import type { LambdaNode } from '../../src/api/lambda-node.ts';
import type { LambdaVersion } from '../../src/api/lambda-version.ts';
import type { LambdaWorker } from '../../src/api/lambda-worker.ts';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/logger.ts';
import type { Tracing } from '../../src/common/tracing/span.ts';
import { Gateway, type GatewayOptions } from '../../src/gateway/gateway.ts';
import { createCertificateAuthority } from './certificate-authority.ts';
import { type FakeInformer, fakeInformer } from './fake-informer.ts';
import { inThreadEventStore } from './in-thread-event-store.ts';
import { memoryWorkerLogs } from './memory-worker-logs.ts';
import { waitFor } from './wait-for.ts';
import { nodeFixture, workerFixture } from './worker-fixture.ts';

export interface AgentServerLabOptions {
  /** The worker `default/hello` on it is what is called, unless others are named. */
  readonly fleet: Fleet;
  readonly workers?: readonly LambdaWorker[];
  /** Of the agent. */
  readonly tracing?: Tracing | undefined;
  readonly gateway?: Partial<GatewayOptions>;
}

/** A gateway and the agent's own server before a fleet. */
export interface AgentServerLab {
  readonly gateway: Gateway;
  readonly url: string;
  readonly functions: FakeInformer<LambdaFunction>;
  /** The one that serves now. */
  readonly server: AgentGrpcServer;
  /** Another gateway of the same workers; its address. */
  addGateway(): Promise<string>;
  call(body: string, headers?: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<Response>;
  /** The agent takes the certificates of another authority from now on. */
  trust(clientAuthority: string): void;
  /** How often an agent has refused the gateway's certificate. */
  refusals(): number;
  /** The server of the agent ends, as at the end of its role; `drained` settles once the calls under way have ended. */
  stopAgent(drained: () => Promise<unknown>): Promise<void>;
  /** A further gateway that is called at its own address; it ends with the test. */
  nextGateway(options: Partial<GatewayOptions>): Promise<{ readonly gateway: Gateway; readonly url: string }>;
  /** Another one takes its port. */
  startAgent(): Promise<void>;
}

/** Starts one; it ends with the test. */
export async function agentServerLab(options: AgentServerLabOptions): Promise<AgentServerLab> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-served-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const logger = silentLogger();
  const clock = systemClock;
  const shown = await ServerIdentity.open({ folder, nodeName: 'node-1', clock, logger });
  const clients = await createCertificateAuthority();
  const serve = async (port: number): Promise<{ server: AgentGrpcServer; port: number }> => {
    const server = new AgentGrpcServer({ logger, clock });
    const bound = await server.bind({ host: '127.0.0.1', port });
    server.configure({ ...shown.current, clientAuthority: clients.certificate });
    server.serve({
      fleet: options.fleet,
      logs: { workerLogs: memoryWorkerLogs(new Map()) },
      metricsPage: async () => ({ contentType: 'text/plain', text: '' }),
      tracing: options.tracing,
    });
    return { server, port: bound.port };
  };
  let refusals = 0;
  let agent = await serve(0);
  onTestFinished(() => agent.server.close());
  const issued = await clients.issueGateway(['default']);
  const functions = fakeInformer<LambdaFunction>();
  const assigned = workerFixture({ status: { assignment: { nodeName: 'node-1', epoch: 1 } } });
  const newGateway = (more: Partial<GatewayOptions> = {}): Gateway =>
    new Gateway({
      namespace: 'default',
      events: { kind: 'Here', store: inThreadEventStore() },
      workers: fakeInformer<LambdaWorker>(options.workers ?? [assigned]),
      nodes: fakeInformer<LambdaNode>([
        nodeFixture({
          status: { endpoint: `127.0.0.1:${agent.port}`, certificate: shown.published },
        }),
      ]),
      functions,
      versions: fakeInformer<LambdaVersion>(),
      identity: {
        current: { certificate: issued.certificate, privateKey: issued.key },
        accepted: () => undefined,
        refused: () => {
          refusals += 1;
        },
      },
      clock,
      logger,
      lameDuckMs: 0,
      ...options.gateway,
      ...more,
    });
  const start = async (started: Gateway): Promise<string> => {
    const port = await started.listen({ host: '127.0.0.1', port: 0 });
    onTestFinished(() => started.stop());
    await waitFor('the Watch', () => started.view.connected.size === 1, { everyMs: 5 });
    return `http://127.0.0.1:${port}`;
  };
  const gateway = newGateway();
  const url = await start(gateway);
  return {
    addGateway: async () => await start(newGateway()),
    async nextGateway(more) {
      const next = newGateway(more);
      return { gateway: next, url: await start(next) };
    },
    gateway,
    url,
    functions,
    get server() {
      return agent.server;
    },
    call: (body, headers = {}, signal) =>
      fetch(`${url}/2015-03-31/functions/hello/invocations`, {
        method: 'POST',
        body,
        headers,
        ...(signal === undefined ? {} : { signal }),
      }),
    trust: (clientAuthority) => agent.server.configure({ ...shown.current, clientAuthority }),
    refusals: () => refusals,
    async stopAgent(drained) {
      agent.server.refuse();
      await drained();
      await agent.server.close();
    },
    async startAgent() {
      agent = await serve(agent.port);
    },
  };
}
