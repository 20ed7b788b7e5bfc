import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { EndpointGuard } from '../../../../src/gateway/events/endpoint-guard.ts';
import {
  createPostRecord,
  type EndedEvent,
  eventRecord,
  recordFor,
} from '../../../../src/gateway/events/event-destination.ts';
import {
  DEFAULT_EVENT_SETTINGS,
  type EventTarget,
  NO_PROGRESS,
  type StoredEvent,
} from '../../../../src/gateway/events/event-store.ts';

const NOW = Date.parse('2026-11-01T00:00:00.123Z');

function event(changes: Partial<StoredEvent> = {}): StoredEvent {
  return {
    requestId: 'e4b46cbf',
    target: { kind: 'Function', functionName: 'f' },
    payload: Buffer.from('{"big":12345678901234567890, "b":1,"a":2}'),
    traceId: 'Root=1',
    traceParent: '',
    acceptedAt: NOW - 5_000,
    hops: 0,
    settings: DEFAULT_EVENT_SETTINGS,
    progress: NO_PROGRESS,
    ...changes,
  };
}

function failed(changes: Partial<EndedEvent> = {}): EndedEvent {
  return {
    event: event(),
    condition: 'RetriesExhausted',
    progress: { failures: 3, invocations: 3, setbacks: 0, misses: 0 },
    response: {
      body: Buffer.from('{"errorMessage":"m","errorType":"E"}'),
      functionError: true,
      executedVersion: '$LATEST',
    },
    ...changes,
  };
}

describe('eventRecord', () => {
  it('has the shape of the records of Lambda, with the payloads letter by letter', () => {
    expect(eventRecord(failed(), NOW).toString()).toBe(
      '{"version":"1.0","timestamp":"2026-11-01T00:00:00.123Z","requestContext":{"requestId":"e4b46cbf",' +
        '"functionArn":"arn:aws:lambda:us-east-1:012345678912:function:f:$LATEST","condition":"RetriesExhausted",' +
        '"approximateInvokeCount":3},"requestPayload":{"big":12345678901234567890, "b":1,"a":2},' +
        '"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},' +
        '"responsePayload":{"errorMessage":"m","errorType":"E"}}',
    );
  });

  it('tells the answer of an event that succeeded, as Lambda does', () => {
    const progress = { failures: 1, invocations: 2, setbacks: 0, misses: 0 };
    const body = Buffer.from('{"big":12345678901234567890}');
    const response = { body, functionError: false, executedVersion: '12' };
    expect(eventRecord(failed({ condition: 'Success', progress, response }), NOW).toString()).toBe(
      '{"version":"1.0","timestamp":"2026-11-01T00:00:00.123Z","requestContext":{"requestId":"e4b46cbf",' +
        '"functionArn":"arn:aws:lambda:us-east-1:012345678912:function:f:$LATEST","condition":"Success",' +
        '"approximateInvokeCount":2},"requestPayload":{"big":12345678901234567890, "b":1,"a":2},' +
        '"responseContext":{"statusCode":200,"executedVersion":"12"},' +
        '"responsePayload":{"big":12345678901234567890}}',
    );
  });

  it('says nothing of an answer that there was not', () => {
    const record = JSON.parse(
      eventRecord(failed({ condition: 'EventAgeExceeded', response: undefined }), NOW).toString(),
    ) as object;
    expect(record).toMatchObject({ requestContext: { condition: 'EventAgeExceeded' } });
    expect(Object.keys(record)).toEqual(['version', 'timestamp', 'requestContext', 'requestPayload']);
  });

  it.each([
    ['text', Buffer.from('Task timed out'), '"Task timed out"'],
    ['bytes that are no UTF-8', Buffer.from([0x22, 0xff, 0x22]), '"\uFFFD"'],
    ['nothing', Buffer.alloc(0), '""'],
  ])('is JSON also when the answer is %s', (_what, body, expected) => {
    const record = eventRecord(
      failed({ response: { body, functionError: true, executedVersion: '1' } }),
      NOW,
    ).toString();
    expect(record).toContain(`"responsePayload":${expected}}`);
    JSON.parse(record);
  });

  it('holds the largest payload of an event, and leaves out an answer that would make it larger than 1 MiB and 64 KiB', () => {
    const keys = (record: Buffer): readonly string[] => Object.keys(JSON.parse(record.toString()) as object);
    const largest = event({ payload: Buffer.from(`"${'x'.repeat(2 ** 20 - 2)}"`) });
    const answer = (length: number): NonNullable<EndedEvent['response']> => ({
      body: Buffer.from(`"${'x'.repeat(length)}"`),
      functionError: true,
      executedVersion: '$LATEST',
    });
    const fits = eventRecord(failed({ response: answer(2 ** 20) }), NOW);
    expect(keys(fits)).toContain('responsePayload');
    const large = eventRecord(failed({ event: largest, response: answer(2 ** 20) }), NOW);
    expect(keys(large)).toEqual(['version', 'timestamp', 'requestContext', 'requestPayload', 'responseContext']);
    const six = eventRecord(failed({ response: answer(6 * 2 ** 20) }), NOW);
    expect(keys(six)).not.toContain('responsePayload');
    for (const record of [fits, large, six]) {
      expect(record.length).toBeLessThanOrEqual((1024 + 64) * 1024);
    }
  });

  it('takes no more of a full store than its envelope', () => {
    const full = event({ payload: Buffer.from(`"${'x'.repeat(10_000)}"`) });
    const body = Buffer.from(`"${'y'.repeat(20_000)}"`);
    const response = { body, functionError: true, executedVersion: '$LATEST' };
    const record = eventRecord(failed({ event: full, response }), NOW, 0);
    expect(JSON.parse(record.toString())).toHaveProperty('requestPayload');
    expect(JSON.parse(record.toString())).not.toHaveProperty('responsePayload');
    expect(record.length).toBeLessThan(full.payload.length + 8_192);
  });
});

describe('recordFor', () => {
  const letter = (onFailure: EventTarget | undefined, changes: Partial<StoredEvent> = {}) =>
    recordFor(
      failed({ event: event(changes) }),
      { ...DEFAULT_EVENT_SETTINGS, onFailure },
      (name) => (name === 'letters' ? { ...DEFAULT_EVENT_SETTINGS, maximumEventAgeSeconds: 60 } : undefined),
      'letter-1',
      NOW,
    );
  const url = 'http://letters.example/failed';

  it('is an event with a request id, an age and settings of its own', () => {
    expect(letter({ kind: 'Function', functionName: 'letters' })).toMatchObject({
      kind: 'Send',
      event: {
        requestId: 'letter-1',
        target: { kind: 'Function', functionName: 'letters' },
        acceptedAt: NOW,
        hops: 1,
        traceId: 'Root=1',
        settings: { maximumEventAgeSeconds: 60 },
        progress: NO_PROGRESS,
      },
    });
  });

  it('is none where the function names no destination, for a record itself, and after too many in a row', () => {
    expect(letter(undefined)).toEqual({ kind: 'Drop', reason: 'NoDestination' });
    expect(letter({ kind: 'Endpoint', url }, { target: { kind: 'Endpoint', url } })).toEqual({
      kind: 'Drop',
      reason: 'DestinationFailed',
    });
    expect(letter({ kind: 'Endpoint', url }, { hops: 16 })).toEqual({ kind: 'Drop', reason: 'TooManyHops' });
  });

  it('of a success goes where successes go alone, and is missed by none that names no place', () => {
    const settings = { ...DEFAULT_EVENT_SETTINGS, onFailure: { kind: 'Endpoint', url } as const };
    const next = (onSuccess: EventTarget | undefined, changes: Partial<StoredEvent> = {}) =>
      recordFor(
        failed({ event: event(changes), condition: 'Success' }),
        { ...settings, onSuccess },
        () => undefined,
        'r-1',
        NOW,
      );
    expect(next({ kind: 'Function', functionName: 'next' })).toMatchObject({
      kind: 'Send',
      event: { target: { kind: 'Function', functionName: 'next' }, hops: 1, requestId: 'r-1' },
    });
    expect(next(undefined)).toEqual({ kind: 'None' });
    // The record itself was taken.
    expect(next(undefined, { target: { kind: 'Endpoint', url } })).toEqual({ kind: 'None' });
    expect(next({ kind: 'Endpoint', url }, { hops: 16 })).toEqual({ kind: 'Drop', reason: 'TooManyHops' });
  });
});

describe('createPostRecord', () => {
  const to = (...allowed: readonly string[]) => createPostRecord(new EndpointGuard({ allowed }));
  const post = to('127.0.0.0/8', '::1');
  const signal = new AbortController().signal;

  async function endpoint(status: number, headers: Record<string, string> = {}) {
    const seen: { readonly method: string; readonly headers: object; readonly body: string }[] = [];
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        seen.push({
          method: request.method ?? '',
          headers: request.headers,
          body: Buffer.concat(chunks).toString(),
        });
        response.writeHead(status, headers).end('thanks');
      });
    });
    const listening = Promise.withResolvers<void>();
    server.listen(0, '127.0.0.1', () => listening.resolve());
    await listening.promise;
    onTestFinished(() => {
      server.close();
      server.closeAllConnections();
    });
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/failed?of=f`, seen };
  }

  it('posts the record as JSON, with its ids', async () => {
    const { url, seen } = await endpoint(202);
    await expect(post(url, event(), signal)).resolves.toEqual({ kind: 'Taken' });
    expect(seen).toEqual([
      {
        method: 'POST',
        headers: expect.objectContaining({
          'content-type': 'application/json',
          'x-amzn-requestid': 'e4b46cbf',
          'x-amzn-trace-id': 'Root=1',
        }),
        body: event().payload.toString(),
      },
    ]);
  });

  it.each([400, 404, 429, 500, 503])('takes status %i for a refusal', async (status) => {
    const { url } = await endpoint(status);
    await expect(post(url, event(), signal)).resolves.toEqual({
      kind: 'NotTaken',
      message: `the endpoint answered ${status}`,
    });
  });

  it('does not post to the machine of the gateway, by whatever name, unless a range lets it', {
    tags: ['T28'],
  }, async () => {
    const { url, seen } = await endpoint(200);
    const { port } = new URL(url);
    for (const host of [
      '127.0.0.1',
      'localhost',
      '127.1',
      '2130706433',
      '0x7f.0.0.1',
      '0.0.0.0',
      '[::ffff:127.0.0.1]',
      '[::1]',
      '[::]',
      '[64:ff9b::7f00:1]',
    ]) {
      await expect(to()(`http://${host}:${port}/`, event(), signal), host).resolves.toMatchObject({
        kind: 'NotTaken',
        message: expect.stringContaining('the gateway may not post to') as string,
      });
    }
    expect(seen).toEqual([]);
    await expect(to('localhost')(`http://localhost:${port}/`, event(), signal)).resolves.toMatchObject({
      kind: 'NotTaken',
    });
    expect(seen).toEqual([]);
    await expect(to('127.0.0.0/8')(`http://localhost:${port}/`, event(), signal)).resolves.toEqual({
      kind: 'Taken',
    });
  });

  it('follows no redirect', async () => {
    const target = await endpoint(200);
    const { url } = await endpoint(307, { location: target.url });
    await expect(post(url, event(), signal)).resolves.toMatchObject({ kind: 'NotTaken' });
    expect(target.seen).toEqual([]);
  });

  it('says why nobody was reached, and throws only when it is ended', async () => {
    await expect(post('http://127.0.0.1:1/', event(), signal)).resolves.toMatchObject({ kind: 'NotTaken' });
    await expect(post('http://127.0.0.1:1/', event(), AbortSignal.abort(new Error('over')))).rejects.toThrow('over');
  });
});
