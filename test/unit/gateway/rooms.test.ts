import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ListFunctionsCommand, ListVersionsByFunctionCommand, PublishVersionCommand } from '@aws-sdk/client-lambda';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { InvocationResult } from '../../../src/agent/model/invocation.ts';
import { parseIpRange } from '../../../src/common/net/ip-range.ts';
import { DEFAULT_LIMIT_FLAGS, gatewayLimits } from '../../../src/gateway/admission/gateway-limits.ts';
import { Room } from '../../../src/gateway/admission/room.ts';
import { agentServerLab } from '../../support/agent-server-lab.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import { type GatewayLab, gatewayLab } from '../../support/gateway-lab.ts';
import { inThreadEventStore } from '../../support/in-thread-event-store.ts';
import { openSocket } from '../../support/raw-http.ts';
import { HELLO, OPEN, urlLab } from '../../support/url-lab.ts';
import { waitFor } from '../../support/wait-for.ts';
import { writingLab } from '../../support/writing-lab.ts';

const MIB = 2 ** 20;
const HALF = 'x'.repeat(MIB / 2);

async function metric({ gateway }: Pick<GatewayLab, 'gateway'>, name: string): Promise<number> {
  const page = await gateway.metrics.page();
  return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(page.text)?.[1]);
}

const heldBytes = (lab: Pick<GatewayLab, 'gateway'>): Promise<number> => metric(lab, 'esb_gateway_held_bytes');

const limitsOf = (change: Partial<typeof DEFAULT_LIMIT_FLAGS>) => gatewayLimits({ ...DEFAULT_LIMIT_FLAGS, ...change });

async function connection({ url }: Pick<GatewayLab, 'url'>): Promise<Socket> {
  const socket = await openSocket(Number(new URL(url).port));
  onTestFinished(() => void socket.destroy());
  return socket;
}

/** Functions whose descriptions have half a mebibyte each. */
async function largeFunctions(lab: GatewayLab, count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    const name = `large-${String(index).padStart(2, '0')}`;
    await lab.addWorker(`${name}-0`, { functionName: name });
    const worker = lab.workers.cache.get({ namespace: 'default', name: `${name}-0` });
    if (worker !== undefined) {
      lab.workers.put({ ...worker, spec: { ...worker.spec, env: [{ name: 'A', value: HALF }] } });
    }
  }
}

describe('a function', () => {
  it('never has more of the requests of function URLs than is still free there', async () => {
    const limits = limitsOf({ maxRequests: 64 });
    const proxy = parseIpRange('127.0.0.1/32');
    const lab = await urlLab(OPEN, { gateway: { limits }, urls: { proxies: proxy === undefined ? [] : [proxy] } });
    const { spec, ...rest } = functionFixture({ name: 'other', spec: { url: OPEN } });
    lab.functions.put({ ...rest, spec });
    await lab.addWorker('other');
    const worker = lab.workers.cache.get({ namespace: 'default', name: 'hello' });
    if (worker !== undefined) {
      lab.workers.put({ ...worker, spec: { ...worker.spec, concurrency: { queueDepth: 10_000 } } });
    }
    lab.agent.onInvoke((call) => (call.request.payload.includes('other.default') ? call.answer('{}') : undefined));
    // 16 places for URLs, of which strangers from 16 addresses ask for all.
    const statuses: number[] = [];
    const abort = new AbortController();
    onTestFinished(() => abort.abort());
    for (let index = 0; index < 16; index += 1) {
      lab
        .callUrl({ headers: { 'x-forwarded-for': `198.51.100.${index}` }, signal: abort.signal })
        .then(({ status }) => statuses.push(status))
        .catch(() => undefined);
    }
    await waitFor('the others to be refused', () => statuses.length >= 8, { everyMs: 5 });
    expect(statuses.every((status) => status === 429)).toBe(true);
    const other = { host: 'other.default.fn.example.com', headers: { 'x-forwarded-for': '203.0.113.1' } };
    expect((await lab.callUrl(other)).status).toBe(200);
  });
});

describe('an answer that comes in', () => {
  it('is counted from its first byte on, until its client has read it', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const end = Promise.withResolvers<void>();
    lab.agent.onInvoke((call) => {
      call.begin([Buffer.alloc(MIB, 32), Buffer.alloc(MIB, 32)]);
      void end.promise.then(() => call.answer(''));
    });
    const answer = lab.invoke('hello');
    await waitFor('the beginning', async () => (await heldBytes(lab)) >= 2 * MIB, { everyMs: 5 });
    end.resolve();
    await answer;
    await waitFor('nothing to be held', async () => (await heldBytes(lab)) === 0, { everyMs: 5 });
  });

  it('is counted once where it goes to the client of a function URL as it came', async () => {
    const lab = await urlLab(OPEN);
    const answer = JSON.stringify('x'.repeat(5 * MIB));
    lab.agent.onInvoke((call) => call.answer(answer));
    const socket = await openSocket(lab.urlPort);
    onTestFinished(() => void socket.destroy());
    socket.write(`GET / HTTP/1.1\r\nHost: ${HELLO}\r\n\r\n`);
    await once(socket, 'data');
    socket.pause();
    const held = await heldBytes(lab);
    expect(held).toBeGreaterThanOrEqual(answer.length);
    expect(held).toBeLessThan(1.5 * answer.length);
    socket.resume();
    await waitFor('nothing to be held', async () => (await heldBytes(lab)) === 0, { everyMs: 5 });
  });

  it('is given up where the memory of the gateway is used up by far, and the caller is told', async () => {
    const lab = await gatewayLab({ gateway: { limits: limitsOf({ maxHeld: 4 * MIB }) } });
    await lab.addWorker('hello');
    lab.agent.onInvoke((call) => call.begin([Buffer.alloc(3 * MIB, 32), Buffer.alloc(2 * MIB, 32), Buffer.alloc(MIB)]));
    const { FunctionError, Payload, StatusCode } = await lab.invoke('hello');
    expect({ FunctionError, StatusCode }).toEqual({ FunctionError: 'Unhandled', StatusCode: 200 });
    expect(Payload?.transformToString()).toContain('no memory left for the answer');
    await waitFor('nothing to be held', async () => (await heldBytes(lab)) === 0, { everyMs: 5 });
  });

  it('of an event is counted as well', async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const end = Promise.withResolvers<void>();
    lab.agent.onInvoke((call) => {
      call.begin([Buffer.alloc(MIB, 32)]);
      void end.promise.then(() => call.answer(''));
    });
    await lab.invoke('hello', { InvocationType: 'Event' });
    await waitFor('the beginning', async () => (await heldBytes(lab)) >= MIB, { everyMs: 5 });
    end.resolve();
    await waitFor('nothing to be held', async () => (await heldBytes(lab)) === 0, { everyMs: 5 });
  });

  it('of an event that an earlier process has sent is counted as well', async () => {
    const fleet = fakeFleet();
    fleet.show(viewFixture());
    const result = Promise.withResolvers<InvocationResult>();
    fleet.onInvoke(({ onChunk, onHead }) => {
      onHead({ status: 200, contentType: 'application/json' });
      onChunk(Buffer.alloc(MIB / 2, 32));
      return result.promise;
    });
    const folder = await mkdtemp(join(tmpdir(), 'esb-rooms-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const storeOf = (owner: string) => inThreadEventStore({ file: join(folder, 'events.db'), owner });
    const server = await agentServerLab({ fleet });
    const store = storeOf('one');
    const first = await server.nextGateway({ events: { kind: 'Here', store }, eventDrainMs: 1 });
    await fetch(`${first.url}/2015-03-31/functions/hello/invocations`, {
      method: 'POST',
      headers: { 'x-amz-invocation-type': 'Event' },
      body: '{}',
    });
    await waitFor('the beginning', async () => (await heldBytes(first)) >= MIB / 2, { everyMs: 5 });
    await first.gateway.stop();
    await store.close();
    const second = await server.nextGateway({ events: { kind: 'Here', store: storeOf('two') } });
    await waitFor('the beginning to be told again', async () => (await heldBytes(second)) >= MIB / 2, { everyMs: 5 });
    const timings = { queued: 0, wake: 0, run: 0, start: 'running' } as const;
    result.resolve({ kind: 'Answered', end: { outcome: 'Answered' }, stamp: '', timings });
    await waitFor('nothing to be held', async () => (await heldBytes(second)) === 0, { everyMs: 5 });
  });
});

describe('operations that run no function', () => {
  it('give pages of a mebibyte or a little more, on which nothing is missing', async () => {
    const lab = await gatewayLab();
    await largeFunctions(lab, 7);
    const names: (string | undefined)[] = [];
    let Marker: string | undefined;
    do {
      const page = await lab.client.send(new ListFunctionsCommand({ ...(Marker === undefined ? {} : { Marker }) }));
      const { Functions = [] } = page;
      expect(Functions.length).toBeLessThanOrEqual(3);
      names.push(...Functions.map(({ FunctionName }) => FunctionName));
      Marker = page.NextMarker;
    } while (Marker !== undefined);
    expect(names).toEqual(Array.from({ length: 7 }, (_, index) => `large-0${index}`));
    const { Versions } = await lab.client.send(new ListVersionsByFunctionCommand({ FunctionName: 'large-00' }));
    expect(Versions).toHaveLength(1);
  });

  it('have their answers counted until clients have read them, and are refused beyond the bytes', async () => {
    const lab = await gatewayLab({ gateway: { limits: limitsOf({ maxHeld: 32 * MIB }) } });
    await largeFunctions(lab, 4);
    const socket = await connection(lab);
    socket.pause();
    socket.write('GET /2015-03-31/functions HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(60));
    // The system takes some mebibytes; the rest is in the gateway.
    await waitFor('answers to be held', async () => (await heldBytes(lab)) > 8 * MIB, { everyMs: 5 });
    await waitFor('all to be answered', async () => (await metric(lab, 'esb_gateway_requests')) >= 20);
    expect(await heldBytes(lab)).toBeLessThanOrEqual(32 * MIB);
    socket.destroy();
    await waitFor('nothing to be held', async () => (await heldBytes(lab)) === 0, { everyMs: 5 });
  });

  it('have an eighth of the places, of which neither a caller nor a function has more than is still free', () => {
    const room = new Room(
      { maxRequests: 64, maxBytes: MIB, maxLoopDelayMs: 1_000, maxHeapUse: 0.9 },
      { loopDelayMs: 0, heapUse: 0 },
    );
    const taken = (caller: string, functionName: string): boolean => room.open().takeOperation(caller, functionName);
    const before = Array.from({ length: 8 }, () => taken('ann', 'hello'));
    expect(before).toEqual([true, true, true, true, true, false, false, false]);
    expect(taken('ann', 'other')).toBe(false);
    expect(taken('bob', 'hello')).toBe(false);
    expect(taken('bob', 'other')).toBe(true);
  });

  it('leave places for calls', async () => {
    const lab = await writingLab({ gateway: { limits: limitsOf({ maxRequests: 64 }) } });
    lab.functions.put(functionFixture());
    await lab.addWorker('hello-0', { functionName: 'hello' });
    await lab.addWorker('other');
    // A version that does not come: each publication waits, eight places being for operations.
    const ended: string[] = [];
    for (let index = 0; index < 40; index += 1) {
      lab.client
        .send(new PublishVersionCommand({ FunctionName: 'hello' }))
        .catch((error: Error) => ended.push(error.name));
    }
    await waitFor('most to be refused', () => ended.length >= 32, { everyMs: 5 });
    expect(new Set(ended)).toEqual(new Set(['TooManyRequestsException']));
    expect((await lab.invoke('other')).StatusCode).toBe(200);
  });
});
