import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import { type AccessFlags, createGatewayAccess, type GatewayAccess } from '../../../src/gateway/gateway-access.ts';
import { type Secret, secrets } from '../../../src/kube/api/resource-types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { gatewayFlags } from '../../../src/options/gateway.ts';
import { type FakeApiServer, startFakeApiServer } from '../../support/fake-api-server.ts';
import { optionsOf } from '../../support/options.ts';
import { type LogLine, recordingLogger } from '../../support/recording-logger.ts';
import { authenticate, type Signer, signedRequest } from '../../support/signed-request.ts';
import { waitFor } from '../../support/wait-for.ts';

const alice: Signer = { accessKeyId: 'ALICE', secretAccessKey: 'a-secret-of-forty-characters-0123456789a' };
const flags = optionsOf(gatewayFlags, []);
const open = optionsOf(gatewayFlags, ['--authentication', 'off']);

interface Lab {
  readonly api: FakeApiServer;
  readonly lines: readonly LogLine[];
  create(flags: AccessFlags): Promise<GatewayAccess>;
}

async function lab(): Promise<Lab> {
  const api = await startFakeApiServer();
  const client = createKubeClient({ source: api.source });
  onTestFinished(async () => {
    await client.close();
    await api.stop();
  });
  const { logger, lines } = recordingLogger();
  return {
    api,
    lines,
    async create(chosen) {
      const access = await createGatewayAccess({
        flags: chosen,
        namespace: 'default',
        client,
        clock: systemClock,
        logger,
        isApiServerAway: () => false,
      });
      onTestFinished(() => access.stop());
      return access;
    },
  };
}

function secret(name: string, key: Signer): Secret {
  const entry = JSON.stringify({ secretAccessKey: key.secretAccessKey, user: name });
  return {
    metadata: { name, namespace: 'default' },
    data: { [key.accessKeyId]: Buffer.from(entry).toString('base64') },
  };
}

describe('access to a gateway', () => {
  it('is by the keys of the one Secret, once they have been read', async () => {
    const { api, create } = await lab();
    api.put(secrets, secret('others', { ...alice, accessKeyId: 'OTHER' }));
    api.put(secrets, secret('esb-access-keys', alice));
    const { access, health, start } = await create(flags);
    expect(health()).toMatchObject({ ok: false, reason: 'NoAccessKeys' });
    const early = await signedRequest(alice);
    expect(() => authenticate(access, early)).toThrow('cannot be read');
    start({ host: '127.0.0.1', port: 0 });
    await waitFor('the keys', () => health().ok, { everyMs: 5 });
    expect(authenticate(access, await signedRequest(alice))).toMatchObject({
      user: 'esb-access-keys',
    });
    const list = api.requests.find(({ path }) => path === '/api/v1/namespaces/default/secrets');
    expect(list?.query.get('fieldSelector')).toBe('metadata.name=esb-access-keys');
  });

  it('is open without authentication, and nothing is read then', async () => {
    const { api, create } = await lab();
    const { access, health, start } = await create(open);
    start({ host: '127.0.0.1', port: 0 });
    expect(await access.identify(await signedRequest(alice))).toMatchObject({
      principal: { kind: 'Anonymous' },
    });
    expect(health()).toEqual({ ok: true });
    expect(api.requests).toEqual([]);
  });

  it.each<[string, AccessFlags, string, number]>([
    ['authentication off, for others to reach', open, '', 1],
    ['no TLS, for others to reach', flags, '', 1],
    ['authentication off, on the loopback', open, '127.0.0.1', 0],
    ['no TLS, on the loopback', flags, '::1', 0],
  ])('warns of what is unsafe and of nothing else: %s', async (_what, chosen, host, warnings) => {
    const { create, lines } = await lab();
    const { start } = await create(chosen);
    start({ host, port: 9080 });
    expect(lines.filter(({ level }) => level === 40)).toHaveLength(warnings);
  });

  it.each<[string, readonly string[], string]>([
    ['a certificate without its key', ['--tls-cert', '/nowhere/tls.crt'], 'InvalidArgument'],
    ['authorities of clients without TLS', ['--client-ca', '/nowhere/ca.crt'], 'InvalidArgument'],
    [
      'files that are not there',
      ['--tls-cert', '/nowhere/tls.crt', '--tls-key', '/nowhere/tls.key'],
      'InvalidCertificate',
    ],
  ])('is refused with %s', async (_what, wrong, code) => {
    const { create } = await lab();
    await expect(create(optionsOf(gatewayFlags, wrong))).rejects.toMatchObject({ code });
  });
});
