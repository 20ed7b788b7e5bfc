import { randomUUID } from 'node:crypto';
import type { ClientRequest } from 'node:http';
import { request } from 'node:https';
import {
  encodeReport,
  LOAD_ADDRESS_ANNOTATION,
  LOAD_EVERY_MS,
  LOAD_PATH,
  LOAD_SILENCE_MS,
  type LoadReport,
  MAX_LOADS,
} from '../../api/load-report.ts';
import { CONTROLLER_LEASE } from '../../api/name.ts';
import { Backoff } from '../../common/backoff.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { abortable, sleep } from '../../common/deadline.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import { type HostPort, parseHostPort } from '../../common/host-port.ts';
import type { Logger } from '../../common/logger.ts';
import type { CertifiedKey } from '../../common/x509.ts';
import { leases } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import { controllerRefusal } from '../../peers/peer-names.ts';
import type { LoadMeter } from '../admission/load-meter.ts';

/** Milliseconds between two reports of changes. The first one after a rest goes out at once. */
const REPORT_EVERY_MS = 100;
/** Bytes of reports in a millisecond. The leader reads some more of a stream, and pauses one that sends that much. */
const BYTES_PER_MS = 400;
/** Milliseconds until the leader answers. */
const ANSWER_MS = 5_000;
/** Waits between two attempts to reach the leader. */
const RETRIES = { firstMs: 500, maxMs: 5_000 } as const;
/** Bytes that the leader has not taken yet, above which changes wait. */
const MAX_UNSENT_BYTES = 256 * 1024;

export interface LoadReporterOptions {
  readonly meter: LoadMeter;
  readonly namespace: string;
  /** Where the leader takes load; undefined while none does. */
  readonly leader: (signal: AbortSignal) => Promise<HostPort | undefined>;
  /** The certificate of this gateway; undefined while there is none. */
  readonly identity: () => CertifiedKey | undefined;
  /** The authority of both, in PEM; undefined while it is not known. */
  readonly authority: () => string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Finds the leading controller by its Lease. Errors are those of the API server. */
export async function leaderByLease(
  client: Pick<KubeClient, 'get'>,
  systemNamespace: string,
  signal: AbortSignal,
): Promise<HostPort | undefined> {
  const lease = await client.get(leases, { namespace: systemNamespace, name: CONTROLLER_LEASE }, { signal });
  const address = lease?.metadata.annotations?.[LOAD_ADDRESS_ANNOTATION] ?? '';
  return address === '' ? undefined : parseHostPort(address);
}

/**
 * Streams the load of a gateway to the leading controller. No call waits for it: while no leader takes the load,
 * functions stay as large as they are.
 */
export class LoadReporter {
  readonly #options: LoadReporterOptions;
  readonly #id = randomUUID();

  constructor(options: LoadReporterOptions) {
    this.#options = options;
  }

  /** Reports until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, leader, logger } = this.#options;
    const retries = new Backoff(RETRIES);
    let isTold = false;
    while (!signal.aborted) {
      try {
        const address = await leader(signal);
        if (address === undefined) {
          throw new EsbError('no controller leads that takes load', { code: 'Unavailable' });
        }
        await this.#stream(address, signal, () => {
          isTold = false;
          retries.reset();
          logger.info({ address }, 'the controller takes the load of this gateway');
        });
      } catch (error) {
        signal.throwIfAborted();
        const log = isTold ? logger.debug : logger.warn;
        isTold = true;
        log.call(logger, { error: messageOf(error) }, 'load is not told: functions stay as large as they are');
      }
      await sleep(clock, retries.next(), signal);
    }
  }

  /** One stream, until it ends or the identity has changed. Errors are those of the connection. */
  async #stream(address: HostPort, signal: AbortSignal, onOpen: () => void): Promise<void> {
    const { authority, clock, identity, namespace } = this.#options;
    const [shown, trusted] = [identity(), authority()];
    if (shown === undefined || trusted === undefined) {
      throw new EsbError('this gateway has no certificate yet, or does not know its authority', {
        code: 'Unavailable',
      });
    }
    const sending = request({
      ...address,
      method: 'POST',
      path: `${LOAD_PATH}?${new URLSearchParams({ namespace, gateway: this.#id }).toString()}`,
      agent: false,
      ca: trusted,
      cert: shown.certificate,
      key: shown.privateKey,
      minVersion: 'TLSv1.3',
      // The leader has its name wherever it is.
      checkServerIdentity: (_host, certificate) => controllerRefusal(certificate),
    });
    const silent = (): unknown =>
      sending.destroy(new EsbError('the controller does not answer', { code: 'DeadlineExceeded' }));
    let silence = clock.setTimer(silent, ANSWER_MS);
    const hear = (): void => {
      silence.cancel();
      silence = clock.setTimer(silent, LOAD_SILENCE_MS);
    };
    let stop: (() => void) | undefined;
    try {
      await abortable<void>('the stream of load', signal, (resolve, reject) => {
        sending.on('error', reject);
        sending.once('close', () => resolve());
        sending.once('response', (response) => {
          // Each whole report has an answer: a leader whose machine has gone ends no connection.
          hear();
          response.on('data', hear);
          response.once('error', reject);
          if (response.statusCode !== 200) {
            reject(new EsbError(`the controller answered ${response.statusCode}`, { code: 'Unavailable' }));
            return;
          }
          onOpen();
          stop = this.#report(sending, () => identity() === shown && authority() === trusted);
          response.once('close', () => resolve());
        });
        sending.flushHeaders();
        return undefined;
      });
    } finally {
      silence.cancel();
      stop?.();
      if (signal.aborted && !sending.destroyed) {
        sending.end(encodeReport({ kind: 'bye' }));
      } else {
        sending.destroy();
      }
    }
  }

  /** Writes reports until the returned function is called. */
  #report(sending: ClientRequest, isCurrent: () => boolean): () => void {
    const { clock, logger, meter } = this.#options;
    let timer: Timer | undefined;
    let wholeAt = Number.NEGATIVE_INFINITY;
    let sentAt = Number.NEGATIVE_INFINITY;
    let everyMs = REPORT_EVERY_MS;
    const send = (): void => {
      timer = undefined;
      if (sending.destroyed) {
        return;
      }
      if (!isCurrent()) {
        sending.destroy();
        return;
      }
      const now = clock.monotonic();
      const isWhole = now - wholeAt >= LOAD_EVERY_MS;
      if (sending.writableLength < MAX_UNSENT_BYTES) {
        const kind = isWhole ? 'all' : 'changes';
        const load = isWhole ? meter.all() : meter.changes();
        if (load.length > MAX_LOADS) {
          logger.error({ functions: load.length, told: MAX_LOADS }, 'more functions have calls than can be told');
        }
        const line = encodeReport({ kind, load: load.slice(0, MAX_LOADS) } satisfies LoadReport);
        sending.write(line);
        sentAt = now;
        everyMs = reportEveryMs(line.length);
        wholeAt = isWhole ? now : wholeAt;
      }
      wait(LOAD_EVERY_MS);
    };
    const wait = (delayMs: number): void => {
      timer?.cancel();
      timer = clock.setTimer(send, delayMs);
    };
    meter.onChange = () => wait(Math.max(0, sentAt + everyMs - clock.monotonic()));
    send();
    return () => {
      timer?.cancel();
      meter.onChange = undefined;
    };
  }
}

/** Milliseconds from a report to the next one: the leader reads so many bytes, and reports come more rarely for more. */
export function reportEveryMs(lastBytes: number): number {
  return Math.max(REPORT_EVERY_MS, Math.ceil(lastBytes / BYTES_PER_MS));
}
