import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { InvokeWithResponseStreamCommand, LambdaClient } from '@aws-sdk/client-lambda';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { buildContext } from '../../../images/layer.ts';
import { ensureShapeImage } from '../../../images/shape-image.ts';
import { shapes } from '../../../images/shapes.ts';
import { type ConformanceLab, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered, type CallerOptions, refused } from '../../../support/lambda-caller.ts';
import { patience } from '../../../support/patience.ts';
import { streamingRuntime } from '../../../support/streaming-runtime.ts';
import { layoutImage } from '../../../support/test-image.ts';
import { toolsFolder } from '../../../support/tools.ts';
import { waitFor } from '../../../support/wait-for.ts';

/**
 * A runtime that streams what its event asks for: `parts`, with `pause` seconds after each; `bytes` in pieces of 64 KiB,
 * each of its own where they are to be `mixed`; `error` in the trailers; an `exit` in the middle.
 */
const RUNTIME = streamingRuntime(
  {
    'Content-Type': 'text/plain',
    Trailer: 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body',
  },
  `
for part in event.get("parts", []):
    send(part.encode())
    print("sent", part, flush=True)
    time.sleep(event.get("pause", 0))
for piece in range(event.get("bytes", 0) // 65536):
    send(hashlib.shake_256(b"%d" % piece).digest(65536) if "mixed" in event else b"x" * 65536)
    print("piece", piece, flush=True)
if "exit" in event:
    os._exit(event["exit"])
if "error" in event:
    body = base64.b64encode(json.dumps(event["error"]).encode())
    end += b"Lambda-Runtime-Function-Error-Type: " + event["error"]["errorType"].encode() + b"\\r\\n"
    end += b"Lambda-Runtime-Function-Error-Body: " + body + b"\\r\\n"
`,
);

/**
 * A caller that reads nothing before its input ends, and then everything. Its connection has a receive buffer and
 * segments as over a network.
 */
const SLOW_CALLER = `
import socket, sys
port, event = sys.argv[1:]
caller = socket.socket()
caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
caller.connect(("127.0.0.1", int(port)))
head = f"POST /2021-11-15/functions/streams/response-streaming-invocations HTTP/1.1\\r\\nHost: gateway\\r\\n"
caller.sendall(f"{head}Connection: close\\r\\nContent-Length: {len(event)}\\r\\n\\r\\n{event}".encode())
sys.stdin.read()
while part := caller.recv(65536):
    sys.stdout.buffer.write(part)
`;

let lab: ConformanceLab;

beforeAll(async () => {
  lab = await startConformanceLab();
  await lab.apply('streams', {
    command: ['python3', '-c', RUNTIME],
    args: [],
    timeoutSeconds: 6 * patience(),
  });
  await lab.apply('long', { command: ['python3', '-c', RUNTIME], args: [], timeoutSeconds: 300 });
  const node = shapes.find(({ name }) => name === 'node');
  if (node === undefined) {
    throw new Error('there is no image with the client for Node.js');
  }
  const { layout } = await ensureShapeImage(node, buildContext(toolsFolder()));
  const image = lab.agentLab.lab.registry.put('node:latest', await layoutImage(layout));
  await lab.apply('node', { image, args: ['index.streams'], timeoutSeconds: 20 });
  await lab.apply('whole', { functionName: 'whole' });
});

afterAll(() => lab?.close());

/** Most bytes of a streamed answer. */
const LARGEST = 200 * 2 ** 20;

/** SHA-256 of the mixed pieces of the longest answer. */
function mixedDigest(): string {
  const whole = createHash('sha256');
  for (let piece = 0; piece < LARGEST / 65_536; piece += 1) {
    whole.update(createHash('shake256', { outputLength: 65_536 }).update(String(piece)).digest());
  }
  return whole.digest('hex');
}

const part = (Payload: string) => ({ PayloadChunk: { Payload } });

describe.each(['javaScript', 'boto3'] as const)('InvokeWithResponseStream by %s', (which) => {
  const call = (
    name: string,
    event: unknown,
    more: Readonly<Record<string, unknown>> = {},
    options: CallerOptions = {},
  ) =>
    lab.callers[which].call(
      'InvokeWithResponseStream',
      { FunctionName: name, Payload: JSON.stringify(event), ...more },
      options,
    );
  /** The text of all chunks, and the end. */
  const told = async (...[name, event, more]: readonly [string, unknown, Readonly<Record<string, unknown>>?]) => {
    const { output, headers } = answered(await call(name, event, more));
    expect(output).toMatchObject({ StatusCode: 200, ExecutedVersion: '$LATEST' });
    expect(headers['content-type']).toBe('application/vnd.amazon.eventstream');
    const events = output.EventStream as readonly Readonly<Record<string, Readonly<Record<string, string>>>>[];
    return {
      text: events.map(({ PayloadChunk }) => PayloadChunk?.Payload ?? '').join(''),
      end: events.at(-1)?.InvokeComplete,
      events,
    };
  };

  it('brings the parts of an answer as they are written', async () => {
    const { events } = await told('streams', { parts: ['one', 'two', 'ü'], pause: 0.3 });
    expect(events).toEqual([part('one'), part('two'), part('ü'), { InvokeComplete: {} }]);
  });

  it('brings the log at the end', async () => {
    const { end } = await told('streams', { parts: ['logged'] }, { LogType: 'Tail' });
    expect(Buffer.from(end?.LogResult ?? '', 'base64').toString()).toContain('sent logged');
  });

  it('brings 200 MB as the function wrote them', async () => {
    const event = { bytes: LARGEST, mixed: true };
    const { output } = answered(await call('long', event, {}, { digest: true }));
    expect(output.EventStream).toEqual({ size: LARGEST, sha256: mixedDigest(), end: {} });
  });

  it('says at the end that the function failed in the middle', async () => {
    const error = { errorType: 'Late', errorMessage: 'out of cheese' };
    const failed = await told('streams', { parts: ['half'], error });
    expect(failed).toMatchObject({ text: 'half', end: { ErrorCode: 'Unhandled' } });
    expect(JSON.parse(failed.end?.ErrorDetails ?? '')).toEqual(error);
    const exited = await told('streams', { parts: ['half'], exit: 3 });
    expect(exited).toMatchObject({ text: 'half', end: { ErrorCode: 'Unhandled' } });
    expect(JSON.parse(exited.end?.ErrorDetails ?? '')).toMatchObject({
      errorType: 'Runtime.ExitError',
      errorMessage: expect.stringMatching(/^RequestId: \S+ Error: Runtime exited with error: exit status 3$/),
    });
    const late = await told('streams', { parts: ['half'], pause: 60 * patience() });
    expect(late).toMatchObject({ text: 'half', end: { ErrorCode: 'Unhandled' } });
    expect(JSON.parse(late.end?.ErrorDetails ?? '')).toMatchObject({ errorType: 'Sandbox.Timedout' });
    expect((await told('streams', { parts: ['again'] })).text).toBe('again');
  });

  it("brings what a function of AWS's client for Node.js streams, and that it failed in the middle", async () => {
    const { events } = await told('node', { parts: ['one', 'two'], pause: 0.3 });
    expect(events).toEqual([part('one'), part('two'), { InvokeComplete: {} }]);
    const failed = await told('node', { parts: ['half'], pause: 0.3, raise: 'out of cheese' });
    expect(failed).toMatchObject({ text: 'half', end: { ErrorCode: 'Unhandled' } });
    expect(JSON.parse(failed.end?.ErrorDetails ?? '')).toMatchObject({
      errorType: 'Error',
      errorMessage: 'out of cheese',
    });
  });

  it('brings the answer of a function that does not stream in one piece, and its error at the end', async () => {
    const { events } = await told('whole', { echo: 1 });
    expect(events).toHaveLength(2);
    expect(JSON.parse(events[0]?.PayloadChunk?.Payload ?? '')).toMatchObject({ message: 'hello from whole', echo: 1 });
    const raised = await told('whole', { raise: 'out of cheese' });
    expect(raised).toMatchObject({ text: '', end: { ErrorCode: 'Unhandled' } });
    expect(JSON.parse(raised.end?.ErrorDetails ?? '')).toMatchObject({ errorType: 'ValueError' });
  });

  it('is not needed by a caller of a function that streams: Invoke brings the answer whole, or its error', async () => {
    const invoke = async (event: unknown) =>
      answered(await lab.callers[which].call('Invoke', { FunctionName: 'streams', Payload: JSON.stringify(event) }));
    const { output, headers } = await invoke({ parts: ['one', 'two'] });
    expect(output).toMatchObject({ Payload: 'onetwo' });
    expect(output).not.toHaveProperty('FunctionError');
    expect(headers['content-type']).toBe('text/plain');
    const error = { errorType: 'Late', errorMessage: 'out of cheese' };
    const failed = await invoke({ parts: ['half'], error });
    expect(failed.output.FunctionError).toBe('Unhandled');
    expect(JSON.parse(String(failed.output.Payload))).toEqual(error);
    const large = await invoke({ bytes: 8 * 2 ** 20 });
    expect(JSON.parse(String(large.output.Payload))).toMatchObject({ errorType: 'Function.ResponseSizeTooLarge' });
  });

  it('is refused as any call is, and runs nothing as a DryRun', async () => {
    expect(refused(await call('nobody', {}))).toMatchObject({ error: 'ResourceNotFoundException', modeled: true });
    expect(refused(await call('whole', {}, { Qualifier: 'blue' }))).toMatchObject({ httpStatus: 404, modeled: true });
    const dry = answered(await call('whole', {}, { InvocationType: 'DryRun' }));
    expect(dry.httpStatus).toBe(204);
  });
});

describe('a caller of a streamed answer', () => {
  function client(): LambdaClient {
    const made = new LambdaClient({
      endpoint: lab.gateway.url,
      region: 'us-east-1',
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
      maxAttempts: 1,
    });
    onTestFinished(() => made.destroy());
    return made;
  }
  const stream = (event: unknown, signal?: AbortSignal) =>
    client().send(
      new InvokeWithResponseStreamCommand({ FunctionName: 'streams', Payload: JSON.stringify(event) }),
      signal === undefined ? {} : { abortSignal: signal },
    );
  const lines = async (start: string): Promise<number> =>
    (await lab.logged('streams', '')).split('\n').filter((line) => line.startsWith(start)).length;

  it('gets the first part long before the last is written', async () => {
    const began = performance.now();
    const times: number[] = [];
    for await (const event of (await stream({ parts: ['a', 'b'], pause: 4 })).EventStream ?? []) {
      if (event.PayloadChunk !== undefined) {
        times.push(performance.now() - began);
      }
    }
    expect(times).toHaveLength(2);
    // An answer that is held back has both at once; a busy machine delays the first.
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(1_500);
  });

  it('that does not read holds up the function until its time is over, and no longer', async () => {
    const [pieces, ends] = [await lines('piece'), await lines('END')];
    const { agentLab, gateway } = lab;
    const event = JSON.stringify({ bytes: 190 * 2 ** 20 });
    const inNetns = [`--net=${agentLab.lab.netnsPath}`, 'python3', '-c', SLOW_CALLER];
    const caller = spawn('nsenter', [...inNetns, String(gateway.port), event]);
    onTestFinished(() => void caller.kill('SIGKILL'));
    const answer = buffer(caller.stdout);
    await waitFor('the end of the call', async () => (await lines('END')) > ends);
    // Two connections whose sender is another's process: the kernel takes for each what it takes for any.
    const sendBuffer = Number((await readFile('/proc/sys/net/ipv4/tcp_wmem', 'utf8')).split(/\s+/u)[2]);
    expect(((await lines('piece')) - pieces) * 65_536).toBeLessThan(2 * sendBuffer + 2 ** 20);
    caller.stdin.end();
    expect((await answer).toString('latin1')).toContain('Sandbox.Timedout');
  });

  it('that leaves in the middle leaves the worker to the next call', async () => {
    const leaving = new AbortController();
    const events = (await stream({ parts: ['first', 'second'], pause: 1 }, leaving.signal)).EventStream ?? [];
    for await (const event of events) {
      if (event.PayloadChunk !== undefined) {
        leaving.abort();
        break;
      }
    }
    await waitFor('the worker to be free', async () => {
      const texts: string[] = [];
      for await (const event of (await stream({ parts: ['next'] })).EventStream ?? []) {
        texts.push(Buffer.from(event.PayloadChunk?.Payload ?? []).toString());
      }
      return texts.join('') === 'next';
    });
  });
});
