import { X509Certificate } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parse } from 'yaml';
import { kubeconfigText } from '../../../../local/instance/kubeconfig.ts';
import { openPki } from '../../../../local/instance/pki.ts';

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-pki-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}

describe('the certificates of an instance', () => {
  it('name the user and its groups, and are signed by one authority', async () => {
    const pki = await openPki(await temporaryFolder());
    const { certificate } = await pki.client('agent', { user: 'esb:agent:node-1', groups: ['esb:agents'] });
    const parsed = new X509Certificate(certificate);
    expect(parsed.subject.split('\n').sort()).toEqual(['CN=esb:agent:node-1', 'O=esb:agents']);
    expect(parsed.verify(new X509Certificate(pki.authority).publicKey)).toBe(true);
  });

  it('are made once', async () => {
    const folder = await temporaryFolder();
    const first = await openPki(folder);
    const client = await first.client('admin', { user: 'admin', groups: ['system:masters'] });
    const second = await openPki(folder);
    expect(second.authority).toBe(first.authority);
    expect(await second.client('admin', { user: 'admin', groups: ['system:masters'] })).toEqual(client);
  });

  it('stand in a kubeconfig that needs no other file', () => {
    const text = kubeconfigText({
      server: 'https://127.0.0.1:6443',
      authority: 'AUTHORITY',
      user: 'esb:gateway',
      client: { certificate: 'CERTIFICATE', key: 'KEY' },
    });
    expect(parse(text)).toMatchObject({
      clusters: [{ cluster: { 'certificate-authority-data': Buffer.from('AUTHORITY').toString('base64') } }],
      users: [{ name: 'esb:gateway', user: { 'client-key-data': Buffer.from('KEY').toString('base64') } }],
      'current-context': 'esb',
    });
  });
});
