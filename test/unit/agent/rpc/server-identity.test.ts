import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ClientAuthority } from '../../../../src/agent/rpc/client-authority.ts';
import { ServerIdentity } from '../../../../src/agent/rpc/server-identity.ts';
import type { AgentSubject } from '../../../../src/agent/secrets/secret-cache.ts';
import { createSecretCache } from '../../../../src/agent/secrets/secret-cache.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import { createCertificateAuthority } from '../../../support/certificate-authority.ts';
import { manualClock } from '../../../support/manual-clock.ts';

const day = 24 * 60 * 60 * 1000;

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'esb-agent-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

describe("the agent's own certificate", () => {
  it('is for the name of the node and outlives a restart', async () => {
    const options = { folder: folder(), nodeName: 'node-1', clock: manualClock(), logger: silentLogger() };
    const first = await ServerIdentity.open(options);
    expect(new X509Certificate(first.current.certificate).checkHost('node-1')).toBe('node-1');
    const second = await ServerIdentity.open(options);
    expect(second.current).toEqual(first.current);
    const renamed = await ServerIdentity.open({ ...options, nodeName: 'node-2' });
    expect(renamed.current).not.toEqual(first.current);
  });

  it('is made anew when its file is broken', async () => {
    const options = { folder: folder(), nodeName: 'node-1', clock: manualClock(), logger: silentLogger() };
    writeFileSync(join(options.folder, 'server.pem'), 'rubbish');
    const identity = await ServerIdentity.open(options);
    expect(identity.current.certificate).toMatch(/^-----BEGIN CERTIFICATE-----/);
  });

  it('publishes its successor a day before it uses it', async () => {
    const clock = manualClock();
    const identity = await ServerIdentity.open({
      folder: folder(),
      nodeName: 'node-1',
      clock,
      logger: silentLogger(),
    });
    const { current } = identity;
    clock.step(340 * day);
    expect(await identity.refresh()).toBe(true);
    expect(identity.current).toEqual(current);
    expect(identity.published.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    expect(await identity.refresh()).toBe(false);
    clock.step(1.1 * day);
    expect(await identity.refresh()).toBe(true);
    expect(identity.current).not.toEqual(current);
    expect(identity.published).toBe(identity.current.certificate);
  });

  it('is replaced at once when a step of the clock left it useless', async () => {
    const clock = manualClock();
    const identity = await ServerIdentity.open({
      folder: folder(),
      nodeName: 'node-1',
      clock,
      logger: silentLogger(),
    });
    const { current } = identity;
    clock.step(-100 * day);
    expect(await identity.refresh()).toBe(true);
    expect(identity.current).not.toEqual(current);
  });
});

describe('the client authority', () => {
  it('is told when it changes, kept over a restart, and never replaced by rubbish', async () => {
    const file = join(folder(), 'sub', 'client-ca.pem');
    const changes: string[] = [];
    const options = { file, logger: silentLogger(), onChange: (pem: string) => changes.push(pem) };
    const authority = await ClientAuthority.open(options);
    expect(authority.pem).toBeUndefined();
    const { certificate } = await createCertificateAuthority();
    await authority.update(certificate);
    await authority.update(certificate);
    await authority.update('rubbish');
    expect(changes).toEqual([certificate]);
    expect((await ClientAuthority.open(options)).pem).toBe(certificate);
  });
});

describe('secrets', () => {
  it('are read from the server, and as they were while it is away', async () => {
    const path = folder();
    let answer = async (): Promise<object | undefined> => ({
      metadata: { name: 's' },
      data: { key: Buffer.from('value').toString('base64') },
    });
    const open = () =>
      createSecretCache({
        client: { get: () => answer() as never },
        folder: path,
        agents: { kind: 'Users' },
        logger: silentLogger(),
      });
    expect(await open().read('default', 's', 'key')).toBe('value');
    expect(await open().read('default', 's', 'other')).toBeUndefined();
    answer = () => Promise.reject(ApiError.unreachable('get', new Error('refused')));
    expect(await open().read('default', 's', 'key')).toBe('value');
    expect(await open().read('default', 's', 'other')).toBeUndefined();
    await expect(open().read('default', 'other', 'key')).rejects.toMatchObject({ code: 'Unreachable' });
    answer = async () => undefined;
    expect(await open().read('default', 's', 'key')).toBeUndefined();
  });

  it('that are gone or not granted any more are forgotten, also for while the server is away', async () => {
    const secret = { metadata: { name: 's' }, data: { key: Buffer.from('value').toString('base64') } };
    const away = () => Promise.reject(ApiError.unreachable('get', new Error('refused')));
    const forbidden = () => Promise.reject(ApiError.fromAnswer('get', 403, ''));
    let answer: () => Promise<object | undefined> = async () => secret;
    const reader = createSecretCache({
      client: { get: () => answer() as never },
      folder: folder(),
      agents: { kind: 'Users' },
      logger: silentLogger(),
    });
    const read = () => reader.read('shop', 's', 'key');
    for (const loss of [forbidden, async () => undefined]) {
      answer = async () => secret;
      expect(await read()).toBe('value');
      answer = loss;
      await read().catch(() => undefined);
      answer = away;
      if (loss === forbidden) {
        await expect(read()).rejects.toMatchObject({ code: 'Unreachable' });
      } else {
        expect(await read()).toBeUndefined();
      }
    }
  });

  it('that no worker names any more are not kept', async () => {
    let answer: () => Promise<object | undefined> = async () => ({
      metadata: { name: 's' },
      data: { key: Buffer.from('value').toString('base64') },
    });
    const reader = createSecretCache({
      client: { get: () => answer() as never },
      folder: folder(),
      agents: { kind: 'Users' },
      logger: silentLogger(),
    });
    await reader.keepOnly([]);
    await reader.read('shop', 'kept', 'key');
    await reader.read('shop', 'dropped', 'key');
    await reader.keepOnly([{ namespace: 'shop', name: 'kept' }]);
    answer = () => Promise.reject(ApiError.unreachable('get', new Error('refused')));
    expect(await reader.read('shop', 'kept', 'key')).toBe('value');
    await expect(reader.read('shop', 'dropped', 'key')).rejects.toMatchObject({ code: 'Unreachable' });
  });

  it.each<[AgentSubject, string]>([
    [{ kind: 'ServiceAccount', namespace: 'lambda' }, '--serviceaccount=lambda:esb-agent'],
    [{ kind: 'Users' }, '--group=esb:agents'],
  ])('that are not granted are told with the commands that grant them to %j alone', async (agents, subject) => {
    const reader = createSecretCache({
      client: { get: () => Promise.reject(ApiError.fromAnswer('get', 403, '')) },
      folder: folder(),
      agents,
      logger: silentLogger(),
    });
    await expect(reader.read('shop', 'regcred', 'key')).rejects.toMatchObject({
      code: 'SecretForbidden',
      retryable: true,
      message:
        'the agent may not read the Secret shop/regcred: there is no Role with a RoleBinding in the namespace shop ' +
        'that allows it. Make both, called esb-secret-regcred: ' +
        'kubectl -n shop create role esb-secret-regcred --verb=get --resource=secrets --resource-name=regcred && ' +
        'kubectl -n shop create rolebinding esb-secret-regcred --role=esb-secret-regcred ' +
        subject,
    });
  });
});
