import { createPrivateKey, KeyObject, webcrypto, X509Certificate } from 'node:crypto';
import type { Extension, PublicKeyType } from '@peculiar/x509';
import { EsbError } from './errors.ts';
import type { Logger } from './logger.ts';

/** A certificate with its private key, both PEM. */
export interface CertifiedKey {
  readonly certificate: string;
  readonly privateKey: string;
}

/** Times of a certificate, in wall-clock milliseconds. */
export interface Validity {
  readonly notBefore: number;
  readonly notAfter: number;
}

/**
 * The library that writes certificates. Loaded on demand: the load is a tenth of the time that an agent takes to start.
 */
export type X509Library = typeof import('@peculiar/x509');

export interface SelfSignedOptions extends Validity {
  readonly name: string;
  readonly extensions: (x509: X509Library, publicKey: webcrypto.CryptoKey) => Extensions;
}

export interface IssueOptions extends Validity {
  /** Such as `CN=esb-gateway`, or its parts in order. */
  readonly subject: string | Record<string, string[]>[];
  readonly publicKey: PublicKeyType;
  /** @param issuer certificate of the authority, PEM */
  readonly extensions: (x509: X509Library, issuer: string) => Extensions;
}

type Extensions = readonly Extension[] | Promise<readonly Extension[]>;

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

export async function loadX509(): Promise<X509Library> {
  await import('reflect-metadata');
  return await import('@peculiar/x509');
}

/**
 * The certificates of a PEM bundle. Text around them is left out.
 *
 * @throws {EsbError} `InvalidCertificate` when there is none or one cannot be read
 */
export function certificatesIn(pem: string): readonly X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) {
    throw new EsbError('no PEM certificate found', { code: 'InvalidCertificate' });
  }
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch (error) {
    throw new EsbError('a PEM certificate cannot be read', { code: 'InvalidCertificate', cause: error });
  }
}

/**
 * Whether a published authority takes the place of the present one. One that cannot be read is logged, and leaves that
 * in use.
 *
 * @param pem of one or more certificates
 */
export function isNewAuthority(pem: string, present: string | undefined, logger: Pick<Logger, 'error'>): boolean {
  if (pem === present) {
    return false;
  }
  try {
    certificatesIn(pem);
    return true;
  } catch (error) {
    logger.error({ err: error }, 'client authority cannot be read; keeping the former one');
    return false;
  }
}

/** Times of the first certificate of a PEM text. Throws when none can be read. */
export function validityOf(pem: string): Validity {
  const { validFromDate, validToDate } = new X509Certificate(pem);
  return { notBefore: validFromDate.getTime(), notAfter: validToDate.getTime() };
}

/** Reads a file that holds a certificate and, after it, its private key; undefined without a key. */
export function splitCertifiedKey(text: string): CertifiedKey | undefined {
  const split = text.indexOf('-----BEGIN PRIVATE KEY-----');
  return split > 0 ? { certificate: text.slice(0, split), privateKey: text.slice(split) } : undefined;
}

/** A new pair of keys: ECDSA on P-256. */
export function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

/** The private key as PKCS #8 in PEM. */
export function privateKeyPem(keys: webcrypto.CryptoKeyPair): string {
  return KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** A new key with a certificate that is signed by the key itself. */
export async function selfSigned(options: SelfSignedOptions): Promise<CertifiedKey> {
  const x509 = await loadX509();
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: options.name,
    keys,
    signingAlgorithm: ALGORITHM,
    ...datesOf(options),
    extensions: [...(await options.extensions(x509, keys.publicKey))],
  });
  return { certificate: pemOf(certificate), privateKey: privateKeyPem(keys) };
}

/** The PEM of a certificate that an authority signs. */
export async function issueCertificate(authority: CertifiedKey, options: IssueOptions): Promise<string> {
  const x509 = await loadX509();
  const der = createPrivateKey(authority.privateKey).export({ type: 'pkcs8', format: 'der' });
  const certificate = await x509.X509CertificateGenerator.create({
    subject: options.subject,
    issuer: new x509.X509Certificate(authority.certificate).subject,
    publicKey: options.publicKey,
    signingKey: await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']),
    signingAlgorithm: ALGORITHM,
    ...datesOf(options),
    extensions: [...(await options.extensions(x509, authority.certificate))],
  });
  return pemOf(certificate);
}

/** A new key with a PKCS #10 request for a certificate that names `uris`; both PEM. */
export async function certificateRequest(
  commonName: string,
  uris: readonly string[],
): Promise<{ readonly request: string; readonly privateKey: string }> {
  const { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } = await loadX509();
  const keys = await newKeys();
  const names = uris.map((value) => ({ type: 'url' as const, value }));
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: `CN=${commonName}`,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [new SubjectAlternativeNameExtension(names)],
  });
  return { request: pemOf(request), privateKey: privateKeyPem(keys) };
}

function pemOf(data: { toString(format: 'pem'): string }): string {
  return `${data.toString('pem').trim()}\n`;
}

function datesOf({ notBefore, notAfter }: Validity): { readonly notBefore: Date; readonly notAfter: Date } {
  return { notBefore: new Date(notBefore), notAfter: new Date(notAfter) };
}
