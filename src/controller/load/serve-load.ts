import { LOAD_ADDRESS_ANNOTATION } from '../../api/load-report.ts';
import type { Clock } from '../../common/clock.ts';
import { aborted, sleep } from '../../common/deadline.ts';
import { messageOf } from '../../common/errors.ts';
import type { HostPort } from '../../common/host-port.ts';
import type { Logger } from '../../common/logger.ts';
import { endpointOf } from '../../common/net/endpoint.ts';
import { repeat } from '../../common/repeat.ts';
import { type CertifiedKey, validityOf } from '../../common/x509.ts';
import { controllerIdentity } from '../certificates/ca.ts';
import type { CaController } from '../certificates/ca-controller.ts';
import type { LoadBook } from './load-book.ts';
import { type LoadMetrics, LoadServer } from './load-server.ts';

/** Milliseconds until a port that another has, such as the end of the term before, is tried again. */
const LISTEN_RETRY_MS = 1_000;
/** Milliseconds between two looks at the authority, and while there is none. */
const AUTHORITY_EVERY_MS = 60_000;
const AUTHORITY_RETRY_MS = 200;

/** Where the leader takes load. */
export interface LoadPlace {
  readonly listen: HostPort;
  /** `HOST:PORT` that gateways are told; the first address of the machine when undefined. */
  readonly advertise: string | undefined;
}

/** The address at which this process takes load now, for the Lease by which gateways find the leader. */
export class LoadAddress {
  #text = '';

  /** Annotations of the Lease. */
  get annotations(): Readonly<Record<string, string>> {
    return { [LOAD_ADDRESS_ANNOTATION]: this.#text };
  }

  /** @param endpoint `HOST:PORT`; empty for none */
  set(endpoint: string): void {
    this.#text = endpoint;
  }
}

export interface ServeLoadOptions {
  readonly place: LoadPlace;
  readonly address: LoadAddress;
  readonly book: LoadBook;
  readonly authority: Pick<CaController, 'bundle' | 'current'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics?: LoadMetrics;
  readonly maxConnections?: number;
}

/** Takes the load of gateways until the signal fires, with a certificate that is valid and of the present authority. */
export async function serveLoad(options: ServeLoadOptions, signal: AbortSignal): Promise<void> {
  const { address, authority, book, clock, logger, place } = options;
  const server = new LoadServer(options);
  const port = await listen(server, options, signal);
  address.set(endpointOf(place.advertise, { ...place.listen, port }));
  let shown: { readonly by: CertifiedKey; readonly bundle: string; readonly until: number } | undefined;
  const refresh = async (): Promise<void> => {
    const { bundle, current } = authority;
    if (current === undefined || bundle === undefined) {
      return;
    }
    const isFit = shown?.by.certificate === current.certificate && shown.bundle === bundle && clock.now() < shown.until;
    if (!isFit) {
      const identity = await controllerIdentity(current, clock.now());
      server.configure(identity, bundle);
      const { notAfter } = validityOf(identity.certificate);
      shown = { by: current, bundle, until: clock.now() + (notAfter - clock.now()) / 2 };
    }
  };
  const onError = (error: unknown): void =>
    logger.warn({ error: messageOf(error) }, 'no certificate for gateways could be made');
  const everyMs = (): number => (shown === undefined ? AUTHORITY_RETRY_MS : AUTHORITY_EVERY_MS);
  try {
    await Promise.race([repeat({ clock, everyMs, onError }, signal, refresh), aborted(signal)]);
  } finally {
    address.set('');
    await server.close();
    book.close();
  }
}

async function listen(
  server: LoadServer,
  { clock, logger, place }: ServeLoadOptions,
  signal: AbortSignal,
): Promise<number> {
  for (let failures = 0; ; failures += 1) {
    try {
      return await server.listen(place.listen);
    } catch (error) {
      if (failures === 0) {
        logger.warn({ error: messageOf(error) }, 'load of gateways is not taken: functions stay as large as they are');
      }
      await sleep(clock, LISTEN_RETRY_MS, signal);
    }
  }
}
