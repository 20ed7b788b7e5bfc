import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import type { FunctionEnd, Invocation, InvocationResult } from '../../../src/agent/model/invocation.ts';
import type { LambdaFunctionSpecUrl } from '../../../src/api/lambda-function.ts';
import { agentServerLab } from '../../support/agent-server-lab.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import { heldUp } from '../../support/held-up.ts';
import { converse } from '../../support/raw-http.ts';
import { callUrl, HELLO, type UrlCall, urlSettings } from '../../support/url-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const MIB = 2 ** 20;
const WITH_HEAD = 'application/vnd.awslambda.http-integration-response';
const HEAD = `{"statusCode":201,"headers":{"Content-Type":"text/plain","X-A":"b"},"cookies":["c=d"]}${'\0'.repeat(8)}`;

function answered(
  end: FunctionEnd = { outcome: 'Answered' },
): Extract<InvocationResult, { readonly kind: 'Answered' }> {
  const timings = { queued: 5, wake: 0, run: 900, start: 'running' } as const;
  return { kind: 'Answered', stamp: '2026-11-01T00:00:00.000001Z', timings, end };
}

function begin({ onHead }: Pick<Invocation, 'onHead'>, contentType = WITH_HEAD): void {
  onHead({ status: 200, contentType, streaming: true });
}

/** A gateway and the agent's own server, with a fleet that does what it is told. */
async function lab(invokeMode: LambdaFunctionSpecUrl['invokeMode'] = 'RESPONSE_STREAM') {
  const fleet = fakeFleet();
  fleet.show(viewFixture());
  const made = await agentServerLab({ fleet, gateway: { urls: urlSettings() } });
  made.functions.put(functionFixture({ spec: { url: { authType: 'NONE', invokeMode } } }));
  const port = await made.gateway.listenForUrls({ host: '127.0.0.1', port: 0 });
  return { ...made, fleet, port, callUrl: (call?: UrlCall) => callUrl(port, call) };
}

describe('a URL whose answers stream', () => {
  it('sends status, headers and cookies first, and the body as it is written', async () => {
    const { fleet, ...made } = await lab();
    const read = Promise.withResolvers<void>();
    fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from(HEAD.slice(0, 20)));
      invocation.onChunk(Buffer.from(`${HEAD.slice(20)}first `));
      await read.promise;
      invocation.onChunk(Buffer.from('second'));
      return answered();
    });
    const reply = await made.callUrl({ onChunk: () => read.resolve() });
    expect(reply).toMatchObject({
      status: 201,
      body: 'first second',
      headers: { 'content-type': 'text/plain', 'x-a': 'b', 'set-cookie': ['c=d'], 'transfer-encoding': 'chunked' },
    });
    const { text } = await made.gateway.metrics.page();
    expect(text).toContain('esb_gateway_calls_total{function="hello",outcome="ok",start="warm"} 1');
  });

  it('sends status and headers while there is no body yet', async () => {
    const { fleet, ...made } = await lab();
    const read = Promise.withResolvers<void>();
    fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from(HEAD));
      await read.promise;
      invocation.onChunk(Buffer.from('late'));
      return answered();
    });
    expect(await made.callUrl({ onHead: () => read.resolve() })).toMatchObject({ status: 201, body: 'late' });
  });

  it('has status 200 and the type of the runtime without them', async () => {
    const made = await lab();
    made.fleet.onInvoke(async (invocation) => {
      begin(invocation, 'text/event-stream');
      invocation.onChunk(Buffer.from('data: 1\n\n'));
      return answered();
    });
    expect(await made.callUrl()).toMatchObject({
      status: 200,
      body: 'data: 1\n\n',
      headers: { 'content-type': 'text/event-stream' },
    });
  });

  it('is given up with a client that leaves in the middle', async () => {
    const made = await lab();
    const begun = Promise.withResolvers<AbortSignal>();
    made.fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from(`${HEAD}half`));
      begun.resolve(invocation.signal);
      await once(invocation.signal, 'abort');
      return answered();
    });
    const hangUp = new AbortController();
    const reply = made.callUrl({ signal: hangUp.signal, onChunk: () => hangUp.abort() });
    await expect(reply).rejects.toThrow('aborted');
    const signal = await begun.promise;
    await waitFor('the agent to know', () => signal.aborted, { everyMs: 5 });
  });

  it.each([
    ['HEAD', 200, { 'x-a': 'b' }],
    ['GET', 204, { 'x-a': 'b' }],
  ])(
    'has no body for %s with status %i, and the connection serves the next request',
    async (method, status, headers) => {
      const made = await lab();
      made.fleet.onInvoke(async (invocation) => {
        begin(invocation);
        invocation.onChunk(Buffer.from(HEAD.replace('201', String(status))));
        invocation.onChunk(Buffer.from('body'));
        return answered();
      });
      const request = Buffer.from(`${method} / HTTP/1.1\r\nHost: ${HELLO}\r\n\r\n`);
      const conversation = { pieces: [request, request], gapMs: 0, ending: 'Wait' } as const;
      const { answers, rest } = await converse(made.port, conversation, { answers: 2, quietMs: 10_000 });
      expect(answers).toMatchObject([
        { status, body: '', headers },
        { status, body: '', headers },
      ]);
      expect(rest).toBe('');
    },
  );

  it('is cut where the function fails in the middle', async () => {
    const made = await lab();
    made.fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from(`${HEAD}half`));
      return answered({ outcome: 'Error', errorType: 'E', lateError: '{"errorType":"E"}' });
    });
    await expect(made.callUrl()).rejects.toThrow('aborted');
  });

  it.each([
    ['ends before its head is whole', HEAD.slice(0, 20)],
    ['has a head that makes no sense', `{"statusCode":7}${'\0'.repeat(8)}body`],
    ['has a head that does not end', 'x'.repeat(80 * 1024)],
  ])('is 502 where the answer %s', async (_what, text) => {
    const made = await lab();
    made.fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from(text));
      return answered();
    });
    expect(await made.callUrl()).toMatchObject({ status: 502, body: 'Internal Server Error' });
  });

  it('is 504 where the time is over before the head is whole', async () => {
    const made = await lab();
    made.fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from(HEAD.slice(0, 20)));
      const { stamp, timings } = answered();
      return { kind: 'TimedOut', message: 'over', stamp, timings };
    });
    expect(await made.callUrl()).toMatchObject({ status: 504, body: '{"Message":"Gateway Timeout"}' });
  });

  it('is as of any URL where the function does not stream', async () => {
    const made = await lab();
    made.fleet.onInvoke(async (invocation) => {
      invocation.onHead({ status: 200, contentType: 'application/json', streaming: false });
      invocation.onChunk(Buffer.from('{"statusCode":202,"body":"whole"}'));
      return answered();
    });
    expect(await made.callUrl()).toMatchObject({ status: 202, body: 'whole' });
  });

  it('waits for a client that does not read, and holds little meanwhile', async () => {
    const made = await lab();
    const total = 32 * MIB;
    let sent = 0;
    made.fleet.onInvoke(async (invocation) => {
      begin(invocation, 'application/octet-stream');
      for (; sent < total; sent += MIB / 16) {
        invocation.onChunk(Buffer.alloc(MIB / 16, 'x'));
        await invocation.room?.();
      }
      return answered();
    });
    const reading = Promise.withResolvers<void>();
    const answer = made.callUrl({ readAfter: reading.promise });
    await heldUp('the function to be held up', () => sent, 5);
    expect(sent).toBeLessThan(total / 2);
    reading.resolve();
    expect((await answer).body.length).toBe(total);
  }, 40_000);
});

describe('a URL whose answers are whole', () => {
  it('gathers those that stream, with their head', async () => {
    const made = await lab('BUFFERED');
    made.fleet.onInvoke(async (invocation) => {
      begin(invocation);
      invocation.onChunk(Buffer.from(`${HEAD}one `));
      invocation.onChunk(Buffer.from('two'));
      return answered();
    });
    expect(await made.callUrl()).toMatchObject({
      status: 201,
      body: 'one two',
      headers: { 'content-length': '7', 'x-a': 'b', 'set-cookie': ['c=d'] },
    });
  });
});
