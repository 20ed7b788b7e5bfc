import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../../src/common/clock.ts';
import { accessRequestOf } from '../../../../src/gateway/access/access.ts';
import { ClientCertificates } from '../../../../src/gateway/access/client-certificates.ts';
import { principalName } from '../../../../src/gateway/access/principal.ts';
import { createTlsServer, TlsFiles } from '../../../../src/gateway/http/tls-server.ts';
import {
  type CertificateAuthority,
  createCertificateAuthority,
  type IssuedCertificate,
} from '../../../support/certificate-authority.ts';
import { type LogLine, recordingLogger } from '../../../support/recording-logger.ts';

interface Lab {
  readonly servers: CertificateAuthority;
  readonly clients: CertificateAuthority;
  readonly files: TlsFiles;
  readonly lines: readonly LogLine[];
  write(name: 'tls.crt' | 'tls.key' | 'ca.crt', content: string): Promise<void>;
  /** Identity of the client in the server's view, and the name of the server's certificate. */
  ask(agent: Agent): Promise<{ readonly who: string; readonly authority: string; readonly port: number }>;
  /** Connections like those of an SDK. */
  agent(certificate?: IssuedCertificate, trusted?: readonly CertificateAuthority[]): Agent;
}

/** A server that answers each request with whom its certificate stands for. */
async function lab(): Promise<Lab> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-tls-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const [servers, clients] = [await createCertificateAuthority(), await createCertificateAuthority()];
  const write = (name: string, content: string): Promise<void> => writeFile(join(folder, name), content);
  const issued = await servers.issueServer();
  await write('tls.crt', issued.certificate);
  await write('tls.key', issued.key);
  await write('ca.crt', clients.certificate);
  const { logger, lines } = recordingLogger();
  const certificates = new ClientCertificates();
  const files: TlsFiles = await TlsFiles.open({
    paths: {
      certificate: join(folder, 'tls.crt'),
      privateKey: join(folder, 'tls.key'),
      clientAuthority: join(folder, 'ca.crt'),
    },
    clock: systemClock,
    logger,
    onChange: (material) => {
      certificates.trust(material.clientAuthorities);
      tls.renew(material);
    },
  });
  certificates.trust(files.current.clientAuthorities);
  const tls = createTlsServer(
    files.current,
    (request, response) => {
      const { connection } = accessRequestOf(request);
      try {
        const principal = connection === undefined ? undefined : certificates.identify(connection, Date.now());
        response.end(principal === undefined ? 'nobody' : principalName(principal));
      } catch (error) {
        response.end(error instanceof Error ? error.message : '');
      }
    },
    logger,
  );
  const listening = Promise.withResolvers<void>();
  tls.server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  const { port } = tls.server.address() as AddressInfo;
  onTestFinished(() => {
    tls.server.close();
    tls.server.closeAllConnections();
  });
  return {
    servers,
    clients,
    files,
    lines,
    write,
    async ask(agent) {
      const answered = Promise.withResolvers<IncomingMessage>();
      const sent = httpsRequest({ host: '127.0.0.1', port, agent, path: '/' }, answered.resolve);
      sent.on('error', answered.reject);
      sent.end();
      const answer = await answered.promise;
      const socket = answer.socket as TLSSocket;
      const authority = socket.getPeerX509Certificate()?.fingerprint256 ?? '';
      return { who: await text(answer), authority, port: socket.localPort ?? 0 };
    },
    agent(certificate, trusted = [servers]) {
      const agent = new Agent({
        keepAlive: true,
        ca: trusted.map((one) => one.certificate),
        ...(certificate === undefined ? {} : { cert: certificate.certificate, key: certificate.key }),
      });
      onTestFinished(() => agent.destroy());
      return agent;
    },
  };
}

describe('TLS server', () => {
  it('knows a client by its certificate: the user is the common name', async () => {
    const { ask, agent, clients } = await lab();
    const certificate = await clients.issueClient('carol', ['team']);
    expect((await ask(agent(certificate))).who).toBe('carol');
  });

  it('lets clients in without a certificate, and tells those with a wrong one why they are refused', async () => {
    const { ask, agent, servers, clients } = await lab();
    expect((await ask(agent())).who).toBe('nobody');
    const foreign = await servers.issueClient('carol', []);
    expect((await ask(agent(foreign))).who).toContain('is invalid');
    const unnamed = await clients.issueClient('', []);
    expect((await ask(agent(unnamed))).who).toContain('does not have one common name');
    // A certificate of a server, though of the right authority, is none of a client.
    const server = await clients.issueServer();
    expect((await ask(agent(server))).who).toContain('is invalid');
  });

  it('takes a new certificate without cutting a connection', async () => {
    const { ask, agent, files, servers, write, lines } = await lab();
    const kept = agent();
    const before = await ask(kept);
    const renewed = await servers.issueServer();
    await write('tls.crt', renewed.certificate);
    await files.look();
    expect(lines.at(-1)).toMatchObject({ level: 40 });
    // The key is still that of the old one: both are replaced only when they fit together.
    expect((await ask(agent())).authority).toBe(before.authority);
    await write('tls.key', renewed.key);
    await files.look();
    expect(lines.at(-1)).toMatchObject({ msg: 'took new TLS files' });
    const after = await ask(kept);
    expect(after).toEqual(before);
    expect((await ask(agent())).authority).not.toBe(before.authority);
  });

  it('takes no client any more whose authority was removed, also by a connection that it has already', async () => {
    const { ask, agent, files, clients, write } = await lab();
    const kept = agent(await clients.issueClient('carol', []));
    const before = await ask(kept);
    expect(before.who).toBe('carol');
    const next = await createCertificateAuthority();
    await write('ca.crt', next.certificate);
    await files.look();
    const after = await ask(kept);
    expect(after.port).toBe(before.port);
    expect(after.who).toContain('no authority that is trusted has signed it');
    expect((await ask(agent(await next.issueClient('dave', [])))).who).toBe('dave');
  });

  it('takes clients of old and new authority while both are in the file', async () => {
    const { ask, agent, files, clients, write } = await lab();
    const kept = agent(await clients.issueClient('carol', []));
    await ask(kept);
    const next = await createCertificateAuthority();
    await write('ca.crt', `${clients.certificate}\n${next.certificate}`);
    await files.look();
    expect((await ask(kept)).who).toBe('carol');
    expect((await ask(agent(await next.issueClient('dave', [])))).who).toBe('dave');
  });
});

describe('TLS files', () => {
  it('say at the start what is wrong with them', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'esb-tls-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const open = (): Promise<TlsFiles> =>
      TlsFiles.open({
        paths: { certificate: join(folder, 'tls.crt'), privateKey: join(folder, 'tls.key') },
        clock: systemClock,
        logger: recordingLogger().logger,
        onChange: () => undefined,
      });
    await expect(open()).rejects.toMatchObject({ code: 'InvalidCertificate' });
    const authority = await createCertificateAuthority();
    const [one, other] = [await authority.issueServer(), await authority.issueServer()];
    await writeFile(join(folder, 'tls.crt'), one.certificate);
    await writeFile(join(folder, 'tls.key'), other.key);
    await expect(open()).rejects.toMatchObject({ code: 'InvalidCertificate' });
    await writeFile(join(folder, 'tls.key'), one.key);
    expect((await open()).current.clientAuthorities).toEqual([]);
  });
});
