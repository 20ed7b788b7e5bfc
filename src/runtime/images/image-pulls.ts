import { createHash } from 'node:crypto';
import { backoffDelay } from '../../common/backoff.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import { FairGate, type GateEntry } from '../../common/fair-gate.ts';
import { KeyedQueue } from '../../common/keyed-queue.ts';
import type { Logger } from '../../common/logger.ts';
import type { Described, PullRequest, TransferService } from '../../containerd/transfer-service.ts';
import type { Platform } from '../../oci/image-config.ts';
import type { ImageReference } from '../../oci/image-reference.ts';
import type { RuntimeObserver } from '../contract/instrumentation.ts';
import { pullError } from './pull-error.ts';
import { PullMeter } from './pull-progress.ts';
import { findCredentials } from './registry-credentials.ts';

export interface ImagePullsOptions {
  readonly transfer: TransferService;
  /** Checks an image of which only its description is there. Default: takes any. */
  readonly check?: ((described: Described, options: CallOptions) => Promise<void>) | undefined;
  readonly platform: Platform;
  readonly snapshotter: string;
  /** `certs.d` folder, read by containerd. */
  readonly hostsFolder?: string | undefined;
  /** Images of one registry that are pulled at a time; further ones wait. Default 3. */
  readonly maxPulls?: number | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observer?: PullObserver | undefined;
}

export type PullObserver = Pick<RuntimeObserver, 'pullBegan' | 'pullEnded'>;

/** `Description`: manifest and configuration, which tell whether the rest could be had. */
export type PulledPart = 'All' | 'Description';

export interface PullCall extends CallOptions {
  /** Default: `All`. */
  readonly part?: PulledPart;
  /** Namespace of the worker that wants the image. */
  readonly namespace?: string | undefined;
  /** Called with the progress as text for a condition: at once when known, then every ten seconds at most. */
  readonly onDetail?: ((detail: string) => void) | undefined;
}

export interface PullOutcome {
  /** Hosts that asked for credentials and got some. */
  readonly hosts: readonly string[];
}

/** One pull, for all who want the image. */
interface Pull {
  readonly reference: ImageReference;
  readonly dockerConfigs: readonly string[];
  /** Image and credentials. */
  readonly id: string;
  readonly part: PulledPart;
}

interface Failure {
  readonly error: EsbError;
  /** Failed attempts in a row. */
  readonly count: number;
  /** Monotonic milliseconds until which the registry is not asked again. */
  readonly until: number;
}

const DEFAULT_MAX_PULLS = 3;
/** Registries whose full number of pulls a node has at a time; a namespace has that of two. */
const REGISTRIES = 4;
/** Bound of endless pulls; callers have deadlines of their own. */
const PULL_DEADLINE_MS = 60 * 60_000;
/** Time without progress after which a pull is given up; containerd's own CRI has the same. */
const STALLED_MS = 5 * 60_000;
const TELL_EVERY_MS = 10_000;
/**
 * Pause after a failed pull: shorter than the pauses of a worker that cannot be started (2 s doubling to 60 s), so that
 * each retry of a single worker asks the registry, and many workers together ask as one.
 */
const FIRST_PAUSE_MS = 1_500;
const LONGEST_PAUSE_MS = 45_000;
/** Time without a repetition after which a failure is forgotten. */
const FORGET_MS = 10 * 60_000;
/** Faults of registry or image. A full node, or an absent containerd, has pauses of its own. */
const REMEMBERED: ReadonlySet<string> = new Set([
  'ImageNotFound',
  'ImagePullFailed',
  'ImageInvalid',
  'ImageWrongPlatform',
  'RegistryUnreachable',
]);

/**
 * Pulls of images: one pull for all requests of one image with the same credentials, a bounded number at a time for
 * each registry and each namespace, and growing pauses after failures. A request during a pause gets the error of the
 * last attempt.
 */
export class ImagePulls {
  readonly #options: ImagePullsOptions;
  readonly #flights = new KeyedQueue();
  readonly #room: FairGate;
  readonly #failures = new Map<string, Failure>();
  readonly #listeners = new Map<string, Set<(detail: string) => void>>();
  readonly #details = new Map<string, string>();

  constructor(options: ImagePullsOptions) {
    this.#options = options;
    const perResource = options.maxPulls ?? DEFAULT_MAX_PULLS;
    this.#room = new FairGate({
      places: REGISTRIES * perResource,
      perNamespace: 2 * perResource,
      perResource,
    });
  }

  /**
   * Pulls an image, or waits for the pull of it that is under way.
   *
   * @returns hosts that took credentials; without any the image is everybody's
   * @throws {EsbError} `ImageNotFound`, `ImagePullFailed`, `ImageInvalid`, `RegistryUnreachable`, `DiskFull`
   */
  async run(reference: ImageReference, dockerConfigs: readonly string[], call: PullCall): Promise<PullOutcome> {
    const { part = 'All' } = call;
    const credentials = fingerprint(dockerConfigs);
    const id = `${reference.name} ${credentials}`;
    const failure = this.#failures.get(id);
    if (failure !== undefined && this.#options.clock.monotonic() < failure.until) {
      throw failure.error;
    }
    const { onDetail } = call;
    if (onDetail !== undefined) {
      const listeners = this.#listeners.get(id) ?? new Set();
      this.#listeners.set(id, listeners.add(onDetail));
      const known = this.#details.get(id);
      if (known !== undefined) {
        onDetail(known);
      }
    }
    const flight = {
      what: `pulling ${reference.name}`,
      deadlineMs: call.deadlineMs ?? PULL_DEADLINE_MS,
      signal: call.signal,
    };
    try {
      return await this.#flights.run(reference.name, `${part} ${credentials}`, flight, (signal) =>
        this.#pull({ reference, dockerConfigs, id, part }, call.namespace ?? '', signal),
      );
    } finally {
      const listeners = this.#listeners.get(id);
      if (onDetail !== undefined && listeners?.delete(onDetail) === true && listeners.size === 0) {
        this.#listeners.delete(id);
      }
    }
  }

  /** Ends all pulls and waits for their end. */
  async stop(): Promise<void> {
    this.#flights.cancelAll('pulling');
    await this.#flights.idle();
  }

  async #pull(pull: Pull, namespace: string, signal: AbortSignal): Promise<PullOutcome> {
    const entry: GateEntry = { namespace, resource: pull.reference.registry };
    if (this.#room.isFullFor(entry)) {
      this.#tell(pull.id, 'waits for its turn, others are being pulled');
    }
    try {
      return await this.#room.pass(entry, signal, () => this.#attempt(pull, signal));
    } finally {
      this.#details.delete(pull.id);
    }
  }

  /** Asks the registry, and remembers a failure. */
  async #attempt(pull: Pull, signal: AbortSignal): Promise<PullOutcome> {
    const { clock, logger, observer } = this.#options;
    const { id } = pull;
    const image = pull.reference.name;
    const begun = clock.monotonic();
    const isPull = pull.part === 'All';
    const level = isPull ? 'info' : 'debug';
    const finish = (outcome: string): number => {
      const durationMs = Math.round(clock.monotonic() - begun);
      if (isPull) {
        observer?.pullEnded(durationMs, outcome);
      }
      return durationMs;
    };
    logger[level]({ image, part: pull.part }, 'pulling an image');
    if (isPull) {
      observer?.pullBegan();
    }
    let outcome: PullOutcome;
    try {
      outcome = await this.#transfer(pull, signal);
    } catch (thrown) {
      const error = pullError(image, thrown);
      const durationMs = finish(error.code);
      if (REMEMBERED.has(error.code)) {
        const pauseMs = this.#remember(id, error);
        logger.warn(
          { image, code: error.code, reason: error.message, ms: durationMs, pauseMs: Math.round(pauseMs) },
          'image cannot be pulled; the registry is left alone for a while',
        );
      }
      throw error;
    }
    this.#failures.delete(id);
    logger[level]({ image, part: pull.part, ms: finish('ok') }, 'image pulled');
    return outcome;
  }

  async #transfer({ reference, dockerConfigs, id, part }: Pull, signal: AbortSignal): Promise<PullOutcome> {
    const { check, clock, hostsFolder, logger, platform, snapshotter, transfer } = this.#options;
    const image = reference.name;
    const meter = new PullMeter();
    const stalled = new AbortController();
    const giveUp = (): void => {
      const what = `pulling ${image}: nothing has come from the registry for ${STALLED_MS / 60_000} minutes`;
      stalled.abort(new EsbError(what, { code: 'RegistryUnreachable' }));
    };
    let timer = clock.setTimer(giveUp, STALLED_MS);
    let toldAt = Number.NEGATIVE_INFINITY;
    const hosts = new Set<string>();
    const request: PullRequest = {
      reference: image,
      platform,
      snapshotter,
      hostsFolder,
      credentialsFor:
        dockerConfigs.length === 0
          ? undefined
          : (host) => {
              const found = findCredentials(dockerConfigs, host, reference.repository);
              if (found !== undefined) {
                hosts.add(host);
              }
              return found;
            },
      onProgress: (progress) => {
        const { event, name, done, total } = progress;
        logger.debug({ image, event, name, done, total }, 'pull goes on');
        if (meter.note(progress)) {
          timer.cancel();
          timer = clock.setTimer(giveUp, STALLED_MS);
        }
        const detail = meter.text();
        if (detail !== undefined && clock.monotonic() - toldAt >= TELL_EVERY_MS) {
          toldAt = clock.monotonic();
          this.#tell(id, detail);
        }
      },
    };
    const options = { signal: AbortSignal.any([signal, stalled.signal]), deadlineMs: PULL_DEADLINE_MS };
    try {
      await (part === 'All'
        ? transfer.pull(request, options)
        : transfer.describe(request, async (described) => await check?.(described, options), options));
    } finally {
      timer.cancel();
    }
    return { hosts: [...hosts] };
  }

  /** @returns milliseconds of the pause */
  #remember(id: string, error: EsbError): number {
    const now = this.#options.clock.monotonic();
    for (const [each, { until }] of this.#failures) {
      if (until + FORGET_MS < now) {
        this.#failures.delete(each);
      }
    }
    const count = (this.#failures.get(id)?.count ?? 0) + 1;
    const pauseMs = backoffDelay(count, { firstMs: FIRST_PAUSE_MS, maxMs: LONGEST_PAUSE_MS });
    this.#failures.set(id, { error, count, until: now + pauseMs });
    return pauseMs;
  }

  #tell(id: string, detail: string): void {
    this.#details.set(id, detail);
    for (const listener of this.#listeners.get(id) ?? []) {
      listener(detail);
    }
  }
}

/** Distinguishes sets of credentials without keeping them. */
function fingerprint(dockerConfigs: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(dockerConfigs)).digest('hex');
}
