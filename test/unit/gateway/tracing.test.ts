import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import type { Tracing } from '../../../src/common/tracing/span.ts';
import { openTracing } from '../../../src/common/tracing/tracing.ts';
import { agentServerLab } from '../../support/agent-server-lab.ts';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { gatewayLab } from '../../support/gateway-lab.ts';
import { ALICE, keyedAccess } from '../../support/keyed-access.ts';
import { settle } from '../../support/manual-clock.ts';
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from '../../support/otlp-receiver.ts';
import { invokePath, signedRequest } from '../../support/signed-request.ts';
import { waitFor } from '../../support/wait-for.ts';

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const callerSpan = '00f067aa0ba902b7';
const traceParent = `00-${traceId}-${callerSpan}-01`;
const root = 'Root=1-4bf92f35-77b34da6a3ce929d0e0e4736';

/** Of the function `hello`, where its caller tells none. */
const lineage = ';Lineage=1:3610a686:0';

async function tracingOf(service: string, receiver: OtlpReceiver): Promise<Tracing> {
  const tracing = await openTracing({
    service,
    attributes: {},
    endpoint: receiver.url,
    env: {},
    clock: systemClock,
    logger: silentLogger(),
  });
  if (tracing === undefined) {
    throw new Error('tracing is off');
  }
  return tracing;
}

interface TracedOptions {
  readonly restingState?: 'Running' | 'Paused';
  readonly gateway?: boolean;
  readonly agent?: boolean;
}

/**
 * A gateway, an agent's server and its fleet, with workers in memory, each telling its spans where asked for.
 */
async function traced({ restingState = 'Running', gateway = true, agent = true }: TracedOptions = {}) {
  const receiver = await startOtlpReceiver();
  const fleet = await FleetLab.with(desiredFixture({ restingState }));
  const tracings = {
    gateway: gateway ? await tracingOf('esb-gateway', receiver) : undefined,
    agent: agent ? await tracingOf('esb-agent', receiver) : undefined,
  };
  /** The trace ids that workers were given. */
  const given: (string | undefined)[] = [];
  fleet.emulators.onCall = (call) => {
    given.push(call.request.traceId);
    call.answer('"done"');
  };
  const lab = await agentServerLab({
    fleet: fleet.fleet,
    tracing: tracings.agent,
    gateway: { observation: { listeners: [], tracing: tracings.gateway, maxFunctions: 100 } },
  });
  const close = async (): Promise<void> => {
    await tracings.gateway?.close();
    await tracings.agent?.close();
  };
  onTestFinished(close);
  return { lab, fleet, receiver, given, flush: close };
}

function within(inner: ReceivedSpan, outer: ReceivedSpan): boolean {
  // A gateway and an agent each have a clock of their own; here both are this machine's, cut to milliseconds.
  const slack = 2_000_000n;
  return inner.startedAt >= outer.startedAt - slack && inner.endedAt <= outer.endedAt + slack;
}

describe('the spans of a call', () => {
  it('lead from the caller through gateway and agent to the run in the worker, which is told of them', async () => {
    const { flush, given, lab, receiver } = await traced();
    const answer = await lab.call('{}', { traceparent: traceParent, tracestate: 'a=b' });
    expect(await answer.text()).toBe('"done"');
    await flush();
    const outer = await receiver.span('esb-gateway', 'Invoke');
    const sent = await receiver.span('esb-gateway', 'esb.agent.v1.Agent/Invoke');
    const taken = await receiver.span('esb-agent', 'esb.agent.v1.Agent/Invoke');
    const queue = await receiver.span('esb-agent', 'queue');
    const run = await receiver.span('esb-agent', 'run');
    expect(receiver.spans).toHaveLength(5);
    expect(receiver.spans.every((span) => span.traceId === traceId)).toBe(true);
    expect(outer).toMatchObject({ kind: 'SERVER', parentSpanId: callerSpan, fault: undefined });
    expect(sent).toMatchObject({ kind: 'CLIENT', parentSpanId: outer.spanId });
    expect(taken).toMatchObject({ kind: 'SERVER', parentSpanId: sent.spanId });
    expect(queue).toMatchObject({ kind: 'INTERNAL', parentSpanId: taken.spanId });
    expect(run).toMatchObject({ kind: 'CLIENT', parentSpanId: taken.spanId });
    expect(within(sent, outer) && within(taken, sent) && within(run, taken)).toBe(true);
    // Spans from inside the worker belong below the run.
    expect(given).toEqual([`${root};Parent=${run.spanId};Sampled=1${lineage}`]);
    expect(answer.headers.get('x-amzn-trace-id')).toBe(`${root};Parent=${outer.spanId};Sampled=1${lineage}`);
    const requestId = answer.headers.get('x-amzn-requestid');
    expect(outer.attributes).toMatchObject({
      'rpc.method': 'Invoke',
      'faas.invoked_name': 'hello',
      'faas.invocation_id': requestId,
      'http.response.status_code': 200,
      'esb.outcome': 'ok',
      'esb.start': 'warm',
    });
    expect(taken.attributes).toMatchObject({
      'faas.invocation_id': requestId,
      'esb.worker': 'hello',
      'esb.start': 'running',
      'faas.coldstart': false,
    });
  });

  it('show what it took to wake the worker, apart from the run', async () => {
    const { flush, fleet, lab, receiver } = await traced({ restingState: 'Paused' });
    const resumed = Promise.withResolvers<void>();
    fleet.runtime.before = (operation) => (operation === 'resume' ? resumed.promise : Promise.resolve());
    const call = lab.call('{}');
    await waitFor('the resume', () => fleet.runtime.count('resume') === 1, { everyMs: 5 });
    await fleet.clock.advance(25);
    resumed.resolve();
    await settle();
    const answer = await call;
    expect(answer.headers.get('x-esb-start')).toBe('resumed');
    await flush();
    const taken = await receiver.span('esb-agent', 'esb.agent.v1.Agent/Invoke');
    const wake = await receiver.span('esb-agent', 'wake');
    expect(wake).toMatchObject({ parentSpanId: taken.spanId, endedAt: wake.startedAt + 25_000_000n });
    expect((await receiver.span('esb-agent', 'queue')).startedAt).toBe(wake.endedAt);
    expect((await receiver.span('esb-gateway', 'Invoke')).attributes['esb.start']).toBe('resumed');
  });

  it('belong to a trace of their own where the caller has none, and the answer names it', async () => {
    const { flush, lab, receiver } = await traced();
    const answer = await lab.call('{}');
    await flush();
    const outer = await receiver.span('esb-gateway', 'Invoke');
    expect(outer.parentSpanId).toBe('');
    expect(answer.headers.get('x-amzn-trace-id')).toBe(
      `Root=1-${outer.traceId.slice(0, 8)}-${outer.traceId.slice(8)};Parent=${outer.spanId};Sampled=1${lineage}`,
    );
  });

  it('go on from an X-Amzn-Trace-Id as well', async () => {
    const { flush, given, lab, receiver } = await traced();
    const header = `${root};Parent=${callerSpan};Sampled=1;Lineage=1:ab:0`;
    await lab.call('{}', { 'x-amzn-trace-id': header });
    await flush();
    expect(await receiver.span('esb-gateway', 'Invoke')).toMatchObject({ traceId, parentSpanId: callerSpan });
    const run = await receiver.span('esb-agent', 'run');
    expect(given).toEqual([`${root};Parent=${run.spanId};Sampled=1;Lineage=1:ab:0`]);
  });

  it('are not told of a trace that its caller does not want to be kept, which goes on all the same', async () => {
    const { flush, given, lab, receiver } = await traced();
    await lab.call('{}', { traceparent: `00-${traceId}-${callerSpan}-00` });
    await flush();
    expect(receiver.spans).toEqual([]);
    expect(given[0]).toMatch(new RegExp(`^${root};Parent=[0-9a-f]{16};Sampled=0${lineage}$`));
  });

  it('tell of a failure of the function', async () => {
    const { flush, fleet, lab, receiver } = await traced();
    fleet.emulators.onCall = (call) => call.answer('{"errorType":"E","errorMessage":"it broke"}');
    await lab.call('{}');
    await flush();
    expect((await receiver.span('esb-gateway', 'Invoke')).fault).toBe('function_error');
    // The emulator did its part.
    expect((await receiver.span('esb-agent', 'run')).fault).toBeUndefined();
  });

  it('tell of a call of which nobody knows how far it came', async () => {
    const { flush, fleet, lab, receiver } = await traced();
    fleet.emulators.onCall = (call) => call.end({ kind: 'Unknown', message: 'it went away' });
    const call = lab.call('{}');
    await waitFor('the call', () => fleet.emulators.sent.length === 1, { everyMs: 5 });
    await fleet.clock.advance(5_000);
    expect((await call).headers.get('x-esb-outcome')).toBe('unknown');
    await flush();
    expect((await receiver.span('esb-gateway', 'Invoke')).fault).toBe('unknown');
    expect((await receiver.span('esb-agent', 'run')).fault).toBe('Unknown');
    const taken = await receiver.span('esb-agent', 'esb.agent.v1.Agent/Invoke');
    expect(taken.attributes['esb.outcome']).toBe('Unknown');
    expect(taken.fault).toBe('it went away');
  });

  it('tell of a call that no worker took', async () => {
    const { flush, fleet, lab, receiver } = await traced({ restingState: 'Paused' });
    fleet.fleet.apply(desiredFixture({ generation: 2, restingState: 'Paused', wakePolicy: 'Never' }));
    await settle();
    const answer = await lab.call('{}');
    expect(answer.status).toBe(409);
    await flush();
    const outer = await receiver.span('esb-gateway', 'Invoke');
    expect(outer.attributes['esb.outcome']).toBe('ResourceConflictException');
    // A refusal by the owner's setting is no fault of the server.
    expect(outer.fault).toBeUndefined();
    const sent = await receiver.span('esb-gateway', 'esb.agent.v1.Agent/Invoke');
    expect(sent.attributes['esb.reason']).toBe('PausedByOwner');
    expect((await receiver.span('esb-agent', 'esb.agent.v1.Agent/Invoke')).parentSpanId).toBe(sent.spanId);
  });

  it('of an Event belong to the request that brought it', async () => {
    const { flush, given, lab, receiver } = await traced();
    const accepted = await lab.call('{}', { traceparent: traceParent, 'x-amz-invocation-type': 'Event' });
    expect(accepted.status).toBe(202);
    await waitFor('the event to run', () => given.length === 1, { everyMs: 5 });
    await waitFor('its end', async () => {
      const { text } = await lab.gateway.metrics.page();
      return /^esb_gateway_events_total\{result="ok"\} 1$/m.test(text);
    });
    await flush();
    const outer = await receiver.span('esb-gateway', 'Invoke');
    const sent = await receiver.span('esb-gateway', 'esb.agent.v1.Agent/Invoke');
    expect(outer).toMatchObject({ traceId, parentSpanId: callerSpan });
    expect(outer.attributes).toMatchObject({ 'esb.invocation_type': 'Event', 'esb.outcome': 'accepted' });
    expect(sent).toMatchObject({ traceId, parentSpanId: outer.spanId });
    const run = await receiver.span('esb-agent', 'run');
    expect(given).toEqual([`${root};Parent=${run.spanId};Sampled=1${lineage}`]);
  });

  it('of an agent alone belong to the caller', async () => {
    const { flush, lab, receiver } = await traced({ gateway: false });
    await lab.call('{}', { traceparent: traceParent });
    await flush();
    expect(await receiver.span('esb-agent', 'esb.agent.v1.Agent/Invoke')).toMatchObject({
      traceId,
      parentSpanId: callerSpan,
    });
  });

  it('of a gateway alone are what the worker is told of', async () => {
    const { flush, given, lab, receiver } = await traced({ agent: false });
    await lab.call('{}', { traceparent: traceParent });
    await flush();
    const sent = await receiver.span('esb-gateway', 'esb.agent.v1.Agent/Invoke');
    expect(given).toEqual([`${root};Parent=${sent.spanId};Sampled=1${lineage}`]);
  });
});

it('strangers have no spans, and no say in which traces are kept', async () => {
  const receiver = await startOtlpReceiver();
  const tracing = await tracingOf('esb-gateway', receiver);
  onTestFinished(() => tracing.close());
  const lab = await gatewayLab({
    gateway: { access: keyedAccess(), observation: { listeners: [], tracing, maxFunctions: 100 } },
  });
  await lab.addWorker('hello');
  const url = `${lab.url}${invokePath('hello')}`;
  const strange = await fetch(url, { method: 'POST', body: '{}', headers: { traceparent: traceParent } });
  expect(strange.status).toBe(403);
  expect((await fetch(`${lab.url}/nope`, { headers: { traceparent: traceParent } })).status).toBe(404);
  const { host } = new URL(lab.url);
  const { headers } = await signedRequest(ALICE, { body: '{}', headers: { host } });
  const known = await fetch(url, {
    method: 'POST',
    body: '{}',
    headers: { ...(headers as Record<string, string>), traceparent: traceParent },
  });
  expect(known.status).toBe(200);
  await tracing.close();
  const spans = receiver.spans.filter(({ name }) => name === 'Invoke');
  expect(spans).toHaveLength(1);
  expect(spans[0]).toMatchObject({ traceId, parentSpanId: callerSpan });
  expect(receiver.spans.filter(({ name }) => name === 'Unknown')).toEqual([]);
});

describe('without tracing', () => {
  it('the trace of the caller reaches the worker, and a trace that is not sampled where the caller has none', async () => {
    const { given, lab } = await traced({ gateway: false, agent: false });
    const header = `${root};Parent=${callerSpan};Sampled=1`;
    const answer = await lab.call('{}', { 'x-amzn-trace-id': `${header};Lineage=1:ab:0` });
    expect(answer.headers.get('x-amzn-trace-id')).toBe(`${header};Lineage=1:ab:0`);
    await lab.call('{}', { traceparent: traceParent });
    const plain = (await lab.call('{}')).headers.get('x-amzn-trace-id');
    expect(plain).toMatch(new RegExp(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0${lineage}$`));
    expect(given).toEqual([`${header};Lineage=1:ab:0`, `${header}${lineage}`, plain]);
  });
});
