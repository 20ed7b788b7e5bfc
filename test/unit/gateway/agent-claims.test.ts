import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createCertificateAuthority } from '../../support/certificate-authority.ts';
import { gatewayLab, payloadOf } from '../../support/gateway-lab.ts';
import { agentMessages, type HostileStep, startHostileAgent } from '../../support/hostile-agent.ts';
import { recordingLogger } from '../../support/recording-logger.ts';
import { waitFor } from '../../support/wait-for.ts';
import { nodeFixture, workerFixture } from '../../support/worker-fixture.ts';

/** More than a gateway keeps of workers that it does not know. */
const INVENTED = 10_100;

function state(name: string, more: object = {}): object {
  return {
    worker: { namespace: 'default', name, uid: `uid-of-${name}` },
    functionName: name,
    epoch: 1,
    phase: 'PHASE_RUNNING',
    inFlight: 0,
    containerId: '',
    callable: true,
    ...more,
  };
}

function snapshot(...workers: readonly object[]): HostileStep {
  return { kind: 'message', bytes: agentMessages.watchEvent({ snapshot: { workers } }) };
}

describe('an agent that claims a worker of another node', () => {
  it('gets no call of it, and keeps none from where the resource says', async () => {
    const lab = await gatewayLab({ nodes: ['node-1', 'node-2'] });
    const [honest, liar] = lab.agents;
    await lab.addWorker('pay', { epoch: 4 });
    for (const epoch of [4, 5, Number.MAX_SAFE_INTEGER]) {
      liar?.put({ name: 'pay', epoch });
      // Nothing may happen meanwhile.
      await delay(20);
      expect((await lab.invoke('pay')).StatusCode).toBe(200);
    }
    await liar?.kill();
    await lab.connected(1);
    expect((await lab.invoke('pay')).StatusCode).toBe(200);
    await lab.addWorker('pay', { epoch: 5 });
    await waitFor('the new epoch', () => lab.gateway.view.worker('uid-of-pay')?.holding?.epoch === 5);
    expect((await lab.invoke('pay')).StatusCode).toBe(200);
    expect(liar?.calls).toHaveLength(0);
    expect(honest?.calls.map(({ epoch }) => epoch)).toEqual([4, 4, 4, 4, 5]);
  });

  it('before its resource was seen is asked once the resource names its node, and not before', async () => {
    const lab = await gatewayLab({ nodes: ['node-1', 'node-2'] });
    const [, two] = lab.agents;
    two?.put({ name: 'late', epoch: 7 });
    // Nothing may happen meanwhile.
    await delay(20);
    lab.workers.put(workerFixture({ name: 'late', status: { assignment: { nodeName: 'node-1', epoch: 7 } } }));
    expect(lab.gateway.view.worker('uid-of-late')?.holding).toBeUndefined();
    lab.workers.put(workerFixture({ name: 'late', status: { assignment: { nodeName: 'node-2', epoch: 8 } } }));
    two?.put({ name: 'late', epoch: 8 });
    expect((await lab.invoke('late')).StatusCode).toBe(200);
    expect(two?.calls[0]).toMatchObject({ epoch: 8 });
  });
});

describe('an agent that invents workers', () => {
  it('has a bounded number of them kept, and those that there are', { timeout: 30_000 }, async () => {
    const lab = await gatewayLab();
    const liar = await startHostileAgent('node-9');
    const invented = Array.from({ length: INVENTED }, (_, index) => state(`invented-${index}`));
    lab.workers.put(workerFixture({ name: 'real', status: { assignment: { nodeName: 'node-9', epoch: 1 } } }));
    liar.onStream((path) => (path.endsWith('/Watch') ? [snapshot(...invented, state('real'))] : []));
    lab.nodes.put(liar.node);
    await waitFor('the Watch', () => lab.gateway.view.connected.has('node-9'));
    expect(lab.gateway.view.worker('uid-of-real')?.holding).toBeDefined();
    const heard = (index: number): boolean => {
      const name = `invented-${index}`;
      lab.workers.put(workerFixture({ name, status: { assignment: { nodeName: 'node-9', epoch: 1 } } }));
      return lab.gateway.view.worker(`uid-of-${name}`)?.holding !== undefined;
    };
    expect(heard(0)).toBe(true);
    expect(heard(INVENTED - 1)).toBe(false);
  });
});

describe('a LambdaNode', () => {
  it('whose certificate cannot be read ends nobody, and is connected to once it can', async () => {
    const { logger, lines } = recordingLogger();
    const lab = await gatewayLab({ gateway: { logger } });
    await lab.addWorker('hello');
    const authority = await createCertificateAuthority();
    const liar = await startHostileAgent('node-9', await authority.issueServer());
    const rubbish = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
    for (const certificate of [
      `${authority.certificate}\n${rubbish}`,
      rubbish,
      '-----BEGIN CERTIFICATE-----',
      `${liar.node.status?.certificate}\n`.repeat(3),
    ]) {
      lab.nodes.put({ ...liar.node, status: { ...liar.node.status, certificate } });
    }
    await waitFor('the refusals', () => lines.filter(({ msg }) => msg.includes('cannot be read')).length === 4);
    // Nothing may happen meanwhile.
    await delay(100);
    expect(liar.connections()).toBe(0);
    expect((await lab.invoke('hello')).StatusCode).toBe(200);
    // An unreadable value later on does not part the gateway from its agent.
    lab.nodes.put({ ...lab.agent.node, status: { ...lab.agent.node.status, certificate: rubbish } });
    // Nothing may happen meanwhile.
    await delay(50);
    expect(lab.agent.watchers()).toBe(1);
    const good = await startHostileAgent('node-9');
    good.onStream(() => [snapshot()]);
    lab.nodes.put(good.node);
    await waitFor('the connection', () => lab.gateway.view.connected.has('node-9'));
  });

  it('ends nobody, whatever its status says', { timeout: 60_000 }, async () => {
    const lab = await gatewayLab();
    await lab.addWorker('hello');
    const { certificate = '' } = lab.agent.node.status ?? {};
    // Nothing that would be looked for beyond this machine.
    const text = fc.oneof(
      fc.constantFrom('', ':9443', '[:::]:1', '[1:2]:9', '[....]:1', '..:1', '[::1]:0', '[::1%lo]:9'),
      fc.constantFrom('127.0.0.1:1', '127.0.0.1:99999', '[::ffff:127.0.0.1]:1', '0x7f.1:1', '127.1:1'),
      fc.string({ maxLength: 40 }).filter((drawn) => !/:\d+$/.test(drawn)),
    );
    const pem = fc.oneof(
      fc.string({ maxLength: 60 }),
      fc.constantFrom(certificate, `${certificate}${certificate}`, certificate.replace('A', '!')),
      fc
        .base64String({ maxLength: 400 })
        .map((body) => `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----\n`),
      fc
        .tuple(fc.nat(certificate.length), fc.string({ minLength: 1, maxLength: 3 }))
        .map(([at, put]) => certificate.slice(0, at) + put + certificate.slice(at + put.length)),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('evil-1', 'evil-2'), text, pem, async (name, endpoint, certificate) => {
        lab.nodes.put(nodeFixture({ name, status: { endpoint, certificate } }));
        // The pace of the calls.
        await delay(2);
      }),
      { numRuns: 300 },
    );
    // Attempts to connect go on in the background.
    await delay(500);
    expect((await lab.invoke('hello')).StatusCode).toBe(200);
  });
});

const anyText = fc.oneof(
  fc.string({ maxLength: 30 }),
  fc.constantFrom('running', 'a\r\nb: c', '\u0000', 'x'.repeat(100_000), 'WorkerExited', 'QueueFull', '__proto__'),
);
const anyNumber = fc.oneof(
  fc.integer(),
  fc.constantFrom('9223372036854775807', '-9223372036854775808', Number.MAX_SAFE_INTEGER, -1, 0),
);
const anyWorker = fc.oneof(
  fc.constant({ namespace: 'default', name: 'hello', uid: 'uid-of-hello' }),
  fc.constant({ namespace: 'default', name: 'evil', uid: 'uid-of-evil' }),
  fc.record({ namespace: fc.constantFrom('default', 'other'), name: anyText, uid: anyText }),
);
const anyState = fc.record(
  {
    worker: anyWorker,
    functionName: anyText,
    epoch: fc.oneof(fc.constantFrom(1, 2, '9223372036854775807'), anyNumber),
    phase: fc.integer({ min: -1, max: 40 }),
    inFlight: fc.integer(),
    containerId: anyText,
    callable: fc.boolean(),
  },
  { requiredKeys: [] },
);
const anyEvent = fc.oneof(
  fc.record({ snapshot: fc.record({ workers: fc.array(anyState, { maxLength: 5 }) }) }),
  fc.record({ changed: anyState }),
  fc.record({ removed: anyWorker }),
  fc.constant({}),
);
const anyTrailer = fc.record(
  {
    outcome: fc.integer({ min: -1, max: 9 }),
    reason: anyText,
    message: anyText,
    stamp: fc.oneof(anyText, fc.constantFrom('2026-02-31T00:00:00Z', '2026-11-01T00:00:00.000001Z')),
    timings: fc.record({ queued: anyNumber, wake: anyNumber, run: anyNumber, start: anyText }, { requiredKeys: [] }),
    logTail: fc.uint8Array({ maxLength: 6_000 }).map((bytes) => Buffer.from(bytes)),
    functionEnd: fc.record(
      {
        outcome: fc.integer({ min: -1, max: 9 }),
        errorType: anyText,
        lateError: anyText,
      },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: [] },
);
const anyAnswer = fc.record(
  {
    head: fc.record({ status: fc.integer(), contentType: anyText, streaming: fc.boolean() }),
    chunk: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    trailer: anyTrailer,
  },
  { requiredKeys: [] },
);

const anyBytes = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes));
const anyMessage = fc.oneof(
  anyEvent.map(agentMessages.watchEvent),
  anyAnswer.map(agentMessages.answer),
  fc.record({ call: fc.nat(3), answer: anyAnswer }).map(agentMessages.many),
  fc.record({ call: fc.nat(3), failure: fc.record({ code: anyText, message: anyText }) }).map(agentMessages.many),
  anyBytes,
);
const anyHeaderText = fc.constantFrom('0', '5', '14', '99', '', 'x', '-1', '%zz', 'a'.repeat(5_000));
const anyStep: fc.Arbitrary<HostileStep> = fc.oneof(
  { weight: 6, arbitrary: anyMessage.map((bytes) => ({ kind: 'message' as const, bytes })) },
  { weight: 1, arbitrary: anyBytes.map((bytes) => ({ kind: 'bytes' as const, bytes })) },
  {
    weight: 2,
    arbitrary: fc
      .record({ 'grpc-status': anyHeaderText, 'grpc-message': anyHeaderText, 'esb-code': anyHeaderText })
      .map((trailers) => ({ kind: 'end' as const, trailers })),
  },
  { weight: 1, arbitrary: fc.nat(20).map((code) => ({ kind: 'reset' as const, code })) },
  { weight: 1, arbitrary: fc.nat(20).map((code) => ({ kind: 'goAway' as const, code })) },
  { weight: 1, arbitrary: fc.constant({ kind: 'cut' as const }) },
);

describe('an agent that says anything', () => {
  it('ends no gateway, gets no call of another node, and holds up nobody', { timeout: 120_000 }, async () => {
    const lab = await gatewayLab({ maxWaitMs: 300 });
    lab.agent.onInvoke((call) => call.answer('"honest"'));
    await lab.addWorker('hello', { epoch: 1 });
    const liar = await startHostileAgent('node-9');
    lab.workers.put(workerFixture({ name: 'evil', status: { assignment: { nodeName: 'node-9', epoch: 1 } } }));
    const own = state('evil');
    const script = fc.array(anyStep, { maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(
        script,
        script,
        fc.array(anyMessage, { maxLength: 5 }),
        fc.constantFrom('small', 'large', 'streamed'),
        async (watch, call, later, kind) => {
          liar.onStream((path) => (path.endsWith('/Watch') ? [snapshot(own), ...watch] : call));
          // Another address, so that the gateway connects again.
          lab.nodes.remove({ name: 'node-9' });
          lab.nodes.put(liar.node);
          await waitFor('a connection', () => liar.connections() > 0, { everyMs: 1 });
          // No word tells when the other side has come so far.
          await delay(5);
          for (const bytes of later) {
            liar.tell(bytes);
          }
          const payload = kind === 'large' ? `"${'x'.repeat(40_000)}"` : '{}';
          const hangUp = new AbortController();
          const { signal } = hangUp;
          const path = `${lab.url}/2021-11-15/functions/evil/response-streaming-invocations`;
          const evil = (
            kind === 'streamed'
              ? fetch(path, { method: 'POST', signal }).then((answer) => answer.arrayBuffer())
              : lab.invoke('evil', { Payload: payload }, signal)
          ).then(
            () => undefined,
            () => undefined,
          );
          const honest = await lab.invoke('hello', { Payload: payload });
          expect(payloadOf(honest)).toBe('"honest"');
          expect(lab.gateway.health()).toEqual({ ok: true });
          // Faults and calls come at any moment.
          await Promise.race([evil, delay(20)]);
          hangUp.abort();
          await evil;
        },
      ),
      { numRuns: 150 },
    );
    expect(liar.callStreams()).toBeGreaterThan(0);
  });
});
