import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } from '@peculiar/x509';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../../src/common/clock.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { advanceAuthority } from '../../../../src/controller/certificates/ca.ts';
import { requestStep, signRequest } from '../../../../src/controller/certificates/csr-signer.ts';
import type { CertificateSigningRequest, LocalSubjectAccessReview } from '../../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../../src/kube/api/types.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

const request = (
  spec: Partial<CertificateSigningRequest['spec']> = {},
  conditions: readonly string[] = [],
  certificate?: string,
): CertificateSigningRequest => ({
  metadata: { name: 'esb-gateway-1' },
  spec: {
    signerName: 'esb.dev/gateway-client',
    request: '',
    usages: ['client auth', 'digital signature'],
    username: 'esb:gateway',
    ...spec,
  },
  status: {
    conditions: conditions.map((type) => ({ type, status: 'True' })),
    ...(certificate === undefined ? {} : { certificate }),
  },
});

/** PEM of a request, in base64 as the API server has it. */
async function pem(names: readonly { type: 'url' | 'dns'; value: string }[]): Promise<string> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const made = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=esb-gateway',
    keys,
    signingAlgorithm: algorithm,
    ...(names.length === 0 ? {} : { extensions: [new SubjectAlternativeNameExtension([...names])] }),
  });
  return Buffer.from(made.toString('pem')).toString('base64');
}

/** An API server where `serves` says who may serve what, and what became of the request there. */
async function settled(asked: CertificateSigningRequest, serves: Readonly<Record<string, readonly string[]>> = {}) {
  const authority = await advanceAuthority(undefined, Date.now());
  let now = asked;
  const reviewed: string[] = [];
  const client = {
    create: async (_type: unknown, { spec }: LocalSubjectAccessReview) => {
      const { namespace = '', verb, group, resource } = spec.resourceAttributes ?? {};
      reviewed.push(`${verb} ${resource}.${group} in ${namespace}`);
      return {
        metadata: { name: '' },
        spec,
        status: { allowed: serves[spec.user ?? '']?.includes(namespace) === true },
      };
    },
    update: async (_type: unknown, object: CertificateSigningRequest) => {
      now = object;
      return object;
    },
  };
  const standing = await signRequest(asked, {
    client: client as unknown as KubeClient,
    authority: () => authority.current,
    clock: systemClock,
    logger: silentLogger(),
  });
  const certificate = Buffer.from(now.status?.certificate ?? '', 'base64').toString();
  return {
    standing,
    reviewed,
    conditions: now.status?.conditions ?? [],
    names: certificate === '' ? undefined : new X509Certificate(certificate).subjectAltName,
  };
}

const uri = (namespace: string) => ({ type: 'url' as const, value: `esb://gateway/${namespace}` });

describe('signRequest', () => {
  it('signs for whoever may serve the namespaces that the request names, and names them', async () => {
    const asked = request({ request: await pem([uri('shop'), uri('pay')]), username: 'g' });
    const { standing, reviewed, conditions, names } = await settled(asked, { g: ['shop', 'pay', 'other'] });
    expect(standing).toBe('settled');
    expect(reviewed).toEqual(['serve lambdaworkers.esb.dev in shop', 'serve lambdaworkers.esb.dev in pay']);
    expect(conditions.map(({ type }) => type)).toEqual(['Approved']);
    expect(names).toBe('URI:esb://gateway/shop, URI:esb://gateway/pay');
  });

  it('leaves the approval of everything else to people', async () => {
    const asked = request({ request: await pem([uri('shop'), uri('pay')]), username: 'g' });
    expect(await settled(asked, { g: ['shop'], other: ['pay'] })).toMatchObject({
      standing: 'unapproved',
      conditions: [],
      names: undefined,
    });
    const approved = { ...asked, status: { conditions: [{ type: 'Approved', status: 'True' }] } };
    expect(await settled(approved)).toMatchObject({
      standing: 'settled',
      reviewed: [],
      names: 'URI:esb://gateway/shop, URI:esb://gateway/pay',
    });
  });

  it.each([
    ['no namespace', []],
    ['anything else', [uri('shop'), { type: 'dns' as const, value: 'shop' }]],
    ['what is no namespace', [uri('shop/../pay')]],
    ['too many namespaces', Array.from({ length: 17 }, (_, index) => uri(`n${index}`))],
  ])('refuses a request that names %s, whoever approved it', async (_what, names) => {
    const asked = request({ request: await pem(names), username: 'g' }, ['Approved']);
    const { standing, conditions, names: signed } = await settled(asked, { g: ['shop'] });
    expect(standing).toBe('settled');
    expect(signed).toBeUndefined();
    expect(conditions.at(-1)).toMatchObject({
      type: 'Failed',
      message: expect.stringContaining('esb://gateway/'),
    });
  });

  it.each(['', 'bm90aGluZw==', 'x'.repeat(5_000)])('refuses what is no request: %s', async (text) => {
    const { standing, conditions } = await settled(request({ request: text }));
    expect(standing).toBe('settled');
    expect(conditions.at(-1)?.type).toBe('Failed');
  });
});

describe('requestStep', () => {
  it('leaves alone what is settled, and what is for another signer', () => {
    expect(requestStep(request({}, ['Denied'])).kind).toBe('nothing');
    expect(requestStep(request({}, ['Failed'])).kind).toBe('nothing');
    expect(requestStep(request({}, ['Approved'], 'PEM')).kind).toBe('nothing');
    expect(requestStep(request({ signerName: 'kubernetes.io/kube-apiserver-client' })).kind).toBe('nothing');
  });

  it.each([[['server auth']], [['client auth', 'code signing']], [['digital signature']], [[]]])(
    'refuses the usages %j',
    (usages) => {
      expect(requestStep(request({ usages })).kind).toBe('refuse');
    },
  );

  it('lets a gateway be a server too: the role that keeps events', () => {
    expect(requestStep(request({ usages: ['client auth', 'server auth'] })).kind).toBe('sign');
  });
});
