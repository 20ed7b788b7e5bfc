import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../../src/agent/model/desired-worker.ts';
import type { SecretReader } from '../../../../src/agent/model/secret-reader.ts';
import { resolveSecrets } from '../../../../src/agent/secrets/resolve-secrets.ts';
import { secretForbidden } from '../../../../src/agent/secrets/secret-cache.ts';
import { EsbError } from '../../../../src/common/errors.ts';
import { desiredFixture } from '../../../support/fleet-lab.ts';

const config = '{"auths":{"registry.example":{}}}';

/** Secrets by `name/key`; an error is what reading one comes to. */
function reader(values: Readonly<Record<string, string | Error>>): SecretReader & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    read(_namespace, name, key) {
      asked.push(`${name}/${key}`);
      const value = values[`${name}/${key}`];
      return value instanceof Error ? Promise.reject(value) : Promise.resolve(value);
    },
  };
}

const forbidden = (name: string): EsbError =>
  secretForbidden({ namespace: 'default', name }, { kind: 'ServiceAccount', namespace: 'esb-system' }, undefined);
const worker = (change: Partial<DesiredWorker>): DesiredWorker => desiredFixture(change);

describe('the variables of a worker', () => {
  const variable = (optional?: boolean) => ({
    env: [
      { name: 'PLAIN', value: 'x' },
      { name: 'S', secret: { name: 's', key: 'k', ...(optional === undefined ? {} : { optional }) } },
    ],
  });

  it('have the values of their Secrets', async () => {
    const shape = await resolveSecrets(worker(variable()), reader({ 's/k': 'value' }));
    expect(shape.env).toEqual([
      { name: 'PLAIN', value: 'x' },
      { name: 'S', value: 'value' },
    ]);
  });

  it('are left out without their Secret where that is allowed, and told of where it is not', async () => {
    expect((await resolveSecrets(worker(variable(true)), reader({}))).env).toEqual([{ name: 'PLAIN', value: 'x' }]);
    await expect(resolveSecrets(worker(variable()), reader({}))).rejects.toMatchObject({
      code: 'SecretMissing',
      message: expect.stringContaining('the variable S needs the key k of the Secret default/s') as string,
    });
  });

  it('of a Secret that is not granted are told of as such, also where they may be left out', async () => {
    const secrets = reader({ 's/k': forbidden('s') });
    await expect(resolveSecrets(worker(variable(true)), secrets)).rejects.toMatchObject({
      code: 'SecretForbidden',
      message: expect.stringContaining('kubectl -n default create role esb-secret-s') as string,
    });
  });

  it('of a Secret that cannot be read are told of as such', async () => {
    const secrets = reader({ 's/k': new EsbError('timed out', { code: 'DeadlineExceeded' }) });
    await expect(resolveSecrets(worker(variable()), secrets)).rejects.toMatchObject({
      code: 'SecretUnreadable',
      retryable: true,
    });
  });
});

describe('the pull secrets of a worker', () => {
  const names = { imagePullSecrets: ['a', 'b', 'old'] };

  it('are not read before the image is pulled', async () => {
    const secrets = reader({ 'a/.dockerconfigjson': config, 'old/.dockercfg': '{"r":{}}' });
    const { image } = await resolveSecrets(worker(names), secrets);
    expect(secrets.asked).toEqual([]);
    expect(await image.pullSecrets?.({})).toEqual({
      configs: [config, '{"auths":{"r":{}}}'],
      missing: ['b'],
    });
  });

  it('are none where the resource names none', async () => {
    expect((await resolveSecrets(worker({}), reader({}))).image.pullSecrets).toBeUndefined();
  });

  it('that are not granted are told of with the way to grant them', async () => {
    const { image } = await resolveSecrets(worker(names), reader({ 'b/.dockerconfigjson': forbidden('b') }));
    await expect(image.pullSecrets?.({})).rejects.toMatchObject({
      code: 'PullSecretForbidden',
      message: expect.stringMatching(/^spec\.imagePullSecrets: .*--resource-name=b /) as string,
    });
  });

  it('that cannot be read are told of as such', async () => {
    const { image } = await resolveSecrets(
      worker(names),
      reader({ 'b/.dockerconfigjson': new EsbError('timed out', { code: 'DeadlineExceeded' }) }),
    );
    await expect(image.pullSecrets?.({})).rejects.toMatchObject({ code: 'PullSecretUnreadable' });
  });
});
