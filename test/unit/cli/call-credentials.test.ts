import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ensureInstanceKey } from '../../../local/instance/instance-key.ts';
import { callCredentials, provenHeaders, readInstanceKey } from '../../../src/cli/call-credentials.ts';
import { parseAccessKey } from '../../../src/gateway/access/access-keys.ts';
import { headerSignature } from '../../../src/gateway/access/signature.ts';
import { accessRequest, checkWhole } from '../../support/signed-request.ts';

async function keyFile(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-key-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  return join(folder, 'access-key.json');
}

const unsigned = {
  method: 'POST',
  url: 'http://127.0.0.1:9080/2015-03-31/functions/hello%3A%24LATEST/invocations?Qualifier=%24LATEST',
  headers: { 'x-amz-invocation-type': 'Event' },
  body: '{"a":1}',
};

describe('credentials of a call', () => {
  const aws = { AWS_ACCESS_KEY_ID: 'A', AWS_SECRET_ACCESS_KEY: 'B', AWS_SESSION_TOKEN: 'C' };

  it('are a token, else the key of the local instance, else that of the environment, else none', async () => {
    const file = await keyFile();
    expect(await callCredentials({}, file)).toEqual({ kind: 'none' });
    expect(await callCredentials({ AWS_ACCESS_KEY_ID: 'A' }, file)).toEqual({ kind: 'none' });
    const ofEnvironment = { kind: 'key', accessKeyId: 'A', secretAccessKey: 'B', sessionToken: 'C' };
    expect(await callCredentials(aws, file)).toEqual(ofEnvironment);
    const own = await ensureInstanceKey(file);
    expect(await callCredentials(aws, file)).toEqual({ kind: 'key', ...own });
    expect(await callCredentials(aws, undefined)).toEqual(ofEnvironment);
    expect(await callCredentials({ ...aws, ESB_TOKEN: 'T' }, file)).toEqual({ kind: 'token', token: 'T' });
  });

  it('of the local instance are made once and kept from others', async () => {
    const file = await keyFile();
    expect(await readInstanceKey(file)).toBeUndefined();
    const key = await ensureInstanceKey(file);
    expect(await ensureInstanceKey(file)).toEqual(key);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await writeFile(file, 'half');
    await expect(readInstanceKey(file)).rejects.toMatchObject({ code: 'InvalidState' });
  });
});

describe('headers of a call', () => {
  it('are left alone without credentials, and have the token with one', async () => {
    expect(await provenHeaders(unsigned, { kind: 'none' })).toEqual(unsigned.headers);
    expect(await provenHeaders(unsigned, { kind: 'token', token: 'T' })).toEqual({
      ...unsigned.headers,
      authorization: 'Bearer T',
    });
  });

  it('have a signature that the gateway takes', async () => {
    const key = await ensureInstanceKey(await keyFile());
    const headers = await provenHeaders(unsigned, { kind: 'key', ...key }, { AWS_REGION: 'eu-central-1' });
    expect(headers.authorization).toContain('/eu-central-1/lambda/aws4_request');
    const { pathname, search } = new URL(unsigned.url);
    const request = accessRequest('POST', `${pathname}${search}`, {}, headers, unsigned.body);
    const entry = JSON.stringify({ secretAccessKey: key.secretAccessKey, user: 'esb:admin' });
    expect(() =>
      checkWhole(request, headerSignature(request), parseAccessKey(key.accessKeyId, entry), Date.now()),
    ).not.toThrow();
  });
});
