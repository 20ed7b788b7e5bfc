import 'reflect-metadata';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { describe, expect, it, onTestFinished } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { ClientIdentity } from '../../../../src/gateway/agents/client-identity.ts';
import type { CertificateSigningRequest } from '../../../../src/kube/api/resource-types.ts';
import { type ManualClock, manualClock, settle } from '../../../support/manual-clock.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';
import { waitFor } from '../../../support/wait-for.ts';

const day = 86_400_000;
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** An API server that keeps requests, and a signer that may be asked to answer them. */
async function lab(clock: ManualClock = manualClock(), givenFolder?: string, logger = silentLogger(), serves = false) {
  const folder = givenFolder ?? (await mkdtemp(join(tmpdir(), 'esb-identity-')));
  const requests = new Map<string, CertificateSigningRequest>();
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  let changes = 0;
  const identity = await ClientIdentity.open({
    folder,
    namespace: 'default',
    serves,
    client: {
      create: async (_type, object) => {
        requests.set(object.metadata.name, object as unknown as CertificateSigningRequest);
        return object;
      },
      get: async (_type, { name }) => requests.get(name) as never,
    },
    clock,
    logger,
    onChange: () => {
      changes += 1;
    },
  });
  const stop = new AbortController();
  const running = identity.run(stop.signal).catch(() => undefined);
  onTestFinished(async () => {
    stop.abort();
    await clock.advance(0);
    await running;
    await rm(folder, { recursive: true, force: true });
  });
  return {
    clock,
    folder,
    identity,
    requests,
    changes: () => changes,
    /** Waits for as many requests. */
    async asked(count: number): Promise<CertificateSigningRequest> {
      await waitFor('a request', async () => {
        await clock.advance(0);
        return requests.size === count;
      });
      const last = [...requests.values()].at(-1);
      if (last === undefined) {
        throw new Error('there is no request');
      }
      return last;
    },
    /** @param named whether the certificate has the names of the request */
    async sign(request: CertificateSigningRequest, lifetimeMs = day, named = true): Promise<void> {
      const parsed = new Pkcs10CertificateRequest(Buffer.from(request.spec.request, 'base64').toString());
      const certificate = await X509CertificateGenerator.create({
        subject: parsed.subject,
        issuer: 'CN=test',
        publicKey: await parsed.publicKey.export(),
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        notBefore: new Date(clock.now()),
        notAfter: new Date(clock.now() + lifetimeMs),
        extensions: [
          new ExtendedKeyUsageExtension([
            ExtendedKeyUsage.clientAuth,
            ...(request.spec.usages?.includes('server auth') === true ? [ExtendedKeyUsage.serverAuth] : []),
          ]),
          ...parsed.extensions.filter((each) => named && each instanceof SubjectAlternativeNameExtension),
        ],
      });
      const pem = certificate.toString('pem');
      requests.set(request.metadata.name, {
        ...request,
        status: { certificate: Buffer.from(pem).toString('base64') },
      });
    },
    /** Waits for as many certificates. The clock stands while the identity writes a file, which takes real time. */
    async answered(count: number): Promise<void> {
      await waitFor('the certificate', async () => {
        if (changes === count) {
          return true;
        }
        await clock.advance(clock.pending() === 0 ? 0 : 2_000);
        return changes === count;
      });
    },
  };
}

describe('ClientIdentity', () => {
  it('asks for a certificate, and keeps what it gets with its key', async () => {
    const { identity, asked, sign, answered, folder, clock } = await lab();
    expect(identity.current).toBeUndefined();
    const request = await asked(1);
    expect(request.metadata.name).toMatch(/^esb-gateway-[0-9a-f]{16}$/);
    expect(request.spec).toMatchObject({
      signerName: 'esb.dev/gateway-client',
      usages: ['digital signature', 'client auth'],
    });
    const parsed = new Pkcs10CertificateRequest(Buffer.from(request.spec.request, 'base64').toString());
    expect(parsed.subject).toBe('CN=esb-gateway');
    expect(await parsed.verify()).toBe(true);
    const names = parsed.extensions.find((each) => each instanceof SubjectAlternativeNameExtension)?.names;
    expect(names?.toJSON()).toEqual([{ type: 'url', value: 'esb://gateway/default' }]);
    await sign(request);
    await answered(1);
    expect(identity.current?.certificate).toMatch(/^-----BEGIN CERTIFICATE-----/);
    const file = join(folder, 'client.pem');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readFile(file, 'utf8')).toContain('-----BEGIN PRIVATE KEY-----');

    const again = await lab(clock, folder);
    expect(again.identity.current).toEqual(identity.current);
    expect(again.requests.size).toBe(0);
  });

  it('renews at two thirds of the lifetime', async () => {
    const { identity, asked, sign, answered, requests, clock } = await lab();
    await sign(await asked(1), 3 * 3_600_000);
    await answered(1);
    const first = identity.current;
    await clock.advance(1.9 * 3_600_000);
    expect(requests.size).toBe(1);
    await clock.advance(0.2 * 3_600_000);
    await sign(await asked(2));
    await answered(2);
    expect(identity.current?.certificate).not.toBe(first?.certificate);
  });

  it('does not ask at once again where what it is given is old already, as where clocks differ', async () => {
    const { asked, sign, answered, requests, clock } = await lab();
    await sign(await asked(1), 1);
    await answered(1);
    await clock.advance(50_000);
    expect(requests.size).toBe(1);
    await clock.advance(10_000);
    await sign(await asked(2));
    await answered(2);
  });

  it('asks again, later, when it was denied or its request deleted', async () => {
    const { asked, sign, answered, requests, clock } = await lab();
    const request = await asked(1);
    requests.set(request.metadata.name, {
      ...request,
      status: { conditions: [{ type: 'Denied', status: 'True', reason: 'No', message: 'not you' }] },
    });
    await clock.advance(5_000);
    const second = await asked(2);
    requests.delete(second.metadata.name);
    await clock.advance(5_000);
    await sign(await asked(2));
    await answered(1);
  });

  it('asks ever more seldom while every request is denied, and soon after one that failed otherwise', async () => {
    const { logger, lines } = recordingLogger();
    const { asked, sign, answered, requests, clock } = await lab(manualClock(), undefined, logger);
    const waits = () => lines.flatMap(({ retryMs }) => (typeof retryMs === 'number' ? [retryMs] : []));
    const fail = async (count: number, answer: (request: CertificateSigningRequest) => void) => {
      answer(await asked(count));
      const before = waits().length;
      await waitFor('the failure', async () => {
        await clock.advance(100);
        return waits().length > before;
      });
      await clock.advance(waits().at(-1) ?? 0);
    };
    for (let count = 1; count <= 12; count += 1) {
      await fail(count, (request) =>
        requests.set(request.metadata.name, {
          ...request,
          status: { conditions: [{ type: 'Denied', status: 'True', reason: 'No', message: 'not you' }] },
        }),
      );
    }
    expect(waits().slice(0, 3)).toEqual([500, 1_000, 2_000]);
    expect(waits().slice(-2)).toEqual([300_000, 300_000]);
    await fail(13, (request) => requests.delete(request.metadata.name));
    expect(waits().at(-1)).toBe(15_000);
    await sign(await asked(13));
    await answered(1);
  });

  it('asks for another one when agents keep refusing it, but not all the time', async () => {
    const { identity, asked, sign, answered, requests, clock } = await lab();
    await sign(await asked(1));
    await answered(1);
    await clock.advance(70_000);
    identity.refused();
    identity.refused();
    identity.accepted();
    identity.refused();
    await settle();
    expect(requests.size).toBe(1);
    identity.refused();
    identity.refused();
    await sign(await asked(2));
    await answered(2);
    for (let attempt = 0; attempt < 10; attempt += 1) {
      identity.refused();
    }
    await clock.advance(30_000);
    expect(requests.size).toBe(2);
  });

  it('asks for a certificate with its namespace where what it is given names none, ever more seldom', async () => {
    const { identity, asked, sign, answered, folder, requests, clock } = await lab();
    await sign(await asked(1), 30 * day, false);
    await answered(1);
    expect(identity.current).toBeDefined();
    await clock.advance(59_000);
    expect(requests.size).toBe(1);
    await clock.advance(60_000);
    await sign(await asked(2), 30 * day, false);
    await answered(2);
    await clock.advance(100_000);
    expect(requests.size).toBe(2);
    const again = await lab(clock, folder);
    expect(again.identity.current).toEqual(identity.current);
    await again.sign(await again.asked(1), 30 * day);
    await again.answered(1);
    await clock.advance(4_000_000);
    expect(again.requests.size).toBe(1);
  });

  it('of a role that takes over the folder of a gateway is asked for anew, since a server shows it', async () => {
    const { asked, sign, answered, folder, clock } = await lab();
    await sign(await asked(1), 30 * day);
    await answered(1);
    const role = await lab(clock, folder, silentLogger(), true);
    const request = await role.asked(1);
    expect(role.identity.current).toBeDefined();
    expect(role.identity.fitting).toBeUndefined();
    expect(request.spec.usages).toEqual(['digital signature', 'client auth', 'server auth']);
    await role.sign(request, 30 * day);
    await role.answered(1);
    expect(role.identity.fitting).toEqual(role.identity.current);
    await clock.advance(4_000_000);
    expect(role.requests.size).toBe(1);
  });

  it('keeps what it has when it is given something that is no certificate, or one for another key', async () => {
    const { identity, asked, sign, answered, requests, clock } = await lab();
    const first = await asked(1);
    requests.set(first.metadata.name, {
      ...first,
      status: { certificate: Buffer.from('nonsense').toString('base64') },
    });
    await clock.advance(5_000);
    const second = await asked(2);
    await sign(first);
    const { status } = requests.get(first.metadata.name) ?? {};
    requests.set(second.metadata.name, { ...second, ...(status === undefined ? {} : { status }) });
    await clock.advance(5_000);
    const third = await asked(3);
    expect(identity.current).toBeUndefined();
    await sign(third);
    await answered(1);
  });

  it.each([
    ['cannot be read', 'nonsense'],
    ['is empty', ''],
  ])('starts anew when what it kept %s', async (_what, text) => {
    const folder = await mkdtemp(join(tmpdir(), 'esb-identity-'));
    await writeFile(join(folder, 'client.pem'), text);
    const { identity, asked } = await lab(manualClock(), folder);
    expect(identity.current).toBeUndefined();
    await asked(1);
  });
});
