import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { listenOn } from '../../../../src/common/net/listen.ts';
import type { EventStore } from '../../../../src/gateway/events/event-store.ts';
import { createEventIntake, type EventIntake } from '../../../../src/gateway/handover/event-intake.ts';
import {
  RemoteEventKeeper,
  type RemoteEventKeeperOptions,
} from '../../../../src/gateway/handover/remote-event-keeper.ts';
import { CLIENT_PATIENCE, type ClientPatience } from '../../../../src/gateway/http/http-guard.ts';
import {
  type CertificateAuthority,
  createCertificateAuthority,
  type IssuedCertificate,
} from '../../../support/certificate-authority.ts';
import { type GatewayLab, gatewayLab, payloadOf } from '../../../support/gateway-lab.ts';
import { inThreadEventStore } from '../../../support/in-thread-event-store.ts';
import { waitFor } from '../../../support/wait-for.ts';

interface RoleLab extends GatewayLab {
  readonly port: number;
  readonly intake: EventIntake;
}

/** The role that keeps events, with an agent of its own. */
async function roleLab(
  shown: IssuedCertificate,
  authority: string,
  store: EventStore,
  patience: ClientPatience = CLIENT_PATIENCE,
): Promise<RoleLab> {
  let intake: EventIntake | undefined;
  const lab = await gatewayLab({
    gateway: {
      events: { kind: 'Here', store },
      patience,
      intake(options) {
        intake = createEventIntake(options);
        intake.configure({ certificate: shown.certificate, privateKey: shown.key, clientAuthority: authority });
        return intake;
      },
    },
  });
  if (intake === undefined) {
    throw new Error('the role has no intake');
  }
  await lab.addWorker('work');
  return { ...lab, port: Number(new URL(lab.url).port), intake };
}

interface GatewayOptions extends Partial<RemoteEventKeeperOptions> {
  readonly shown: IssuedCertificate;
  readonly port: number;
  readonly trusted: string;
}

/** A gateway that hands its events over, with an agent of its own. */
async function gateway({ port, shown, trusted, ...options }: GatewayOptions): Promise<GatewayLab> {
  const identity = { certificate: shown.certificate, privateKey: shown.key };
  const keeper = new RemoteEventKeeper({
    address: { host: '127.0.0.1', port },
    namespace: 'default',
    identity: () => identity,
    authority: () => trusted,
    logger: silentLogger(),
    ...options,
  });
  const lab = await gatewayLab({ gateway: { events: { kind: 'Elsewhere', keeper } } });
  await lab.addWorker('work');
  return lab;
}

async function authorityLab(): Promise<{
  authority: CertificateAuthority;
  role: IssuedCertificate;
  own: IssuedCertificate;
}> {
  const authority = await createCertificateAuthority();
  return { authority, role: await authority.issueRole('default'), own: await authority.issueGateway(['default']) };
}

interface Way {
  readonly port: number;
  readonly connections: number;
  /** From now on nothing comes through the connections that there are, and neither end is told. */
  loseAll(): void;
}

/** A way to a server that can lose connections as a network does. */
async function wayTo(port: number): Promise<Way> {
  const sockets: Socket[] = [];
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const socket of [near, far]) {
      socket.on('error', () => undefined);
      sockets.push(socket);
    }
    near.pipe(far);
    far.pipe(near);
  });
  onTestFinished(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    server.close();
  });
  return {
    port: await listenOn(server, { host: '127.0.0.1', port: 0 }),
    get connections() {
      return sockets.length / 2;
    },
    loseAll() {
      for (const socket of sockets) {
        socket.unpipe();
        socket.pause();
      }
    },
  };
}

const event = { InvocationType: 'Event', Payload: Buffer.from('{"number":1}') } as const;

describe('events that a gateway hands over', () => {
  it('run from the role, whichever gateway took them', async () => {
    const { authority, own, role: shown } = await authorityLab();
    const role = await roleLab(shown, authority.certificate, inThreadEventStore());
    const options = { port: role.port, shown: own, trusted: authority.certificate };
    const [first, second] = [await gateway(options), await gateway(options)];
    for (const each of [first, second]) {
      const answer = await each.invoke('work', event);
      expect(answer.StatusCode).toBe(202);
      await waitFor('the event to run', () =>
        role.agent.calls.some(({ requestId }) => requestId === answer.$metadata.requestId),
      );
      expect(each.agent.calls).toEqual([]);
    }
    expect(role.agent.calls[0]?.payload.toString()).toBe('{"number":1}');
  });

  it('are refused for a while where the role is away, and nothing else is', async () => {
    const { authority, own } = await authorityLab();
    const closed = createServer();
    const port = await listenOn(closed, { host: '127.0.0.1', port: 0 });
    closed.close();
    const lab = await gateway({ port, shown: own, trusted: authority.certificate });
    await expect(lab.invoke('work', event)).rejects.toMatchObject({
      name: 'ServiceException',
      message: 'The event could not be kept, and was not accepted.',
      $metadata: { httpStatusCode: 503 },
    });
    expect(payloadOf(await lab.invoke('work'))).toBe('{}');
    expect(lab.gateway.health()).toEqual({ ok: true });
    expect((await lab.gateway.metrics.page()).text).toContain('esb_gateway_event_store_up 0');
  });

  it('may have been kept where the role ends before the acknowledgement, and the caller is told so', async () => {
    const { authority, own, role: shown } = await authorityLab();
    const store = inThreadEventStore();
    const kept = Promise.withResolvers<void>();
    const stuck = {
      ...store,
      put: (...args: Parameters<EventStore['put']>) =>
        store.put(...args).then(() => {
          kept.resolve();
          return new Promise<void>(() => undefined);
        }),
    };
    const role = await roleLab(shown, authority.certificate, stuck);
    const lab = await gateway({ port: role.port, shown: own, trusted: authority.certificate, deadlineMs: 1_000 });
    const answer = expect(lab.invoke('work', event)).rejects.toMatchObject({
      message: 'Whether the event was kept is not known: it may run.',
      $metadata: { httpStatusCode: 503 },
    });
    await kept.promise;
    await answer;
    expect(store.load().events).toBe(1);
  });

  it('leave all connections to a role that gave no answer, as those of a dead node are', async () => {
    const { authority, own, role: shown } = await authorityLab();
    const store = inThreadEventStore();
    const together = Promise.withResolvers<void>();
    let kept = 0;
    const role = await roleLab(shown, authority.certificate, {
      ...store,
      async put(...args: Parameters<EventStore['put']>) {
        await store.put(...args);
        kept += 1;
        if (kept === 3) {
          together.resolve();
        }
        await together.promise;
      },
    });
    const way = await wayTo(role.port);
    const lab = await gateway({ port: way.port, shown: own, trusted: authority.certificate, deadlineMs: 1_000 });
    const threeAtOnce = () => Promise.all(Array.from({ length: 3 }, () => lab.invoke('work', event)));
    await threeAtOnce();
    expect(way.connections).toBe(3);
    way.loseAll();
    await expect(lab.invoke('work', event)).rejects.toMatchObject({ $metadata: { httpStatusCode: 503 } });
    expect((await threeAtOnce()).map(({ StatusCode }) => StatusCode)).toEqual([202, 202, 202]);
  });

  it('are refused as too many by a store that is full', async () => {
    const { authority, own, role: shown } = await authorityLab();
    const role = await roleLab(shown, authority.certificate, inThreadEventStore({ maxEvents: 1, maxBytes: 1 }));
    const lab = await gateway({ port: role.port, shown: own, trusted: authority.certificate });
    await expect(lab.invoke('work', event)).rejects.toMatchObject({
      name: 'TooManyRequestsException',
      $metadata: { httpStatusCode: 429 },
    });
    expect((await lab.gateway.metrics.page()).text).toContain('esb_gateway_event_store_up 1');
  });

  it('find the role ready where its disk is full, since an event has it look for room again', async () => {
    const { authority, role: shown } = await authorityLab();
    let reason: 'EventStoreDiskFull' | 'EventStoreLocked' = 'EventStoreDiskFull';
    const store: EventStore = {
      ...inThreadEventStore(),
      health: () => ({ ok: false, reason, message: 'on purpose' }),
    };
    const role = await roleLab(shown, authority.certificate, store);
    expect(role.gateway.health()).toEqual({ ok: true });
    reason = 'EventStoreLocked';
    expect(role.gateway.health()).toMatchObject({ ok: false, reason });
  });

  it('go to no server but the role of the namespace', async () => {
    const { authority, own } = await authorityLab();
    const others = await createCertificateAuthority();
    const posers: readonly (readonly [string, IssuedCertificate])[] = [
      ['a gateway of the same namespace', own],
      ['the role of another namespace', await authority.issueRole('shop')],
      ['a server', await authority.issueServer()],
      ['a role of another authority', await others.issueRole('default')],
    ];
    for (const [who, shown] of posers) {
      const store = inThreadEventStore();
      const role = await roleLab(shown, authority.certificate, store);
      const lab = await gateway({ port: role.port, shown: own, trusted: authority.certificate });
      await expect(lab.invoke('work', event), who).rejects.toMatchObject({ $metadata: { httpStatusCode: 503 } });
      expect(store.load().events, who).toBe(0);
    }
  });

  it('come from no client but a gateway of the namespace, by the authority of now', async () => {
    const { authority, own, role: shown } = await authorityLab();
    const others = await createCertificateAuthority();
    const store = inThreadEventStore();
    const role = await roleLab(shown, authority.certificate, store);
    const posers: readonly (readonly [string, IssuedCertificate])[] = [
      ['a gateway of another namespace', await authority.issueGateway(['shop'])],
      ['a gateway of no namespace', await authority.issueGateway([])],
      ['another client', await authority.issueClient('esb-agent', [])],
      ['a gateway of another authority', await others.issueGateway(['default'])],
    ];
    for (const [who, client] of posers) {
      const lab = await gateway({ port: role.port, shown: client, trusted: authority.certificate });
      await expect(lab.invoke('work', event), who).rejects.toMatchObject({ $metadata: { httpStatusCode: 503 } });
    }
    expect(store.load().events).toBe(0);

    const lab = await gateway({ port: role.port, shown: own, trusted: authority.certificate });
    expect((await lab.invoke('work', event)).StatusCode).toBe(202);
    const renewed = await others.issueRole('default');
    role.intake.configure({
      certificate: renewed.certificate,
      privateKey: renewed.key,
      clientAuthority: others.certificate,
    });
    // On the connection of before, too.
    await expect(lab.invoke('work', event)).rejects.toMatchObject({ $metadata: { httpStatusCode: 503 } });
  });

  it('find room where clients connect and never begin a handshake', async () => {
    const { authority, role: shown } = await authorityLab();
    const patience = { ...CLIENT_PATIENCE, headMs: 200 };
    const role = await roleLab(shown, authority.certificate, inThreadEventStore(), patience);
    const silent = connect(role.port, '127.0.0.1');
    onTestFinished(() => void silent.destroy());
    await once(silent.resume(), 'close');
  });

  it('go on by a certificate and an authority that are renewed', async () => {
    const { authority, own, role: shown } = await authorityLab();
    const role = await roleLab(shown, authority.certificate, inThreadEventStore());
    const next = await createCertificateAuthority();
    const renewed = await next.issueGateway(['default']);
    let identity = { certificate: own.certificate, privateKey: own.key };
    let trusted = authority.certificate;
    const lab = await gateway({
      port: role.port,
      shown: own,
      trusted,
      identity: () => identity,
      authority: () => trusted,
    });
    expect((await lab.invoke('work', event)).StatusCode).toBe(202);
    const roleNext = await next.issueRole('default');
    role.intake.configure({
      certificate: roleNext.certificate,
      privateKey: roleNext.key,
      clientAuthority: next.certificate,
    });
    identity = { certificate: renewed.certificate, privateKey: renewed.key };
    trusted = next.certificate;
    expect((await lab.invoke('work', event)).StatusCode).toBe(202);
  });

  it('wait in a bounded number for a role that says nothing', async () => {
    const { authority, own } = await authorityLab();
    const mute = createServer();
    const port = await listenOn(mute, { host: '127.0.0.1', port: 0 });
    onTestFinished(() => void mute.close());
    const keeper = new RemoteEventKeeper({
      address: { host: '127.0.0.1', port },
      namespace: 'default',
      identity: () => ({ certificate: own.certificate, privateKey: own.key }),
      authority: () => authority.certificate,
      logger: silentLogger(),
      connectMs: 200,
    });
    onTestFinished(() => keeper.stop());
    const call = (payload: Buffer) =>
      keeper.accept({
        reference: { name: 'work' },
        requestId: '11111111-2222-4333-8444-555555555555',
        payload,
        clientContext: '',
        tailLog: false,
        traceId: '',
        traceParent: '',
      });
    const waiting = Array.from({ length: 64 }, () => call(Buffer.alloc(2 ** 20)).catch(String));
    await expect(call(Buffer.from('{}'))).rejects.toThrow('Too many events wait');
    expect(await Promise.all(waiting)).toHaveLength(64);
    await expect(call(Buffer.from('{}'))).rejects.toThrow('was not accepted');
  });
});
