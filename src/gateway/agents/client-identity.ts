import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gatewayUri, namespacesOfNames } from '../../api/gateway-name.ts';
import { GATEWAY_COMMON_NAME, GATEWAY_REQUEST_PREFIX, GATEWAY_SIGNER } from '../../api/name.ts';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import { Backoff } from '../../common/backoff.ts';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, undefinedIfNoFile } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { type CertifiedKey, certificateRequest, splitCertifiedKey, validityOf } from '../../common/x509.ts';
import { type CertificateSigningRequest, certificateSigningRequests } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';

const IDENTITY_FILE = 'client.pem';
/** Lifetime of a certificate: gateways reach agents while the API server is away for two days. */
const LIFETIME_SECONDS = 7 * 24 * 60 * 60;
/** Milliseconds between two looks at whether the certificate is due for renewal. */
const CHECK_INTERVAL_MS = 60_000;
/** Waits between two looks at a request. */
const POLLS = { firstMs: 100, maxMs: 2_000 } as const;
/** Milliseconds before a failed request is made again, at first and, doubling, at most. */
const MIN_RETRY_MS = 500;
const MAX_RETRY_MS = 15_000;
/** The most after denied requests: each stays in the API server for an hour, and needs a change by an operator. */
const MAX_DENIED_MS = 300_000;
/** Refusals by agents without an acceptance in between, after which the certificate is taken for useless. */
const MAX_REFUSALS = 3;
/** Waits between two replacements for that reason. */
const REPLACEMENTS = { firstMs: 60_000, maxMs: 900_000 } as const;
/** The object identifier of the extended key usage of servers, RFC 5280 section 4.2.1.12. */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

export interface ClientIdentityOptions {
  /** Folder that outlives a restart. */
  readonly folder: string;
  /** The one that is served: agents show no other. */
  readonly namespace: string;
  /** Whether the certificate is that of a server too: the role that keeps events. Default false. */
  readonly serves?: boolean;
  readonly client: Pick<KubeClient, 'create' | 'get'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called for the first certificate, and for each that replaces another. */
  readonly onChange: () => void;
}

/**
 * Key and certificate with which this gateway authenticates to agents. The key is made here and never leaves the state
 * folder; the controller signs a CertificateSigningRequest. Renewed at two thirds of its life, and when agents keep
 * refusing it, as after a change of the authority.
 */
export class ClientIdentity {
  readonly #options: ClientIdentityOptions;
  #current: CertifiedKey | undefined;
  #refusals = 0;
  #replaceNotBefore = 0;
  readonly #replacements = new Backoff(REPLACEMENTS);
  #pauseEnd = new AbortController();

  private constructor(options: ClientIdentityOptions, current: CertifiedKey | undefined) {
    this.#options = options;
    this.#current = current;
  }

  /** Reads the certificate of an earlier run. Errors are those of the file system. */
  static async open(options: ClientIdentityOptions): Promise<ClientIdentity> {
    await mkdir(options.folder, { recursive: true, mode: 0o700 });
    return new ClientIdentity(options, await read(options));
  }

  /** The certificate for agents; undefined while there is none. */
  get current(): CertifiedKey | undefined {
    return this.#current;
  }

  /** Present key, if its certificate has the names and usages that are asked for. */
  get fitting(): CertifiedKey | undefined {
    const isFitting = this.#current !== undefined && this.#isFitting(new X509Certificate(this.#current.certificate));
    return isFitting ? this.#current : undefined;
  }

  /** An agent has let us in. */
  accepted(): void {
    this.#refusals = 0;
    this.#replacements.reset();
  }

  /** An agent has hung up on seeing the certificate. */
  refused(): void {
    this.#refusals += 1;
    if (this.#isUseless) {
      this.#pauseEnd.abort();
    }
  }

  /** Gets and renews certificates until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    let retryMs = MIN_RETRY_MS;
    while (!signal.aborted) {
      if (!this.#isDue()) {
        await this.#pause(CHECK_INTERVAL_MS, signal);
        continue;
      }
      try {
        const certificate = await this.#request(signal);
        retryMs = MIN_RETRY_MS;
        this.#refusals = 0;
        this.#replaceNotBefore = clock.monotonic() + this.#replacements.next();
        this.#current = certificate;
        await this.#keep(certificate);
        logger.info('client certificate issued');
        this.#options.onChange();
        // Another one soon would be due as well: where clocks differ, a certificate is old when it comes.
        await this.#pause(CHECK_INTERVAL_MS, signal);
      } catch (error) {
        signal.throwIfAborted();
        const mostMs = hasCode(error, 'RequestDenied') ? MAX_DENIED_MS : MAX_RETRY_MS;
        retryMs = Math.min(mostMs, retryMs);
        logger.warn({ err: error, retryMs }, 'client certificate was not issued');
        await sleep(clock, retryMs, signal);
        retryMs *= 2;
      }
    }
  }

  /** Whether agents have kept refusing the certificate, and it was not replaced a moment ago. */
  get #isUseless(): boolean {
    return this.#refusals >= MAX_REFUSALS && this.#options.clock.monotonic() >= this.#replaceNotBefore;
  }

  #isDue(): boolean {
    const { clock } = this.#options;
    if (this.#current === undefined) {
      return true;
    }
    if (this.#isUseless) {
      return true;
    }
    const certificate = new X509Certificate(this.#current.certificate);
    if (!this.#isFitting(certificate) && clock.monotonic() >= this.#replaceNotBefore) {
      return true;
    }
    const { validFromDate, validToDate } = certificate;
    const lifetime = validToDate.getTime() - validFromDate.getTime();
    return clock.now() >= validFromDate.getTime() + (lifetime * 2) / 3;
  }

  #isFitting({ keyUsage, subjectAltName }: X509Certificate): boolean {
    const { namespace, serves } = this.#options;
    const hasUsages = serves !== true || keyUsage?.includes(SERVER_AUTH) === true;
    return hasUsages && namespacesOfNames(subjectAltName).has(namespace);
  }

  async #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    this.#pauseEnd = new AbortController();
    const ended = AbortSignal.any([signal, this.#pauseEnd.signal]);
    await sleep(this.#options.clock, delayMs, ended).catch(() => undefined);
  }

  async #request(signal: AbortSignal): Promise<CertifiedKey> {
    const { client, clock, namespace } = this.#options;
    const { request, privateKey } = await certificateRequest(GATEWAY_COMMON_NAME, [gatewayUri(namespace)]);
    const created = await client.create<CertificateSigningRequest>(
      certificateSigningRequests,
      {
        metadata: { name: `${GATEWAY_REQUEST_PREFIX}${randomBytes(8).toString('hex')}` },
        spec: {
          signerName: GATEWAY_SIGNER,
          request: Buffer.from(request).toString('base64'),
          usages: ['digital signature', 'client auth', ...(this.#options.serves === true ? ['server auth'] : [])],
          expirationSeconds: LIFETIME_SECONDS,
        },
      },
      { signal },
    );
    const { name } = created.metadata;
    const polls = new Backoff(POLLS);
    for (;;) {
      await sleep(clock, polls.next(), signal);
      const now = await client.get<CertificateSigningRequest>(certificateSigningRequests, { name }, { signal });
      if (now === undefined) {
        throw new EsbError(`CertificateSigningRequest ${name} was deleted before it was answered`, {
          code: 'RequestDeleted',
        });
      }
      const refusal = now.status?.conditions?.find(({ type }) => type === 'Denied' || type === 'Failed');
      if (refusal !== undefined) {
        throw new EsbError(
          `CertificateSigningRequest ${name}: ${refusal.type} (${refusal.reason ?? ''}): ${refusal.message ?? ''}`,
          { code: 'RequestDenied', retryable: true },
        );
      }
      const certificate = now.status?.certificate;
      if (certificate !== undefined && certificate !== '') {
        return checked({
          certificate: `${Buffer.from(certificate, 'base64').toString('utf8').trim()}\n`,
          privateKey,
        });
      }
    }
  }

  /** A certificate that cannot be kept serves all the same, until the next restart. */
  async #keep(certificate: CertifiedKey): Promise<void> {
    try {
      await writeFileAtomically(
        join(this.#options.folder, IDENTITY_FILE),
        certificate.certificate + certificate.privateKey,
      );
    } catch (error) {
      this.#options.logger.error({ err: error }, 'client certificate cannot be kept on disk');
    }
  }
}

async function read(options: ClientIdentityOptions): Promise<CertifiedKey | undefined> {
  const text = await undefinedIfNoFile(readFile(join(options.folder, IDENTITY_FILE), 'utf8'));
  const kept = text === undefined ? undefined : splitCertifiedKey(text);
  try {
    return kept !== undefined && validityOf(checked(kept).certificate).notAfter > options.clock.now()
      ? kept
      : undefined;
  } catch (error) {
    options.logger.warn({ err: error }, 'kept client certificate cannot be read; asking for a new one');
    return undefined;
  }
}

/** @throws {EsbError} `InvalidCertificate` for a certificate that cannot be read, or is not for the key */
function checked(identity: CertifiedKey): CertifiedKey {
  try {
    if (new X509Certificate(identity.certificate).checkPrivateKey(createPrivateKey(identity.privateKey))) {
      return identity;
    }
  } catch (error) {
    throw new EsbError('the client certificate cannot be read', { code: 'InvalidCertificate', cause: error });
  }
  throw new EsbError('the client certificate is for another key', { code: 'InvalidCertificate' });
}
