import { X509Certificate } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import type { Clock } from '../../common/clock.ts';
import { errnoOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { type CertifiedKey, selfSigned, splitCertifiedKey, validityOf } from '../../common/x509.ts';

const day = 24 * 60 * 60 * 1000;
const lifetimeMs = 365 * day;
const renewalMs = 30 * day;
/** Clocks of nodes and gateways need not agree to better than this. */
const backdateMs = day;
/** How long a successor is published before it is used: gateways have read it by then. */
const announcementMs = day;

export interface ServerIdentityOptions {
  /** Folder of the files `server.pem` and, while a successor is being announced, `server-next.pem`. */
  readonly folder: string;
  readonly nodeName: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * The agent's own certificate: self-signed and trusted by gateways because it stands in the status of the node's
 * LambdaNode. Kept on disk, so that a restart changes nothing. Its successor is published a day before it is used, so
 * that no gateway ever meets a certificate that it has not read of.
 */
export class ServerIdentity {
  readonly #options: ServerIdentityOptions;
  #current: CertifiedKey;
  #next: CertifiedKey | undefined;

  private constructor(options: ServerIdentityOptions, current: CertifiedKey, next: CertifiedKey | undefined) {
    this.#options = options;
    this.#current = current;
    this.#next = next;
  }

  /** Reads what an earlier run left, or makes a first certificate. Errors are those of the file system. */
  static async open(options: ServerIdentityOptions): Promise<ServerIdentity> {
    await mkdir(options.folder, { recursive: true, mode: 0o700 });
    let current = await read(options, 'server.pem');
    if (current === undefined) {
      current = await make(options);
      await write(options, 'server.pem', current);
    }
    const identity = new ServerIdentity(options, current, await read(options, 'server-next.pem'));
    await identity.refresh();
    return identity;
  }

  /** Key and certificate to show to clients. */
  get current(): CertifiedKey {
    return this.#current;
  }

  /** Certificates for clients to trust: PEM of the current one, and of its successor when there is one. */
  get published(): string {
    return this.#current.certificate + (this.#next?.certificate ?? '');
  }

  /** Renews what is due; to be called now and then. Whether anything changed. Errors are those of the file system. */
  async refresh(): Promise<boolean> {
    const now = this.#options.clock.now();
    const { notBefore, notAfter } = validityOf(this.#current.certificate);
    if (now < notBefore || now >= notAfter) {
      // A step of the clock left the certificate useless: no client can connect, so there is nothing to announce.
      return this.#use(await make(this.#options));
    }
    if (this.#next !== undefined) {
      const announcedAt = validityOf(this.#next.certificate).notBefore + backdateMs;
      return now >= announcedAt + announcementMs ? this.#use(this.#next) : false;
    }
    if (now < notAfter - renewalMs) {
      return false;
    }
    const next = await make(this.#options);
    await write(this.#options, 'server-next.pem', next);
    this.#next = next;
    return true;
  }

  async #use(certificate: CertifiedKey): Promise<true> {
    await write(this.#options, 'server.pem', certificate);
    await rm(join(this.#options.folder, 'server-next.pem'), { force: true });
    this.#current = certificate;
    this.#next = undefined;
    return true;
  }
}

function make(options: ServerIdentityOptions): Promise<CertifiedKey> {
  const now = options.clock.now();
  return selfSigned({
    // A common name has room for 64 characters; clients check the alternative name.
    name: `CN=${options.nodeName.slice(0, 64)}`,
    notBefore: now - backdateMs,
    notAfter: now + lifetimeMs,
    extensions: (x509) => [
      new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: options.nodeName }]),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.BasicConstraintsExtension(false, undefined, true),
    ],
  });
}

/** Certificate and key share one file, so that a crash cannot part them. */
async function write(options: ServerIdentityOptions, name: string, certificate: CertifiedKey): Promise<void> {
  await writeFileAtomically(join(options.folder, name), certificate.certificate + certificate.privateKey);
}

async function read(options: ServerIdentityOptions, name: string): Promise<CertifiedKey | undefined> {
  let text: string;
  try {
    text = await readFile(join(options.folder, name), 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
  const kept = splitCertifiedKey(text);
  try {
    if (kept !== undefined && new X509Certificate(kept.certificate).checkHost(options.nodeName) !== undefined) {
      return kept;
    }
    options.logger.warn({ file: name }, 'certificate is of another node; making a new one');
  } catch (error) {
    options.logger.warn({ file: name, err: error }, 'certificate cannot be read; making a new one');
  }
  return undefined;
}
