import {
  CLIENT_CA_CERTIFICATE_KEY,
  CLIENT_CA_NAME,
  CLIENT_CA_PRIVATE_KEY,
  CLIENT_CA_PUBLIC_KEY,
} from '../../api/name.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import type { CertifiedKey } from '../../common/x509.ts';
import { configMaps, type Secret, secrets } from '../../kube/api/resource-types.ts';
import type { KubeClient, ObjectKey } from '../../kube/api/types.ts';
import { type Authority, advanceAuthority, authorityStep, bundleOf } from './ca.ts';

const NEXT_CERTIFICATE_KEY = 'next.crt';
const NEXT_PRIVATE_KEY = 'next.key';
const FORMER_CERTIFICATES_KEY = 'former.crt';

export interface CaControllerOptions {
  readonly client: KubeClient;
  readonly systemNamespace: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Keeps the authority that signs gateways' client certificates: a Secret with its keys, and a ConfigMap with the
 * certificates that agents trust. Creates the authority once, replaces it in good time, and repairs a changed
 * ConfigMap.
 */
export class CaController {
  readonly #options: CaControllerOptions;
  readonly #key: ObjectKey;
  #current: CertifiedKey | undefined;
  #bundle: string | undefined;

  constructor(options: CaControllerOptions) {
    this.#options = options;
    this.#key = { namespace: options.systemNamespace, name: CLIENT_CA_NAME };
  }

  /** The signing pair; undefined until {@link CaController.refresh} has succeeded once. */
  get current(): CertifiedKey | undefined {
    return this.#current;
  }

  /** PEM of every certificate whose signatures count; undefined as {@link CaController.current}. */
  get bundle(): string | undefined {
    return this.#bundle;
  }

  /** Takes the steps that are due; writes nothing when none is. Errors are those of the API server. */
  async refresh(options?: CallOptions): Promise<void> {
    const { client, clock, logger } = this.#options;
    const secret = await client.get(secrets, this.#key, options);
    let authority = authorityOf(secret);
    const step = authorityStep(authority, clock.now());
    if (step !== 'none') {
      authority = await advanceAuthority(authority, clock.now());
      await this.#write(secret, authority, options);
      logger.info({ step }, 'client authority changed');
    }
    if (authority !== undefined) {
      const bundle = bundleOf(authority);
      await this.#publish(bundle, options);
      this.#current = authority.current;
      this.#bundle = bundle;
    }
  }

  async #write(existing: Secret | undefined, authority: Authority, options?: CallOptions): Promise<void> {
    const { client } = this.#options;
    const secret: Secret = {
      metadata: existing?.metadata ?? this.#metadata(),
      // The type of a Secret cannot be changed, and the chart creates an empty Secret of another type.
      type: existing?.type ?? 'kubernetes.io/tls',
      data: dataOf(authority),
    };
    await (existing === undefined ? client.create(secrets, secret, options) : client.update(secrets, secret, options));
  }

  async #publish(bundle: string, options?: CallOptions): Promise<void> {
    const { client } = this.#options;
    const existing = await client.get(configMaps, this.#key, options);
    const data = { [CLIENT_CA_PUBLIC_KEY]: bundle };
    if (existing === undefined) {
      await client.create(configMaps, { metadata: this.#metadata(), data }, options);
    } else if (existing.data?.[CLIENT_CA_PUBLIC_KEY] !== bundle) {
      await client.update(configMaps, { ...existing, data: { ...existing.data, ...data } }, options);
    }
  }

  #metadata(): Secret['metadata'] {
    return { ...this.#key, labels: { 'app.kubernetes.io/part-of': 'esb' } };
  }
}

function encode(text: string): string {
  return Buffer.from(text).toString('base64');
}

function dataOf(authority: Authority): Record<string, string> {
  const { current, next, former } = authority;
  return {
    [CLIENT_CA_CERTIFICATE_KEY]: encode(current.certificate),
    [CLIENT_CA_PRIVATE_KEY]: encode(current.privateKey),
    ...(next === undefined
      ? {}
      : { [NEXT_CERTIFICATE_KEY]: encode(next.certificate), [NEXT_PRIVATE_KEY]: encode(next.privateKey) }),
    ...(former.length === 0 ? {} : { [FORMER_CERTIFICATES_KEY]: encode(former.join('')) }),
  };
}

function authorityOf(secret: Secret | undefined): Authority | undefined {
  const text = (key: string): string => Buffer.from(secret?.data?.[key] ?? '', 'base64').toString('utf8');
  const current = { certificate: text(CLIENT_CA_CERTIFICATE_KEY), privateKey: text(CLIENT_CA_PRIVATE_KEY) };
  const next = { certificate: text(NEXT_CERTIFICATE_KEY), privateKey: text(NEXT_PRIVATE_KEY) };
  if (current.certificate === '') {
    return undefined;
  }
  const former = text(FORMER_CERTIFICATES_KEY).match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g);
  return { current, ...(next.certificate === '' ? {} : { next }), former: former ?? [] };
}
