import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { AgentGrpcServer } from '../../../src/agent/grpc-server.ts';
import type { Invocation, InvocationResult } from '../../../src/agent/invocation.ts';
import { ServerIdentity } from '../../../src/agent/server-identity.ts';
import type { LambdaNode } from '../../../src/api/lambda-node.ts';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { Gateway } from '../../../src/gateway/gateway.ts';
import { createCertificateAuthority } from '../../support/certificate-authority.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { fakeInformer } from '../../support/fake-informer.ts';
import { inThreadEventStore } from '../../support/in-thread-event-store.ts';
import { memoryWorkerLogs } from '../../support/memory-worker-logs.ts';
import { waitFor } from '../../support/wait-for.ts';
import { nodeFixture, workerFixture } from '../../support/worker-fixture.ts';

const answered: InvocationResult = {
  kind: 'Answered',
  stamp: '2026-11-01T00:00:00.000001Z',
  timings: { queued: 5, wake: 0, run: 900, start: 'running' },
};

function answer(invocation: Invocation, body: Buffer): InvocationResult {
  invocation.onHead({ status: 200, contentType: 'text/plain' });
  invocation.onChunk(body);
  return answered;
}

/** A gateway and the agent's own server, with a fleet that does what it is told. */
async function lab() {
  const folder = await mkdtemp(join(tmpdir(), 'esb-seam-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const logger = silentLogger();
  const clock = systemClock;
  const shown = await ServerIdentity.open({ folder, nodeName: 'node-1', clock, logger });
  const clients = await createCertificateAuthority();
  const fleet = fakeFleet();
  fleet.show(viewFixture());
  const server = new AgentGrpcServer({ logger, clock });
  const address = await server.bind({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  const configure = (clientAuthority: string): void =>
    server.configure({ ...shown.current, clientAuthority });
  configure(clients.certificate);
  server.serve({
    fleet,
    logs: { workerLogs: memoryWorkerLogs(new Map()) },
    metricsPage: async () => ({ contentType: 'text/plain', text: '' }),
  });
  const issued = await clients.issueClient('esb-gateway', []);
  let refusals = 0;
  const gateway = new Gateway({
    namespace: 'default',
    eventStore: inThreadEventStore(),
    workers: fakeInformer<LambdaWorker>([
      workerFixture({ status: { assignment: { nodeName: 'node-1', epoch: 1 } } }),
    ]),
    nodes: fakeInformer<LambdaNode>([
      nodeFixture({
        status: { endpoint: `127.0.0.1:${address.port}`, certificate: shown.published },
      }),
    ]),
    client: { patch: async () => ({}) as never },
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
  });
  const port = await gateway.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => gateway.stop());
  await waitFor('the Watch', () => gateway.view.connected.size === 1, { everyMs: 5 });
  const call = (body: string, signal?: AbortSignal): Promise<Response> =>
    fetch(`http://127.0.0.1:${port}/2015-03-31/functions/hello/invocations`, {
      method: 'POST',
      body,
      ...(signal === undefined ? {} : { signal }),
    });
  return { fleet, server, gateway, call, configure, refusals: () => refusals };
}

describe("a gateway with the agent's own server", () => {
  it('brings a call of the largest size there and back', async () => {
    const { fleet, call } = await lab();
    fleet.onInvoke(async (invocation) => answer(invocation, invocation.payload));
    const body = JSON.stringify('x'.repeat(6 * 1024 * 1024 - 2));
    const response = await call(body);
    expect(response.status).toBe(200);
    expect(await response.text()).toBe(body);
  });

  it('brings many calls at the same time', async () => {
    const { fleet, call } = await lab();
    fleet.onInvoke(async (invocation) => answer(invocation, invocation.payload));
    const answers = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => (await call(String(index))).text()),
    );
    expect(answers).toEqual(Array.from({ length: 100 }, (_, index) => String(index)));
  });

  it('tells the agent of a caller who hangs up', async () => {
    const { fleet, call } = await lab();
    const begun = Promise.withResolvers<AbortSignal>();
    fleet.onInvoke((invocation) => {
      begun.resolve(invocation.signal);
      return new Promise(() => undefined);
    });
    const hangUp = new AbortController();
    const given = call('{}', hangUp.signal);
    given.catch(() => undefined);
    const signal = await begun.promise;
    hangUp.abort();
    await waitFor('the agent to know', () => signal.aborted, { everyMs: 5 });
  });

  it('follows what the agent says of its workers', async () => {
    const { fleet, gateway } = await lab();
    const phase = () => gateway.view.worker('uid-of-hello')?.holdings[0]?.phase;
    expect(phase()).toBe('PHASE_RUNNING');
    fleet.show(viewFixture({ phase: 'Paused', epoch: 2 }));
    await waitFor('the change', () => phase() === 'PHASE_PAUSED', { everyMs: 5 });
    expect(gateway.view.worker('uid-of-hello')?.highestEpoch).toBe(2);
    fleet.remove('uid-of-hello');
    await waitFor('the removal', () => phase() === undefined, { everyMs: 5 });
  });

  it('has the calls under way answered by an agent that is stopping', async () => {
    const { fleet, server, gateway, call } = await lab();
    const begun = Promise.withResolvers<() => void>();
    fleet.onInvoke((invocation) => {
      const done = Promise.withResolvers<InvocationResult>();
      begun.resolve(() => done.resolve(answer(invocation, Buffer.from('"late"'))));
      return done.promise;
    });
    const given = call('{}');
    const finish = await begun.promise;
    server.refuse();
    await waitFor('the Watch to end', () => gateway.view.connected.size === 0, { everyMs: 5 });
    finish();
    expect(await (await given).text()).toBe('"late"');
  });

  it('does not take the end of an agent for a refusal of its certificate', async () => {
    const { gateway, refusals, server } = await lab();
    server.refuse();
    await waitFor('the end of the Watch', () => gateway.view.connected.size === 0, { everyMs: 5 });
    await waitFor('several attempts to come back', async () => {
      const { text } = await gateway.metrics.page();
      return Number(/^esb_gateway_agent_connection_failures_total (\d+)$/m.exec(text)?.[1]) >= 3;
    });
    expect(refusals()).toBe(0);
  });

  it('notices that the agent does not accept its certificate any more', async () => {
    const { configure, gateway, refusals } = await lab();
    configure((await createCertificateAuthority()).certificate);
    await waitFor('the connection to be cut', () => gateway.view.connected.size === 0, { everyMs: 5 });
    await waitFor('refusals', () => refusals() >= 3, { everyMs: 20 });
  });
});
