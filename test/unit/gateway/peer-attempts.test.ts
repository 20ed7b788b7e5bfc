import { describe, expect, it } from 'vitest';
import { encodeReport, LOAD_PATH } from '../../../src/api/load-report.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { LoadBook } from '../../../src/controller/load/load-book.ts';
import { createEventIntake } from '../../../src/gateway/handover/event-intake.ts';
import { EVENTS_PATH, encodeEvent } from '../../../src/gateway/handover/event-message.ts';
import { loadAgentProto } from '../../../src/protocol/agent-proto.ts';
import {
  type CertificateAuthority,
  createCertificateAuthority,
  type IssuedCertificate,
} from '../../support/certificate-authority.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { gatewayLab } from '../../support/gateway-lab.ts';
import { inThreadEventStore } from '../../support/in-thread-event-store.ts';
import { invokeAsPeer, type PeerAnswer, postAsPeer, serveAsAgent, serveAsLeader } from '../../support/peer-requests.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Bytes of a frame of gRPC before its message. */
const FRAME_HEAD = 5;

/** A server that only gateways may ask, for the worker or the function `hello` of `default`. */
interface Door {
  /** Asks it to have that function called, or scaled as for a call. */
  ask(certificate: IssuedCertificate | undefined): Promise<PeerAnswer>;
  /** Whether it did. */
  isDone(): boolean;
}

async function agentDoor(authority: CertificateAuthority): Promise<Door> {
  const fleet = fakeFleet();
  fleet.show(viewFixture());
  const ran: string[] = [];
  fleet.onInvoke(async ({ uid }) => {
    ran.push(uid);
    return uid === ''
      ? { kind: 'Refused', reason: 'NotFound', message: 'no such worker' }
      : { kind: 'Answered', stamp: '', timings: { queued: 0, wake: 0, run: 0, start: 'running' } };
  });
  const port = await serveAsAgent(authority, fleet);
  const { Invoke: invoke } = loadAgentProto().agent;
  const worker = { namespace: 'default', name: 'hello', uid: 'uid-of-hello' };
  const message = invoke.requestSerialize({ worker, epoch: 1, requestId: 'r-1', payload: Buffer.from('{}') });
  return {
    isDone: () => ran.includes('uid-of-hello'),
    async ask(shown) {
      const answer = await invokeAsPeer(port, shown, message);
      const { trailer } = answer.length === 0 ? {} : invoke.responseDeserialize(answer.subarray(FRAME_HEAD));
      return trailer == null
        ? 'Cut'
        : { status: trailer.outcome === 'OUTCOME_ANSWERED' ? 200 : 404, text: trailer.reason };
    },
  };
}

async function loadDoor(authority: CertificateAuthority): Promise<Door> {
  let changes = 0;
  const book = new LoadBook(systemClock, () => {
    changes += 1;
  });
  const port = await serveAsLeader(authority, book);
  const load = [{ functionName: 'hello', version: undefined, calls: 3, peak: 3 }];
  return {
    isDone: () => changes > 0,
    ask(shown) {
      const path = `${LOAD_PATH}?namespace=default&gateway=one`;
      return postAsPeer({ port, path, shown }, encodeReport({ kind: 'all', load }));
    },
  };
}

async function eventDoor(authority: CertificateAuthority): Promise<Door> {
  const role = await authority.issueRole('default');
  const store = inThreadEventStore();
  const lab = await gatewayLab({
    gateway: {
      events: { kind: 'Here', store },
      intake(options) {
        const intake = createEventIntake(options);
        const { certificate, key } = role;
        intake.configure({ certificate, privateKey: key, clientAuthority: authority.certificate });
        return intake;
      },
    },
  });
  await lab.addWorker('hello');
  const event = encodeEvent({
    reference: { name: 'hello' },
    requestId: '11111111-2222-4333-8444-555555555555',
    payload: Buffer.from('{}'),
    clientContext: '',
    tailLog: false,
    traceId: '',
    traceParent: '',
  } as Parameters<typeof encodeEvent>[0]);
  return {
    isDone: () => lab.agent.calls.length + store.load().events > 0,
    ask: (shown) => postAsPeer({ port: Number(new URL(lab.url).port), path: EVENTS_PATH, shown }, event),
  };
}

const doors = [
  ['an agent', agentDoor],
  ['the leader that takes load', loadDoor],
  ['the role that keeps events', eventDoor],
] as const;

type Peer = (authority: CertificateAuthority) => Promise<IssuedCertificate | undefined>;

const HOUR_AGO = new Date(Date.now() - 3_600_000);

type Reasons = Readonly<Record<(typeof doors)[number][0], string>>;

const all = (reason: string): Reasons => ({
  'an agent': reason,
  'the leader that takes load': reason,
  'the role that keeps events': reason,
});

/** Clients that are no gateway of `default`, and the reasons of their refusals. */
const peers: readonly (readonly [string, Peer, Reasons])[] = [
  ['a client without a certificate', async () => undefined, all('Cut')],
  [
    'a gateway of another authority',
    async () => (await createCertificateAuthority()).issueGateway(['default']),
    all('Cut'),
  ],
  ['a gateway whose certificate has run out', (authority) => authority.issueGateway(['default'], HOUR_AGO), all('Cut')],
  ['a server', (authority) => authority.issueServer(), all('Cut')],
  [
    'a node',
    (authority) => authority.issueClient('system:node:node-1', ['system:nodes']),
    { ...all('not esb-gateway'), 'an agent': 'Cut' },
  ],
  [
    'a gateway of another namespace',
    (authority) => authority.issueGateway(['shop']),
    { ...all('not for the namespace default'), 'an agent': 'NotFound' },
  ],
];

describe.each(doors)('%s', (who, open) => {
  it.each(peers)('does nothing for %s', async (_peer, certificateOf, reasons) => {
    const authority = await createCertificateAuthority();
    const door = await open(authority);
    const outcome = await door.ask(await certificateOf(authority));
    const reason = reasons[who];
    expect(outcome).toEqual(
      reason === 'Cut' ? 'Cut' : expect.objectContaining({ text: expect.stringContaining(reason) }),
    );
    expect(door.isDone()).toBe(false);
    const heard = await door.ask(await authority.issueGateway(['default']));
    expect(heard === 'Cut' ? 0 : heard.status).toBeGreaterThanOrEqual(200);
    await waitFor('the gateway of the namespace to be heard', () => door.isDone(), { everyMs: 5 });
  });
});
