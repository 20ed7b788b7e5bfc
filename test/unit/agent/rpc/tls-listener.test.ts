import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { describe, expect, it, onTestFinished } from 'vitest';
import { TlsListener, type TlsListenerOptions } from '../../../../src/agent/rpc/tls-listener.ts';
import { systemClock } from '../../../../src/common/clock.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { createCertificateAuthority } from '../../../support/certificate-authority.ts';
import { waitFor } from '../../../support/wait-for.ts';

async function listener(options: Partial<TlsListenerOptions> = {}) {
  const authority = await createCertificateAuthority();
  const shown = await authority.issueServer();
  const issued = await authority.issueGateway(['default']);
  const made = new TlsListener({
    logger: silentLogger(),
    clock: systemClock,
    onConnection: () => undefined,
    ...options,
  });
  const { port } = await made.bind({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => made.close());
  made.configure({
    certificate: shown.certificate,
    privateKey: shown.key,
    clientAuthority: authority.certificate,
  });
  const follow = (socket: Socket): Socket => {
    socket.on('error', () => undefined);
    onTestFinished(() => void socket.destroy());
    return socket.resume();
  };
  return {
    made,
    silent: () => follow(connectTcp(port, '127.0.0.1')),
    gateway: async (): Promise<Socket> => {
      const socket = connectTls({
        host: '127.0.0.1',
        port,
        key: issued.key,
        cert: issued.certificate,
        ca: authority.certificate,
        ALPNProtocols: ['h2'],
        servername: 'localhost',
      });
      follow(socket);
      await once(socket, 'secureConnect');
      return socket;
    },
  };
}

describe("the agent's door", () => {
  it('closes the connection of a client that does not come to its certificate', async () => {
    const { silent } = await listener({ handshakeMs: 50 });
    await once(silent(), 'close');
  });

  it('is idle once its last client is gone, also where that resets its connection', async () => {
    const taken = Promise.withResolvers<TLSSocket>();
    const { made, gateway } = await listener({ onConnection: taken.resolve });
    await gateway();
    const connection = await taken.promise;
    const idle = made.idle();
    connection.destroy(new Error('read ECONNRESET'));
    await idle;
  });

  it('takes so many connections and no more, and others once these are gone', async () => {
    const { silent, gateway } = await listener({ maxConnections: 2 });
    const first = await gateway();
    const second = await gateway();
    await once(silent(), 'close');
    expect([first.closed, second.closed]).toEqual([false, false]);
    first.destroy();
    await waitFor(
      'another to be let in',
      () =>
        gateway().then(
          () => true,
          () => false,
        ),
      { everyMs: 5 },
    );
  });

  it('takes so many connections of one address, and others once these are gone', async () => {
    const { silent, gateway } = await listener({ maxConnectionsPerAddress: 2 });
    const first = await gateway();
    const second = await gateway();
    await once(silent(), 'close');
    expect([first.closed, second.closed]).toEqual([false, false]);
    first.destroy();
    await waitFor(
      'another to be let in',
      () =>
        gateway().then(
          () => true,
          () => false,
        ),
      { everyMs: 5 },
    );
  });
});
