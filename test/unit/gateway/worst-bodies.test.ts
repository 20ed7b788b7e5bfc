import { request as httpsRequest } from 'node:https';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Access, createOpenAccess } from '../../../src/gateway/access/access.ts';
import { createEventIntake } from '../../../src/gateway/handover/event-intake.ts';
import { EVENTS_PATH } from '../../../src/gateway/handover/event-message.ts';
import { writeOperations } from '../../../src/gateway/http/control-routes.ts';
import { operationsOf } from '../../../src/gateway/http/function-routes.ts';
import { invokeOperations } from '../../../src/gateway/http/invoke-route.ts';
import { lambdaOperations, type OperationName } from '../../../src/gateway/lambda/generated/operations.ts';
import { LambdaError } from '../../../src/gateway/lambda/lambda-error.ts';
import { createCertificateAuthority } from '../../support/certificate-authority.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import { gatewayLab } from '../../support/gateway-lab.ts';
import { ALICE, keyedAccess } from '../../support/keyed-access.ts';
import { openSocket } from '../../support/raw-http.ts';
import { signedRequest } from '../../support/signed-request.ts';
import { HELLO, OPEN, urlSettings } from '../../support/url-lab.ts';
import { waitFor } from '../../support/wait-for.ts';
import { meterWork, type WorkMeter } from '../../support/work-meter.ts';
import { workerFixture } from '../../support/worker-fixture.ts';
import { writingLab } from '../../support/writing-lab.ts';

const MIB = 2 ** 20;
/** Bytes that may be worked on in one piece before a request has its right and its place. */
const PIECE = 64 * 1024;
/** Bytes that may be copied for each that arrives: a buffer that doubles copies each twice. */
const COPIES = 3;

/** Bodies that cost most: to parse, to keep as objects, to write as JSON, to encode. */
const WORST: Readonly<Record<string, Buffer>> = {
  'nested arrays': Buffer.alloc(6 * MIB, '['),
  'many small values': Buffer.concat([Buffer.from('{"a":['), Buffer.alloc(6 * MIB - 8, '[],'), Buffer.from(']}')]),
  'control characters': Buffer.alloc(6 * MIB, 1),
  'no text': Buffer.alloc(6 * MIB, 200),
};

interface Route {
  readonly operation: string;
  readonly method: string;
  readonly path: string;
  /** Whether a body may have 6 MiB. */
  readonly isCall: boolean;
}

function routeOf(operation: OperationName, isCall: boolean): Route {
  const { method, path } = lambdaOperations[operation];
  return { operation, method, path: path.replace(/:\w+/g, 'hello'), isCall };
}

/** Every route of the Lambda API, with the operations that write and those that are refused where callers may not write. */
const routes: readonly Route[] = [
  ...invokeOperations.map(({ name }) => routeOf(name, true)),
  ...[...writeOperations, ...operationsOf(true)].map(({ name }) => routeOf(name, false)),
];

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly string[];
}

/** The status of the answer to a request whose body is announced, or comes in chunks. */
async function send(port: number, { headers, method, path }: Sent, body: Buffer, how: 'announced' | 'chunked') {
  const socket = await openSocket(port);
  let text = '';
  socket.on('data', (data) => {
    text += String(data);
  });
  const length = how === 'announced' ? `content-length: ${body.length}` : 'transfer-encoding: chunked';
  socket.write([`${method} ${path} HTTP/1.1`, ...headers, length, '', ''].join('\r\n'));
  if (how === 'chunked') {
    socket.write(`${body.length.toString(16)}\r\n`);
  }
  socket.write(body);
  if (how === 'chunked') {
    socket.write('\r\n0\r\n\r\n');
  }
  await waitFor('an answer', () => text.length > 12, { everyMs: 1 });
  socket.destroy();
  return Number(text.slice(9, 12));
}

function metered(): WorkMeter {
  const meter = meterWork();
  onTestFinished(() => meter.stop());
  return meter;
}

function expectLittle(meter: WorkMeter, what: object, arrived: number): void {
  const { copied, largest, step } = meter;
  expect({ ...what, step, isSmall: largest <= PIECE, isCopied: copied <= COPIES * arrived }).toMatchObject({
    isSmall: true,
    isCopied: true,
  });
}

const host = 'host: gateway.example';

/** Senders by what they lack. */
const senders: readonly (readonly [who: string, access: Access, headers: (route: Route) => Promise<string[]>])[] = [
  ['nobody', keyedAccess(), async () => [host]],
  [
    'one whose signature is wrong, as the body shows',
    keyedAccess(),
    async ({ method, path }) => {
      const forger = { ...ALICE, secretAccessKey: 'x'.repeat(40) };
      const { rawHeaders } = await signedRequest(forger, { method, path, applyChecksum: false });
      return rawHeaders.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${rawHeaders[at + 1]}`] : []));
    },
  ],
  [
    'one without a right',
    {
      ...createOpenAccess(() => false),
      authorize() {
        throw new LambdaError('AccessDeniedException', 'no');
      },
    },
    async () => [host],
  ],
  ['one with every right, for whose call there is no place', createOpenAccess(() => false), async () => [host]],
];

describe.each(senders)('the worst body of %s', (_who, access, headersOf) => {
  it('costs little at every route of the Lambda API', { timeout: 60_000 }, async () => {
    const lab = await writingLab({ gateway: { access } });
    const port = Number(new URL(lab.url).port);
    // All calls are refused for want of a place.
    lab.workers.put(
      workerFixture({ name: 'hello', spec: { functionName: 'hello', concurrency: { reserved: 0, queueDepth: 1 } } }),
    );
    const meter = metered();
    for (const route of routes) {
      const sent = { method: route.method, path: route.path, headers: await headersOf(route) };
      for (const [body, bytes] of Object.entries(WORST)) {
        // Bodies are bounded where they arrive: beyond that bound all are alike.
        const tried = route.isCall ? bytes : bytes.subarray(0, 2 * PIECE);
        for (const how of ['announced', 'chunked'] as const) {
          meter.reset();
          const status = await send(port, sent, tried, how);
          expect(status).toBeGreaterThanOrEqual(route.method === 'GET' ? 200 : 400);
          expectLittle(meter, { ...route, body, how, status }, tried.length);
        }
      }
    }
  });
});

it('the worst body costs little at a function URL of a function without a place', { timeout: 30_000 }, async () => {
  const lab = await gatewayLab({ gateway: { urls: urlSettings() } });
  const port = await lab.gateway.listenForUrls({ host: '127.0.0.1', port: 0 });
  lab.functions.put(functionFixture({ spec: { url: OPEN } }));
  lab.workers.put(
    workerFixture({ name: 'hello', spec: { functionName: 'hello', concurrency: { reserved: 0, queueDepth: 1 } } }),
  );
  const meter = metered();
  for (const [body, bytes] of Object.entries(WORST)) {
    for (const type of ['text/plain', 'image/png']) {
      for (const how of ['announced', 'chunked'] as const) {
        meter.reset();
        const headers = [`host: ${HELLO}`, `content-type: ${type}`];
        expect(await send(port, { method: 'POST', path: '/', headers }, bytes, how)).toBe(429);
        expectLittle(meter, { body, type, how }, bytes.length);
      }
    }
  }
});

it('the worst body of a gateway costs little at the role that keeps events', async () => {
  const authority = await createCertificateAuthority();
  const shown = await authority.issueRole('default');
  const own = await authority.issueGateway(['default']);
  const lab = await gatewayLab({
    gateway: {
      intake(options) {
        const intake = createEventIntake(options);
        intake.configure({
          certificate: shown.certificate,
          privateKey: shown.key,
          clientAuthority: authority.certificate,
        });
        return intake;
      },
    },
  });
  const post = async (body: Buffer, headers: Readonly<Record<string, string>>): Promise<number> => {
    const answered = Promise.withResolvers<number>();
    const { port } = new URL(lab.url);
    const identity = { ca: authority.certificate, cert: own.certificate, key: own.key, rejectUnauthorized: false };
    const sent = httpsRequest({ ...identity, port, method: 'POST', path: EVENTS_PATH, agent: false, headers });
    sent.on('response', (answer) => {
      answer.resume();
      answered.resolve(answer.statusCode ?? 0);
    });
    sent.on('error', answered.reject);
    sent.end(body);
    return await answered.promise;
  };
  const meter = metered();
  for (const [body, bytes] of Object.entries(WORST)) {
    for (const [tried, headers, status] of [
      [bytes, {}, 413],
      [bytes, { 'transfer-encoding': 'chunked' }, 413],
      [bytes.subarray(0, MIB), {}, 400],
    ] as const) {
      meter.reset();
      expect(await post(tried, headers)).toBe(status);
      expectLittle(meter, { body, status }, tried.length);
    }
  }
});
