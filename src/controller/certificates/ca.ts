import type { Pkcs10CertificateRequest, PublicKey } from '@peculiar/x509';
import { gatewayUri, MAX_NAMESPACES, namespaceOfUri } from '../../api/gateway-name.ts';
import { CONTROLLER_COMMON_NAME, GATEWAY_COMMON_NAME } from '../../api/name.ts';
import { EsbError, messageOf, unreachable } from '../../common/errors.ts';
import {
  type CertifiedKey,
  issueCertificate,
  loadX509,
  newKeys,
  privateKeyPem,
  selfSigned,
  validityOf,
  type X509Library,
} from '../../common/x509.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Validity of an authority. */
const LIFETIME_MS = 365 * DAY_MS;
/** Validity left at which an authority gets a successor. */
const RENEWAL_MS = 120 * DAY_MS;
/** Time for which a successor is published before it signs: enough for agents that were cut off. */
const ANNOUNCEMENT_MS = 7 * DAY_MS;
/** Most by which clocks may differ. */
const BACKDATE_MS = HOUR_MS;
/** Validity of a client certificate whose request names none, and the bounds for a named one. */
const CLIENT_DEFAULT_MS = DAY_MS;
const CLIENT_SHORTEST_MS = 10 * 60_000;
const CLIENT_LONGEST_MS = 30 * DAY_MS;

/** The authority that signs gateways' client certificates. */
export interface Authority {
  readonly current: CertifiedKey;
  /** A published pair that will sign later. */
  readonly next?: CertifiedKey;
  /** PEM of former certificates whose signatures still count. */
  readonly former: readonly string[];
}

function isValid(pem: string, now: number): boolean {
  try {
    const { notBefore, notAfter } = validityOf(pem);
    return notBefore <= now && now < notAfter;
  } catch {
    return false;
  }
}

function isUsable(pair: CertifiedKey | undefined, now: number): pair is CertifiedKey {
  return pair !== undefined && pair.privateKey !== '' && isValid(pair.certificate, now);
}

/** The next step in the life of the authority. */
export type AuthorityStep = 'none' | 'create' | 'announce' | 'promote' | 'forget';

/**
 * Decides the next step in the life of the authority:
 * - `create`: there is no usable authority;
 * - `announce`: the authority gets old, and its successor is created and published;
 * - `promote`: all agents have had time to read the successor, which signs from now on;
 * - `forget`: a former certificate has expired.
 *
 * @param now wall-clock milliseconds
 */
export function authorityStep(authority: Authority | undefined, now: number): AuthorityStep {
  if (authority === undefined) {
    return 'create';
  }
  const { current, next, former } = authority;
  const hasCurrent = isUsable(current, now);
  if (isUsable(next, now)) {
    const announcedAt = validityOf(next.certificate).notBefore + BACKDATE_MS;
    return !hasCurrent || now - announcedAt >= ANNOUNCEMENT_MS ? 'promote' : 'none';
  }
  if (!hasCurrent) {
    return 'create';
  }
  if (validityOf(current.certificate).notAfter - now < RENEWAL_MS) {
    return 'announce';
  }
  return former.some((pem) => !isValid(pem, now)) ? 'forget' : 'none';
}

/** Takes the step of {@link authorityStep}. */
export async function advanceAuthority(authority: Authority | undefined, now: number): Promise<Authority> {
  const step = authorityStep(authority, now);
  const former = (authority?.former ?? []).filter((pem) => isValid(pem, now));
  if (authority === undefined || step === 'create') {
    return { current: await createPair(now), former };
  }
  switch (step) {
    case 'none':
      return authority;
    case 'announce':
      return { current: authority.current, next: await createPair(now), former };
    case 'promote':
      return {
        current: authority.next ?? authority.current,
        former: isValid(authority.current.certificate, now) ? [...former, authority.current.certificate] : former,
      };
    case 'forget':
      return { ...authority, former };
    default:
      return unreachable(step);
  }
}

/** PEM of every certificate whose signatures count: agents ask clients for one signed by these. */
export function bundleOf(authority: Authority): string {
  return [authority.current.certificate, authority.next?.certificate, ...authority.former]
    .filter((pem) => pem !== undefined)
    .map((pem) => `${pem.trim()}\n`)
    .join('');
}

function createPair(now: number): Promise<CertifiedKey> {
  return selfSigned({
    name: 'CN=esb-client-ca',
    notBefore: now - BACKDATE_MS,
    notAfter: now + LIFETIME_MS,
    extensions: async (x509, publicKey) => [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
    ],
  });
}

function refused(message: string, cause?: unknown): EsbError {
  return new EsbError(message, { code: 'RequestRefused', cause });
}

/** The part of a gateway's request that is signed. */
export interface GatewayRequest {
  readonly publicKey: PublicKey;
  /** The namespaces that the gateway is to serve; one or more. */
  readonly namespaces: readonly string[];
}

/**
 * Reads the request of a gateway for a client certificate.
 *
 * @param request PEM of a PKCS #10 request
 * @throws {EsbError} `RequestRefused` for a request that is none, asks for another name than {@link GATEWAY_COMMON_NAME}, names no
 * namespace or anything but namespaces, or is not signed with its key
 */
export async function readGatewayRequest(request: string): Promise<GatewayRequest> {
  const x509 = await loadX509();
  let parsed: Pkcs10CertificateRequest;
  let isSigned: boolean;
  try {
    parsed = new x509.Pkcs10CertificateRequest(request);
    isSigned = await parsed.verify();
  } catch (error) {
    throw refused(`spec.request is no PKCS #10 request in PEM form: ${messageOf(error)}`, error);
  }
  if (!isSigned) {
    throw refused('the request is not signed with the key that it is for');
  }
  const names = parsed.subjectName.getField('CN');
  if (names.length !== 1 || names[0] !== GATEWAY_COMMON_NAME) {
    throw refused(`the request is for CN ${names.join(', ') || '(none)'}, and only ${GATEWAY_COMMON_NAME} is signed`);
  }
  return { publicKey: parsed.publicKey, namespaces: namespacesOf(parsed, x509) };
}

function namespacesOf(request: Pkcs10CertificateRequest, x509: X509Library): readonly string[] {
  const names = request.extensions
    .filter((extension) => extension instanceof x509.SubjectAlternativeNameExtension)
    .flatMap(({ names: { items } }) => items);
  const namespaces = names.map(({ type, value }) => {
    const namespace = type === 'url' ? namespaceOfUri(value) : undefined;
    if (namespace === undefined) {
      throw refused(`the request names ${type} ${value}, and only ${gatewayUri('NAMESPACE')} is signed`);
    }
    return namespace;
  });
  if (namespaces.length === 0 || namespaces.length > MAX_NAMESPACES) {
    throw refused(
      `the request names ${namespaces.length} namespaces; 1 to ${MAX_NAMESPACES} are signed, each as ${gatewayUri('NAMESPACE')}`,
    );
  }
  return [...new Set(namespaces)];
}

export interface GatewayCertificateTerms {
  /** Validity that was asked for, a day by default; kept between 10 minutes and 30 days, and within the authority's. */
  readonly expirationSeconds?: number | undefined;
  /** Whether the certificate is shown by a server too: the role that keeps events. Default false. */
  readonly serves?: boolean;
}

/**
 * Signs a certificate for a gateway. Only the key and the namespaces are taken from the request: the subject is
 * always {@link GATEWAY_COMMON_NAME}.
 *
 * @returns PEM
 */
export function signGatewayRequest(
  authority: CertifiedKey,
  request: GatewayRequest,
  now: number,
  { expirationSeconds, serves = false }: GatewayCertificateTerms = {},
): Promise<string> {
  const wantedMs = expirationSeconds === undefined ? CLIENT_DEFAULT_MS : expirationSeconds * 1000;
  const lifetimeMs = Math.min(Math.max(wantedMs, CLIENT_SHORTEST_MS), CLIENT_LONGEST_MS);
  return issueCertificate(authority, {
    subject: `CN=${GATEWAY_COMMON_NAME}`,
    publicKey: request.publicKey,
    notBefore: now - BACKDATE_MS / 2,
    notAfter: Math.min(now + lifetimeMs, validityOf(authority.certificate).notAfter),
    extensions: async (x509, issuer) => [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.clientAuth,
        ...(serves ? [x509.ExtendedKeyUsage.serverAuth] : []),
      ]),
      new x509.SubjectAlternativeNameExtension(
        request.namespaces.map((namespace) => ({ type: 'url', value: gatewayUri(namespace) })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(new x509.X509Certificate(issuer).publicKey),
    ],
  });
}

/**
 * A key and a certificate with which the leading controller shows itself to gateways. Nothing of it is kept: each term
 * has its own.
 */
export async function controllerIdentity(authority: CertifiedKey, now: number): Promise<CertifiedKey> {
  const keys = await newKeys();
  const certificate = await issueCertificate(authority, {
    subject: `CN=${CONTROLLER_COMMON_NAME}`,
    publicKey: keys.publicKey,
    notBefore: now - BACKDATE_MS / 2,
    notAfter: Math.min(now + CLIENT_LONGEST_MS, validityOf(authority.certificate).notAfter),
    extensions: (x509) => [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
    ],
  });
  return { certificate, privateKey: privateKeyPem(keys) };
}
