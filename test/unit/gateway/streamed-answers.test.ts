import { InvokeWithResponseStreamCommand, LambdaClient } from '@aws-sdk/client-lambda';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { FunctionEnd, Invocation, InvocationResult } from '../../../src/agent/model/invocation.ts';
import { type AgentServerLabOptions, agentServerLab } from '../../support/agent-server-lab.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { heldUp } from '../../support/held-up.ts';
import { waitFor } from '../../support/wait-for.ts';

const PATH = '/2021-11-15/functions/hello/response-streaming-invocations';
const MIB = 2 ** 20;

function answered(end?: FunctionEnd): InvocationResult {
  return {
    kind: 'Answered',
    stamp: '2026-11-01T00:00:00.000001Z',
    timings: { queued: 5, wake: 0, run: 900, start: 'running' },
    ...(end === undefined ? {} : { end }),
  };
}

const whole = answered({ outcome: 'Answered' });

function begin({ onHead }: Pick<Invocation, 'onHead'>): void {
  onHead({ status: 200, contentType: 'text/plain', streaming: true });
}

interface Told {
  text: string;
  readonly chunks: number;
  readonly end: { readonly ErrorCode?: string | undefined; readonly ErrorDetails?: string | undefined } | undefined;
}

type Input = Partial<ConstructorParameters<typeof InvokeWithResponseStreamCommand>[0]>;

function clientOf(url: string): LambdaClient {
  const client = new LambdaClient({
    endpoint: url,
    region: 'us-east-1',
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    maxAttempts: 1,
  });
  onTestFinished(() => client.destroy());
  return client;
}

/** All that the SDK has read of an answer. */
async function streamed(url: string, input: Input = {}, onChunk?: (text: string) => void): Promise<Told> {
  const command = new InvokeWithResponseStreamCommand({ FunctionName: 'hello', ...input });
  const answer = await clientOf(url).send(command);
  expect(answer).toMatchObject({ StatusCode: 200, ExecutedVersion: '$LATEST' });
  let text = '';
  let chunks = 0;
  let end: Told['end'];
  for await (const { PayloadChunk, InvokeComplete } of answer.EventStream ?? []) {
    if (PayloadChunk !== undefined) {
      const chunk = Buffer.from(PayloadChunk.Payload ?? []).toString();
      chunks += 1;
      text += chunk;
      onChunk?.(chunk);
    }
    end ??= InvokeComplete;
  }
  return { text, chunks, end };
}

/** A gateway and the agent's own server, with a fleet that does what it is told. */
async function lab(gateway: AgentServerLabOptions['gateway'] = {}) {
  const fleet = fakeFleet();
  fleet.show(viewFixture());
  const made = await agentServerLab({ fleet, gateway });
  return Object.assign(made, { fleet });
}

describe('an answer that its function streams', () => {
  it('comes to the caller as it is written', async () => {
    const { fleet, url } = await lab();
    const read = Promise.withResolvers<void>();
    fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from('first '));
      await read.promise;
      invocation.onChunk(Buffer.from('second'));
      return whole;
    });
    const told = await streamed(url, { Payload: Buffer.from('{}') }, () => read.resolve());
    expect(told).toEqual({ text: 'first second', chunks: 2, end: {} });
  });

  it('is an event stream with the headers of Lambda', async () => {
    const { fleet, url } = await lab();
    fleet.onInvoke(async (invocation) => {
      begin(invocation);
      return whole;
    });
    const trace = 'Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:ab:0';
    const answer = await fetch(`${url}${PATH}`, { method: 'POST', headers: { 'x-amzn-trace-id': trace } });
    await answer.arrayBuffer();
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'content-type': 'application/vnd.amazon.eventstream',
      'x-amz-executed-version': '$LATEST',
      'x-amzn-requestid': expect.stringMatching(/^[0-9a-f-]{36}$/),
      'x-amzn-trace-id': trace,
    });
  });

  it('goes on after its payload was of the largest size', async () => {
    const { fleet, url } = await lab();
    fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from(String(invocation.payload.length)));
      return whole;
    });
    const payload = JSON.stringify('x'.repeat(6 * MIB - 2));
    expect((await streamed(url, { Payload: Buffer.from(payload) })).text).toBe(String(payload.length));
  });

  it.each([
    [
      'raises',
      { outcome: 'Error', errorType: 'E', lateError: '{"errorType":"E"}' },
      '{"errorType":"E"}',
      'function_error',
    ],
    [
      'is out of time',
      { outcome: 'Timeout', errorType: 'Sandbox.Timedout', lateError: '{"errorType":"Sandbox.Timedout"}' },
      '{"errorType":"Sandbox.Timedout"}',
      'timed_out',
    ],
    ['exits', { outcome: 'Exited', errorType: 'Runtime.ExitError' }, '"errorType":"Runtime.ExitError"', 'exited'],
  ] as const)('ends with the error where the function %s in the middle', async (_what, end, details, outcome) => {
    const { fleet, url, gateway } = await lab();
    fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from('half'));
      return answered(end);
    });
    const told = await streamed(url);
    expect(told).toMatchObject({
      text: 'half',
      end: { ErrorCode: 'Unhandled', ErrorDetails: expect.stringContaining(details) },
    });
    const { text } = await gateway.metrics.page();
    expect(text).toContain(`esb_gateway_calls_total{function="hello",outcome="${outcome}",start="warm"} 1`);
    expect(text).toContain('esb_gateway_requests_total{operation="InvokeWithResponseStream",status="200"} 1');
  });

  it('is the end alone, with the error of Lambda, where the function cannot be initialized', async () => {
    const { fleet, url } = await lab();
    const body = '{"errorType":"Function.Broken","errorMessage":"no wand"}';
    const fault = { errorType: 'Function.Broken', message: 'no wand', body };
    fleet.onInvoke(async () => ({ kind: 'Refused', reason: 'StartFailed', message: 'no wand', fault }));
    expect(await streamed(url)).toEqual({
      text: '',
      chunks: 0,
      end: { ErrorCode: 'Unhandled', ErrorDetails: body },
    });
  });

  it('goes on from the byte that came last where the agent is lost in the middle', async () => {
    const made = await lab();
    const { fleet, url } = made;
    const part = Buffer.alloc(40_000, 'x');
    const arrived = Promise.withResolvers<number>();
    fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(part);
      await invocation.arrival?.().next();
      arrived.resolve(invocation.arrival?.().bytes ?? 0);
      return await new Promise(() => undefined);
    });
    const asked: number[] = [];
    fleet.onRecover(async (recovery) => {
      begin(recovery);
      asked.push(recovery.from, recovery.arrival?.().bytes ?? -1);
      recovery.onChunk(part);
      await recovery.arrival?.().next();
      asked.push(recovery.arrival?.().bytes ?? -1);
      recovery.onChunk(Buffer.from('end'));
      return whole;
    });
    const told = streamed(url);
    expect(await arrived.promise).toBe(40_000);
    await made.server.close();
    await made.startAgent();
    expect(await told).toMatchObject({ text: `${'x'.repeat(80_000)}end`, end: {} });
    expect(asked).toEqual([40_000, 40_000, 80_000]);
  });

  it('goes on where its caller has read what was on its way when the agent was lost', async () => {
    const made = await lab();
    const { fleet, url } = made;
    const total = 24 * MIB;
    let sent = 0;
    const write = async (call: Pick<Invocation, 'onHead' | 'onChunk' | 'room' | 'signal'>): Promise<void> => {
      begin(call);
      for (; sent < total && !call.signal.aborted; sent += MIB / 16) {
        call.onChunk(Buffer.alloc(MIB / 16, 'x'));
        await call.room?.();
      }
    };
    fleet.onInvoke(async (invocation) => {
      await write(invocation);
      return await new Promise(() => undefined);
    });
    fleet.onRecover(async (recovery) => {
      sent = recovery.from;
      await write(recovery);
      return whole;
    });
    const answer = await fetch(`${url}${PATH}`, { method: 'POST' });
    let still = 0;
    let last = -1;
    await waitFor(
      'the function to be held up',
      () => {
        still = sent === last ? still + 1 : 0;
        last = sent;
        return still === 10;
      },
      { everyMs: 100 },
    );
    expect(sent).toBeLessThan(total);
    await made.server.close();
    await made.startAgent();
    expect((await answer.arrayBuffer()).byteLength).toBeGreaterThan(total);
  }, 20_000);

  it('ends with an unknown outcome where the agent is lost in the middle, and does not come back', async () => {
    const { fleet, url, server } = await lab({ maxWaitMs: 300 });
    fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from('half'));
      return await new Promise(() => undefined);
    });
    const told = await streamed(url, {}, () => void server.close());
    expect(told).toMatchObject({
      text: 'half',
      end: { ErrorCode: 'Unhandled', ErrorDetails: expect.stringContaining('Esb.OutcomeUnknown') },
    });
  });

  it('is given up with its caller', async () => {
    const { fleet, url } = await lab();
    const begun = Promise.withResolvers<AbortSignal>();
    fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from('half'));
      begun.resolve(invocation.signal);
      return await new Promise(() => undefined);
    });
    const hangUp = new AbortController();
    const answer = await fetch(`${url}${PATH}`, { method: 'POST', signal: hangUp.signal });
    const signal = await begun.promise;
    hangUp.abort();
    await answer.arrayBuffer().catch(() => undefined);
    await waitFor('the agent to know', () => signal.aborted, { everyMs: 5 });
  });

  it('waits for a caller that does not read, holds little meanwhile, and loses nothing', async () => {
    const { fleet, url, gateway } = await lab();
    const total = 48 * MIB;
    let sent = 0;
    fleet.onInvoke(async (invocation) => {
      begin(invocation);
      for (; sent < total; sent += MIB / 16) {
        invocation.onChunk(Buffer.alloc(MIB / 16, 'x'));
        await invocation.room?.();
      }
      return whole;
    });
    const answer = await fetch(`${url}${PATH}`, { method: 'POST' });
    // Longer than an answer that is not streamed may wait.
    await heldUp('the function to be held up for three seconds', () => sent, 30);
    expect(sent).toBeLessThan(total / 2);
    const held = /^esb_gateway_held_bytes (\d+)$/m.exec((await gateway.metrics.page()).text)?.[1];
    expect(Number(held)).toBeGreaterThan(0);
    expect(Number(held)).toBeLessThan(MIB);
    const bytes = (await answer.arrayBuffer()).byteLength;
    expect(sent).toBe(total);
    expect(bytes).toBeGreaterThan(total);
    await waitFor('nothing to be held', async () =>
      /^esb_gateway_held_bytes 0$/m.test((await gateway.metrics.page()).text),
    );
  }, 30_000);
});

describe('an answer that its function does not stream', () => {
  it.each([
    ['an answer', '{"a":1}', undefined, '{"a":1}', {}],
    [
      'an answer whose end is known',
      '{"errorType":"E","errorMessage":"m"}',
      { outcome: 'Answered' },
      '{"errorType":"E","errorMessage":"m"}',
      {},
    ],
    ['nothing', '', { outcome: 'Answered' }, '', {}],
    [
      'an error',
      '{"errorType":"E"}',
      { outcome: 'Error' },
      '',
      { ErrorCode: 'Unhandled', ErrorDetails: '{"errorType":"E"}' },
    ],
    [
      'an error of the emulator',
      '{"errorType":"E","errorMessage":"m"}',
      undefined,
      '',
      { ErrorCode: 'Unhandled', ErrorDetails: '{"errorType":"E","errorMessage":"m"}' },
    ],
  ] as const)('comes whole: %s', async (_what, body, end, text, complete) => {
    const { fleet, url } = await lab();
    fleet.onInvoke(async ({ onHead, onChunk }) => {
      onHead({ status: 200, contentType: '' });
      onChunk(Buffer.from(body));
      return answered(end);
    });
    expect(await streamed(url)).toEqual({ text, chunks: text === '' ? 0 : 1, end: complete });
  });

  it('may be one of 6 MB', async () => {
    const { fleet, url } = await lab();
    const body = JSON.stringify('x'.repeat(6 * MIB - 2));
    fleet.onInvoke(async ({ onHead, onChunk }) => {
      onHead({ status: 200, contentType: '' });
      for (let at = 0; at < body.length; at += MIB / 4) {
        onChunk(Buffer.from(body.slice(at, at + MIB / 4)));
      }
      return whole;
    });
    expect((await streamed(url)).text === body).toBe(true);
  });
});

describe('a streamed call', () => {
  it('of type DryRun runs nothing, and of type Event is refused', async () => {
    const { url, fleet } = await lab();
    let runs = 0;
    fleet.onInvoke(async () => {
      runs += 1;
      return whole;
    });
    const send = (type: string) =>
      fetch(`${url}${PATH}`, { method: 'POST', headers: { 'x-amz-invocation-type': type } });
    expect((await send('DryRun')).status).toBe(204);
    const event = await send('Event');
    expect(event.status).toBe(400);
    expect(await event.json()).toMatchObject({ message: expect.stringContaining('[DryRun, RequestResponse]') });
    expect(runs).toBe(0);
  });

  it('that runs nowhere is refused as any other', async () => {
    const { url, fleet } = await lab();
    await expect(streamed(url, { FunctionName: 'nobody' })).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
    });
    await expect(streamed(url, { Payload: Buffer.from('{') })).rejects.toMatchObject({
      name: 'InvalidRequestContentException',
    });
    fleet.onInvoke(async () => ({ kind: 'Refused', reason: 'PausedByOwner', message: 'rests' }));
    await expect(streamed(url)).rejects.toMatchObject({ name: 'ResourceConflictException' });
  });
});
