import type { webcrypto } from 'node:crypto';
import 'reflect-metadata';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';

/** A certificate and its private key, both PEM. */
export interface IssuedCertificate {
  readonly certificate: string;
  readonly key: string;
}

/** A throw-away authority for tests; P-256, everything valid for a day. */
export interface CertificateAuthority {
  /** PEM. */
  readonly certificate: string;
  /** For a server on 127.0.0.1 and localhost, and at these addresses and names too. */
  issueServer(addresses?: readonly string[], names?: readonly string[]): Promise<IssuedCertificate>;
  /** For a client; Kubernetes reads the user from CN and its groups from O. */
  issueClient(user: string, groups: readonly string[]): Promise<IssuedCertificate>;
  /** For a gateway that serves these namespaces. */
  issueGateway(namespaces: readonly string[], notAfter?: Date): Promise<IssuedCertificate>;
  /** For the role that keeps the events of gateways of a namespace. */
  issueRole(namespace: string): Promise<IssuedCertificate>;
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

async function privateKeyPem(keys: webcrypto.CryptoKeyPair): Promise<string> {
  return PemConverter.encode(await crypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
}

/** Makes an authority with a key of its own. */
export async function createCertificateAuthority(): Promise<CertificateAuthority> {
  const authorityKeys = await newKeys();
  const validity = {
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 86_400_000),
  };
  const root: X509Certificate = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=esb-test-ca',
    keys: authorityKeys,
    signingAlgorithm: algorithm,
    ...validity,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.digitalSignature, true),
      await SubjectKeyIdentifierExtension.create(authorityKeys.publicKey),
    ],
  });

  const issue = async (
    subject: readonly Record<string, string[]>[],
    usages: readonly ExtendedKeyUsage[],
    names: readonly { type: 'dns' | 'ip' | 'url'; value: string }[],
    notAfter = validity.notAfter,
  ): Promise<IssuedCertificate> => {
    const keys = await newKeys();
    const certificate = await X509CertificateGenerator.create({
      subject: [...subject],
      issuer: root.subject,
      publicKey: keys.publicKey,
      signingKey: authorityKeys.privateKey,
      signingAlgorithm: algorithm,
      ...validity,
      notAfter,
      extensions: [
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([...usages]),
        // Tells authorities of the same name apart.
        await AuthorityKeyIdentifierExtension.create(authorityKeys.publicKey),
        ...(names.length > 0 ? [new SubjectAlternativeNameExtension([...names])] : []),
      ],
    });
    return { certificate: certificate.toString('pem'), key: await privateKeyPem(keys) };
  };

  return {
    certificate: root.toString('pem'),
    issueServer: (addresses = [], names = []) =>
      issue(
        [{ CN: ['esb-test-server'] }],
        [ExtendedKeyUsage.serverAuth],
        [
          ...['127.0.0.1', ...addresses].map((value) => ({ type: 'ip' as const, value })),
          ...['localhost', 'kubernetes.default.svc', ...names].map((value) => ({ type: 'dns' as const, value })),
        ],
      ),
    issueClient: (user, groups) =>
      issue([...groups.map((group) => ({ O: [group] })), { CN: [user] }], [ExtendedKeyUsage.clientAuth], []),
    issueGateway: (namespaces, notAfter) =>
      issue(
        [{ CN: ['esb-gateway'] }],
        [ExtendedKeyUsage.clientAuth],
        namespaces.map((namespace) => ({ type: 'url', value: `esb://gateway/${namespace}` })),
        notAfter,
      ),
    issueRole: (namespace) =>
      issue(
        [{ CN: ['esb-gateway'] }],
        [ExtendedKeyUsage.clientAuth, ExtendedKeyUsage.serverAuth],
        [{ type: 'url', value: `esb://gateway/${namespace}` }],
      ),
  };
}
