import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { lambdaOperations } from '../../../src/gateway/lambda/generated/operations.ts';
import { functionManifest } from '../../support/function-manifest.ts';
import { type GatewayProcess, startGatewayProcess } from '../../support/gateway-process.ts';
import { type MemoryGroup, memoryGroup } from '../../support/memory-group.ts';
import { openSocket } from '../../support/raw-http.ts';
import { waitFor } from '../../support/wait-for.ts';

const MIB = 2 ** 20;
const CLIENTS = 240;
/** Requests of each client, beside the one whose answer the others wait behind. */
const REQUESTS = 6;
/** Functions whose descriptions have most of a mebibyte. */
const LARGE = [0, 1, 2, 3, 4].map((number) => `large-${number}`);
/** Bytes that the gateway holds by default. */
const MAX_HELD = 512 * MIB;

/** Operations whose answers are large. */
const operations = [
  'Invoke',
  'InvokeWithResponseStream',
  'GetFunction',
  'GetFunctionConfiguration',
  'ListFunctions',
  'ListVersionsByFunction',
] as const;

let group: MemoryGroup;
let gateway: GatewayProcess;

beforeAll(async () => {
  group = await memoryGroup(1024 * MIB);
  gateway = await startGatewayProcess(['--authentication', 'off'], { group: group.entrance });
});

afterAll(async () => {
  await gateway?.close();
  await group?.close();
});

function requestOf(operation: (typeof operations)[number], name: string): string {
  const { method, path } = lambdaOperations[operation];
  return `${method} ${path.replace(':name', name)} HTTP/1.1\r\nhost: gateway.example\r\ncontent-length: 0\r\n\r\n`;
}

/** Answers of the operations by their status. */
async function answered(): Promise<ReadonlyMap<string, number>> {
  const page = await (await fetch(`http://127.0.0.1:${gateway.healthPort}/metrics`)).text();
  const counts = new Map<string, number>();
  for (const [, operation, status = '', count] of page.matchAll(
    /^esb_gateway_requests_total\{operation="(\w+)",status="(\d+)"\} (\d+)$/gm,
  )) {
    if (operations.some((each) => each === operation)) {
      counts.set(status, (counts.get(status) ?? 0) + Number(count));
    }
  }
  return counts;
}

const held = (): Promise<number> => gateway.metric('esb_gateway_held_bytes');

describe('a gateway with 1 GiB of memory', () => {
  it(`lives and answers while ${CLIENTS} clients read none of their large answers`, async () => {
    const env = Array.from({ length: 30 }, (_, at) => ({ name: `V${at}`, value: 'v'.repeat(30_000) }));
    for (const name of LARGE) {
      const template = { spec: { image: 'registry.example/hello:1', env } };
      const scaling = { mode: 'Fixed', minWorkers: 0 };
      await gateway.api.kubectl(['create', '-f', '-'], functionManifest(name, { scaling, template }));
    }
    const perWorker = {
      runtimeInterface: 'Lambda',
      concurrency: { perWorker: 1_600, queueDepth: 1_000 },
      timeoutSeconds: 900,
    } as const;
    await gateway.addWorker('endless', perWorker);
    await gateway.addWorker('speaking');
    await gateway.addWorker('other');
    const text = Buffer.alloc(6 * MIB - 1_024, ' ');
    const pieces = Array.from({ length: Math.ceil(text.length / 65_536) }, (_, at) =>
      text.subarray(at * 65_536, (at + 1) * 65_536),
    );
    gateway.agent.onInvoke((call) => {
      const { name } = call.request.worker;
      if (name !== 'endless') {
        call.answer(name === 'speaking' ? pieces : '"hello"');
      }
    });
    const before = await answered();
    for (let client = 0; client < CLIENTS; client += 1) {
      // No address has more than its part of the gateway.
      const socket = await openSocket(gateway.port, `127.0.1.${1 + client}`);
      onTestFinished(() => void socket.destroy());
      socket.pause();
      const operation = operations[client % operations.length] ?? 'Invoke';
      const name = operation.startsWith('Invoke') ? 'speaking' : (LARGE[client % LARGE.length] ?? '');
      // Answers go out in the order of their requests.
      socket.write(requestOf('Invoke', 'endless') + requestOf(operation, name).repeat(REQUESTS));
    }
    const total = (counts: ReadonlyMap<string, number>): number => counts.values().reduce((sum, each) => sum + each, 0);
    await waitFor(
      'every answer to be made or refused',
      async () => gateway.process.ended() || total(await answered()) - total(before) >= CLIENTS * REQUESTS,
      { timeoutMs: 90_000 },
    );
    expect(await group.kills()).toBe(0);
    const counts = await answered();
    const mebibytes = [await held(), await group.most()].map((bytes) => Math.round(bytes / MIB));
    console.log(`${[...counts].flat().join(' ')}; MiB held, and of the group at most: ${mebibytes.join(', ')}`);
    expect(counts.get('429')).toBeGreaterThan(0);
    expect(await held()).toBeGreaterThan(MAX_HELD / 2);
    expect(await held()).toBeLessThanOrEqual(MAX_HELD);
    const url = `http://127.0.0.1:${gateway.port}/2015-03-31/functions/other/invocations`;
    const answer = await fetch(url, { method: 'POST' });
    expect(`${answer.status} ${await answer.text()}`).toBe('200 "hello"');
  });
});
