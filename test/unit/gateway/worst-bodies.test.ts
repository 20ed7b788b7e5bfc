import { describe, expect, it, onTestFinished } from 'vitest';
import { LOAD_PATH } from '../../../src/api/load-report.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { LoadBook } from '../../../src/controller/load/load-book.ts';
import { type Access, createOpenAccess } from '../../../src/gateway/access/access.ts';
import { createEventIntake } from '../../../src/gateway/handover/event-intake.ts';
import { EVENTS_PATH } from '../../../src/gateway/handover/event-message.ts';
import { LambdaError } from '../../../src/gateway/lambda/lambda-error.ts';
import {
  type CertificateAuthority,
  createCertificateAuthority,
  type IssuedCertificate,
} from '../../support/certificate-authority.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import { gatewayLab } from '../../support/gateway-lab.ts';
import { ALICE, keyedAccess } from '../../support/keyed-access.ts';
import {
  invokeAsPeer,
  type PeerRequest,
  postAsPeer,
  serveAsAgent,
  serveAsLeader,
} from '../../support/peer-requests.ts';
import { signedRequest } from '../../support/signed-request.ts';
import { HELLO, OPEN, urlSettings } from '../../support/url-lab.ts';
import { meterWork, type WorkMeter } from '../../support/work-meter.ts';
import { workerFixture } from '../../support/worker-fixture.ts';
import { type ApiRoute, apiRoutes, sendBody, WORST } from '../../support/worst-bodies.ts';
import { writingLab } from '../../support/writing-lab.ts';

const MIB = 2 ** 20;
/** Bytes that may be worked on in one piece before a request has its right and its place. */
const PIECE = 64 * 1024;
/** Bytes that may be copied for each that arrives: a buffer that doubles copies each twice. */
const COPIES = 3;

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
const senders: readonly (readonly [who: string, access: Access, headers: (route: ApiRoute) => Promise<string[]>])[] = [
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
    for (const route of apiRoutes) {
      const sent = { method: route.method, path: route.path, headers: await headersOf(route) };
      for (const [body, bytes] of Object.entries(WORST)) {
        // Bodies are bounded where they arrive: beyond that bound all are alike.
        const tried = route.isCall ? bytes : bytes.subarray(0, 2 * PIECE);
        for (const how of ['announced', 'chunked'] as const) {
          meter.reset();
          const status = await sendBody(port, sent, tried, how);
          expect(status).toBeGreaterThanOrEqual(route.method === 'GET' ? 200 : 400);
          expectLittle(meter, { ...route, body, how, status }, tried.length);
        }
      }
    }
  });
});

it('the fault at the end of the largest payload is found, where there is a place for the call', async () => {
  const lab = await gatewayLab();
  await lab.addWorker('hello');
  const port = Number(new URL(lab.url).port);
  for (const type of ['RequestResponse', 'DryRun']) {
    const headers = [host, `x-amz-invocation-type: ${type}`];
    const sent = { method: 'POST', path: '/2015-03-31/functions/hello/invocations', headers };
    expect(await sendBody(port, sent, WORST['many small values'] ?? Buffer.alloc(0), 'announced')).toBe(400);
  }
  expect(lab.agent.calls).toEqual([]);
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
        expect(await sendBody(port, { method: 'POST', path: '/', headers }, bytes, how)).toBe(429);
        expectLittle(meter, { body, type, how }, bytes.length);
      }
    }
  }
});

/** Status of the answer; undefined if the connection was cut. */
async function post(asked: PeerRequest, body: Buffer): Promise<number | undefined> {
  const answer = await postAsPeer(asked, body);
  return answer === 'Cut' ? undefined : answer.status;
}

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
  const port = Number(new URL(lab.url).port);
  const meter = metered();
  for (const [body, bytes] of Object.entries(WORST)) {
    for (const [tried, headers, status] of [
      [bytes, {}, 413],
      [bytes, { 'transfer-encoding': 'chunked' }, 413],
      [bytes.subarray(0, MIB), {}, 400],
    ] as const) {
      meter.reset();
      expect(await post({ port, path: EVENTS_PATH, shown: own, headers }, tried)).toBe(status);
      expectLittle(meter, { body, status }, tried.length);
    }
  }
});

/** Clients of listeners for gateways alone that are none, and whether the connection is cut. */
const strangers = [
  ['without a certificate', async () => undefined, true],
  [
    'whose certificate is of another cluster',
    async () => (await createCertificateAuthority()).issueGateway(['default']),
    true,
  ],
  ['that is a gateway of another namespace', async (authority) => await authority.issueGateway(['shop']), false],
] as const satisfies readonly (readonly [
  string,
  (authority: CertificateAuthority) => Promise<IssuedCertificate | undefined>,
  boolean,
])[];

describe.each(strangers)('the worst body of a client %s', (_who, certificateOf, isCut) => {
  it('costs little at the leader that takes load', async () => {
    const authority = await createCertificateAuthority();
    const book = new LoadBook(systemClock, () => undefined);
    const port = await serveAsLeader(authority, book);
    const asked = { port, path: `${LOAD_PATH}?namespace=default&gateway=one`, shown: await certificateOf(authority) };
    const meter = metered();
    for (const [body, bytes] of Object.entries(WORST)) {
      meter.reset();
      expect(await post(asked, bytes)).toBe(isCut ? undefined : 403);
      expectLittle(meter, { body }, bytes.length);
    }
    expect(book.size).toBe(0);
  });

  it('costs little at an agent', async () => {
    const authority = await createCertificateAuthority();
    const fleet = fakeFleet();
    fleet.show(viewFixture());
    const port = await serveAsAgent(authority, fleet);
    const shown = await certificateOf(authority);
    const meter = metered();
    for (const [body, bytes] of Object.entries(WORST)) {
      meter.reset();
      await invokeAsPeer(port, shown, bytes);
      expectLittle(meter, { body }, bytes.length);
    }
  });
});
