import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { certificatesIn } from '../../common/x509.ts';
import { guardedServer } from './http-guard.ts';

/** Milliseconds between two looks at the files. A Secret that is mounted changes within a minute or two. */
const LOOK_MS = 10_000;

/** Paths of PEM files. */
export interface TlsPaths {
  /** Certificate of the server, with those between it and the authority. */
  readonly certificate: string;
  readonly privateKey: string;
  /** Authorities whose clients are known by their certificate; absent when no client is asked for one. */
  readonly clientAuthority?: string | undefined;
}

/** The last content of the files that fitted together. */
export interface TlsMaterial {
  readonly certificate: string;
  readonly privateKey: string;
  readonly clientAuthority: string | undefined;
  readonly clientAuthorities: readonly X509Certificate[];
}

export interface TlsFilesOptions {
  readonly paths: TlsPaths;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onChange: (material: TlsMaterial) => void;
}

/**
 * Certificate, key and authorities of the server, read again while it runs. A change is taken when all of it fits
 * together: files that are replaced one after another do not for a while.
 */
export class TlsFiles {
  readonly #options: TlsFilesOptions;
  #current: TlsMaterial;
  #complaint = '';

  private constructor(options: TlsFilesOptions, current: TlsMaterial) {
    this.#options = options;
    this.#current = current;
  }

  /**
   * Reads the files.
   *
   * @throws {EsbError} `InvalidCertificate` when they cannot be read or do not fit together
   */
  static async open(options: TlsFilesOptions): Promise<TlsFiles> {
    return new TlsFiles(options, await readMaterial(options.paths));
  }

  get current(): TlsMaterial {
    return this.#current;
  }

  /** Looks at the files until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(this.#options.clock, LOOK_MS, signal);
      await this.look();
    }
  }

  /** Takes over changed files. Unusable ones are logged once and left alone. */
  async look(): Promise<void> {
    const { paths, logger, onChange } = this.#options;
    let material: TlsMaterial;
    try {
      material = await readMaterial(paths);
    } catch (error) {
      const complaint = messageOf(error);
      if (complaint !== this.#complaint) {
        this.#complaint = complaint;
        logger.warn({ err: error }, 'TLS files cannot be used; what they held before stays in use');
      }
      return;
    }
    this.#complaint = '';
    const known = this.#current;
    if (
      material.certificate !== known.certificate ||
      material.privateKey !== known.privateKey ||
      material.clientAuthority !== known.clientAuthority
    ) {
      this.#current = material;
      onChange(material);
      const { subject, validTo } = new X509Certificate(material.certificate);
      logger.info({ subject, validTo }, 'took new TLS files');
    }
  }
}

function secureContextOptions(material: TlsMaterial): SecureContextOptions {
  return {
    cert: material.certificate,
    key: material.privateKey,
    ...(material.clientAuthority === undefined ? {} : { ca: material.clientAuthority }),
    minVersion: 'TLSv1.2',
  };
}

async function readMaterial(paths: TlsPaths): Promise<TlsMaterial> {
  try {
    const certificate = await readFile(paths.certificate, 'utf8');
    const privateKey = await readFile(paths.privateKey, 'utf8');
    const clientAuthority =
      paths.clientAuthority === undefined ? undefined : await readFile(paths.clientAuthority, 'utf8');
    const material: TlsMaterial = {
      certificate,
      privateKey,
      clientAuthority,
      clientAuthorities: clientAuthority === undefined ? [] : certificatesIn(clientAuthority),
    };
    createSecureContext(secureContextOptions(material));
    if (!new X509Certificate(certificate).checkPrivateKey(createPrivateKey(privateKey))) {
      throw new EsbError('the key is not that of the certificate', { code: 'InvalidCertificate' });
    }
    return material;
  } catch (error) {
    throw new EsbError(`TLS files cannot be used: ${messageOf(error)}`, { code: 'InvalidCertificate', cause: error });
  }
}

/** An HTTPS server whose certificates can be replaced. */
export interface TlsServer {
  readonly server: Server;
  /** Connections from now on get these; those that there are go on. */
  renew(material: TlsMaterial): void;
}

/**
 * Makes the server. With an authority for clients, a client is asked for its certificate, and let in without one or
 * with a wrong one: other proofs may follow, and the client can read the reason of a refusal.
 */
export function createTlsServer(material: TlsMaterial, listener: RequestListener, logger: Logger): TlsServer {
  const server = createServer(
    {
      ...guardedServer(),
      ...secureContextOptions(material),
      requestCert: material.clientAuthority !== undefined,
      rejectUnauthorized: false,
      ALPNProtocols: ['http/1.1'],
    },
    listener,
  );
  server.on('tlsClientError', (error, socket) => {
    const remote = socket.remoteAddress;
    if (errnoOf(error) === 'ECONNRESET') {
      // Probes of the port do this all the time.
      logger.debug({ remote }, 'connection ended before its TLS handshake');
    } else {
      logger.info({ remote, reason: error.message.trim() }, 'TLS handshake failed');
    }
  });
  return { server, renew: (renewed) => server.setSecureContext(secureContextOptions(renewed)) };
}
