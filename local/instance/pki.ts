import { generateKeyPairSync } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExtendedKeyUsage } from '@peculiar/x509';
import { writeFileAtomically } from '../../src/common/atomic-file.ts';
import { errnoOf } from '../../src/common/errors.ts';
import {
  issueCertificate,
  loadX509,
  newKeys,
  privateKeyPem,
  selfSigned,
  type Validity,
} from '../../src/common/x509.ts';

/** A certificate and its private key, both PEM. */
export interface IssuedCertificate {
  readonly certificate: string;
  readonly key: string;
}

/** The identity in a client certificate: Kubernetes reads the user from CN and the groups from O. */
export interface ClientIdentity {
  readonly user: string;
  readonly groups: readonly string[];
}

/** The certificates of one local instance in a folder; each is created once. */
export interface Pki {
  /** PEM of the authority that signed all others. */
  readonly authority: string;
  readonly files: PkiFiles;
  /** The client certificate called `name`, created where there is none. */
  client(name: string, identity: ClientIdentity): Promise<IssuedCertificate>;
}

/** Paths of the API server's files. */
export interface PkiFiles {
  readonly authority: string;
  readonly serverCertificate: string;
  readonly serverKey: string;
  readonly serviceAccountKey: string;
  readonly serviceAccountPublicKey: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** A local instance does not outlive this; its certificates are never renewed. */
const LIFETIME_MS = 10 * 365 * DAY_MS;
/** First address of the service range: `kubernetes.default` for Pods. */
const SERVICE_ADDRESS = '10.96.0.1';

/** Opens the certificates in `folder` and creates the missing ones. Errors are those of the file system. */
export async function openPki(folder: string): Promise<Pki> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const files: PkiFiles = {
    authority: join(folder, 'ca.crt'),
    serverCertificate: join(folder, 'apiserver.crt'),
    serverKey: join(folder, 'apiserver.key'),
    serviceAccountKey: join(folder, 'service-account.key'),
    serviceAccountPublicKey: join(folder, 'service-account.pub'),
  };
  const authority = await ensureAuthority(folder);
  await ensureIssued(folder, 'apiserver', () => authority.issueServer());
  await ensureServiceAccountKey(files);
  return {
    authority: authority.certificate,
    files,
    client: (name, identity) => ensureIssued(folder, `client-${name}`, () => authority.issueClient(identity)),
  };
}

interface Authority {
  readonly certificate: string;
  issueServer(): Promise<IssuedCertificate>;
  issueClient(identity: ClientIdentity): Promise<IssuedCertificate>;
}

async function ensureAuthority(folder: string): Promise<Authority> {
  const own = await ensureIssued(folder, 'ca', makeAuthority);
  const { ExtendedKeyUsage: usages } = await loadX509();
  const issue = async (
    subject: Record<string, string[]>[],
    usage: ExtendedKeyUsage,
    names: { type: 'dns' | 'ip'; value: string }[],
  ): Promise<IssuedCertificate> => {
    const keys = await newKeys();
    const authority = { certificate: own.certificate, privateKey: own.key };
    const certificate = await issueCertificate(authority, {
      subject,
      publicKey: keys.publicKey,
      ...validity(),
      extensions: (x509) => [
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([usage]),
        ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
      ],
    });
    return { certificate, key: privateKeyPem(keys) };
  };
  return {
    certificate: own.certificate,
    issueServer: () =>
      issue([{ CN: ['kube-apiserver'] }], usages.serverAuth, [
        { type: 'ip', value: '127.0.0.1' },
        { type: 'ip', value: SERVICE_ADDRESS },
        { type: 'dns', value: 'localhost' },
        { type: 'dns', value: 'kubernetes' },
        { type: 'dns', value: 'kubernetes.default' },
        { type: 'dns', value: 'kubernetes.default.svc' },
      ]),
    issueClient: ({ user, groups }) =>
      issue([...groups.map((group) => ({ O: [group] })), { CN: [user] }], usages.clientAuth, []),
  };
}

async function makeAuthority(): Promise<IssuedCertificate> {
  const { certificate, privateKey } = await selfSigned({
    name: 'CN=esb-local-authority',
    ...validity(),
    extensions: (x509) => [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature, true),
    ],
  });
  return { certificate, key: privateKey };
}

async function ensureServiceAccountKey(files: PkiFiles): Promise<void> {
  if ((await readIfThere(files.serviceAccountPublicKey)) !== undefined) {
    return;
  }
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  await writeFileAtomically(files.serviceAccountKey, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
  await writeFileAtomically(
    files.serviceAccountPublicKey,
    publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  );
}

/** `<name>.crt` and `<name>.key`. The certificate is written last: where it is, so is its key. */
async function ensureIssued(
  folder: string,
  name: string,
  issue: () => Promise<IssuedCertificate>,
): Promise<IssuedCertificate> {
  const certificateFile = join(folder, `${name}.crt`);
  const keyFile = join(folder, `${name}.key`);
  const certificate = await readIfThere(certificateFile);
  const key = await readIfThere(keyFile);
  if (certificate !== undefined && key !== undefined) {
    return { certificate, key };
  }
  const issued = await issue();
  await writeFileAtomically(keyFile, issued.key);
  await writeFileAtomically(certificateFile, issued.certificate);
  return issued;
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

function validity(): Validity {
  const now = Date.now();
  return { notBefore: now - DAY_MS, notAfter: now + LIFETIME_MS };
}
