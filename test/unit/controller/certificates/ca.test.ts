import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } from '@peculiar/x509';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  type Authority,
  advanceAuthority,
  authorityStep,
  bundleOf,
  readGatewayRequest,
  signGatewayRequest,
} from '../../../../src/controller/certificates/ca.ts';

const day = 86_400_000;
const start = Date.UTC(2026, 10, 14);
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const countOf = (bundle: string): number => bundle.split('BEGIN CERTIFICATE').length - 1;

async function request(name: string): Promise<string> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const made = await Pkcs10CertificateRequestGenerator.create({
    name,
    keys,
    signingAlgorithm: algorithm,
    extensions: [new SubjectAlternativeNameExtension([{ type: 'url', value: 'esb://gateway/default' }])],
  });
  return made.toString('pem');
}

describe('the authority of gateways', () => {
  let first: Authority;

  beforeAll(async () => {
    first = await advanceAuthority(undefined, start);
  });

  it('is made once', () => {
    expect(authorityStep(undefined, start)).toBe('create');
    expect(authorityStep(first, start)).toBe('none');
    expect(authorityStep(first, start + 200 * day)).toBe('none');
    expect(countOf(bundleOf(first))).toBe(1);
  });

  it('publishes its successor long before it signs, and is trusted until it has run out', async () => {
    const late = start + 250 * day;
    expect(authorityStep(first, late)).toBe('announce');
    const announced = await advanceAuthority(first, late);
    expect(announced.current).toEqual(first.current);
    expect(countOf(bundleOf(announced))).toBe(2);
    expect(authorityStep(announced, late + 6 * day)).toBe('none');
    expect(authorityStep(announced, late + 8 * day)).toBe('promote');
    const promoted = await advanceAuthority(announced, late + 8 * day);
    expect(promoted.current).toEqual(announced.next);
    expect(promoted.former).toEqual([first.current.certificate]);
    expect(countOf(bundleOf(promoted))).toBe(2);
    expect(authorityStep(promoted, late + 9 * day)).toBe('none');
    expect(authorityStep(promoted, start + 366 * day)).toBe('forget');
    expect((await advanceAuthority(promoted, start + 366 * day)).former).toEqual([]);
  });

  it('is made anew when it has run out, is not valid yet, or makes no sense', async () => {
    expect(authorityStep(first, start + 400 * day)).toBe('create');
    expect(authorityStep(first, start - 2 * day)).toBe('create');
    expect(authorityStep({ current: { certificate: 'x', privateKey: 'y' }, former: [] }, start)).toBe('create');
    const announced = await advanceAuthority(first, start + 250 * day);
    expect(authorityStep(announced, start + 366 * day)).toBe('promote');
  });

  it('signs for gateways alone, for a day where nothing else is asked', async () => {
    const asked = await readGatewayRequest(await request('CN=esb-gateway'));
    const pem = await signGatewayRequest(first.current, asked, start);
    const certificate = new X509Certificate(pem);
    expect(certificate.subject).toBe('CN=esb-gateway');
    expect(certificate.subjectAltName).toBe('URI:esb://gateway/default');
    expect(certificate.ca).toBe(false);
    expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
    expect(certificate.verify(new X509Certificate(first.current.certificate).publicKey)).toBe(true);
    expect(certificate.validToDate.getTime()).toBe(start + day);
  });

  it('signs for a gateway that is a server too where that is asked', async () => {
    const asked = await readGatewayRequest(await request('CN=esb-gateway'));
    const pem = await signGatewayRequest(first.current, asked, start, { serves: true });
    expect(new X509Certificate(pem).keyUsage).toEqual(['1.3.6.1.5.5.7.3.2', '1.3.6.1.5.5.7.3.1']);
  });

  it('keeps the validity within bounds and within its own', async () => {
    const until = async (now: number, seconds: number) => {
      const asked = await readGatewayRequest(await request('CN=esb-gateway'));
      const pem = await signGatewayRequest(first.current, asked, now, { expirationSeconds: seconds });
      return new X509Certificate(pem).validToDate.getTime();
    };
    expect(await until(start, 1)).toBe(start + 600_000);
    expect(await until(start, 3600)).toBe(start + 3_600_000);
    expect(await until(start, 1e9)).toBe(start + 30 * day);
    expect(await until(start + 360 * day, 1e9)).toBe(start + 365 * day);
  });

  it.each([
    ['another name', () => request('CN=admin')],
    ['two names', () => request('CN=esb-gateway, CN=admin')],
    ['no name', () => request('O=esb-gateway')],
    ['something that is no request', () => Promise.resolve('hello')],
  ])('refuses %s', async (_what, make) => {
    await expect(readGatewayRequest(await make())).rejects.toMatchObject({
      code: 'RequestRefused',
    });
  });
});
