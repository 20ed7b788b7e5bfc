import { randomUUID } from 'node:crypto';
import { type Clock, systemClock } from '../../common/clock.ts';
import { AbortedError, type CallOptions, sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import { microTime } from '../api/micro-time.ts';
import { type Lease, leases } from '../api/resource-types.ts';
import type { KubeClient, ObjectKey } from '../api/types.ts';

export interface LeaderElectorOptions {
  readonly client: KubeClient;
  readonly lease: ObjectKey;
  /** Readable name of this candidate. A random part is added, so that a restarted process is another candidate. */
  readonly identity: string;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Milliseconds that other candidates wait after the last renewal that they saw. Default 15,000. */
  readonly leaseDurationMs?: number;
  /** Milliseconds after the last renewal until we no longer write. Well below the duration. Default 10,000. */
  readonly renewDeadlineMs?: number;
  /** Milliseconds between renewals, and between reads of a candidate. Default 2,000. */
  readonly retryMs?: number;
  /** Annotations that the Lease has while we hold it; asked at each renewal. An empty text takes one of before away. */
  readonly annotations?: () => Readonly<Record<string, string>>;
  /** Called when the term begins and ends; for a gauge. */
  readonly onChange?: (leading: boolean) => void;
  /**
   * Whether the Lease may be given back at the end of a term, so that another candidate leads at once. Otherwise others wait
   * for its end, as after a crash. Always by default.
   */
  readonly mayRelease?: () => boolean;
}

/** Failed attempts in a row until a warning, and milliseconds between two warnings. */
const WARN_AFTER_FAILURES = 3;
const WARN_EVERY_MS = 60_000;

const DEFAULTS = {
  clock: systemClock,
  random: Math.random,
  leaseDurationMs: 15_000,
  renewDeadlineMs: 10_000,
  retryMs: 2000,
} as const;

/** Our Lease as we last wrote it, and the time at which the request for it began, on both clocks. */
interface Term {
  readonly lease: Lease;
  readonly sinceMonotonic: number;
  readonly sinceWall: number;
}

/**
 * Leader election over a Lease, after client-go's, with two differences. Time is judged by our own monotonic clock
 * alone, from the moment when a renewal was sent and from the first sight of another's record in its present form, so
 * that clocks need not agree. And {@link LeaderElector.isLeader} says no once the renewal deadline has passed, whether
 * or not any of our code ran meanwhile: used as a fence it keeps a process that was stopped and continued from writing.
 */
export class LeaderElector {
  /** Name of this candidate in the Lease while we lead. */
  readonly holderIdentity: string;
  readonly #settings: LeaderElectorOptions & Required<Pick<LeaderElectorOptions, keyof typeof DEFAULTS>>;
  readonly #logger: Logger;
  #term: Term | undefined;
  /** Another candidate's Lease, and the time at which we first saw it in this form. */
  #sighting: { readonly version: string; readonly at: number } | undefined;

  /** @throws {EsbError} `InvalidArgument` unless retry < renew deadline < lease duration */
  constructor(options: LeaderElectorOptions) {
    this.#settings = { ...DEFAULTS, ...options };
    const { leaseDurationMs, renewDeadlineMs, retryMs } = this.#settings;
    if (renewDeadlineMs >= leaseDurationMs || retryMs >= renewDeadlineMs) {
      throw new EsbError('leader election needs retry < renew deadline < lease duration', { code: 'InvalidArgument' });
    }
    this.holderIdentity = `${options.identity}_${randomUUID()}`;
    this.#logger = options.logger.child({ lease: options.lease.name, holderIdentity: this.holderIdentity });
  }

  /** Whether we may write now. False from the moment when other candidates may begin to lead, by the clock. */
  isLeader(): boolean {
    return this.#msLeft() > 0;
  }

  /**
   * Competes until `signal` fires, and runs `lead` in each term. The signal of `lead` fires when the Lease is lost or
   * `signal` fires. The Lease is given back only after `lead` has ended. A `lead` that ends or throws unasked ends the
   * term.
   */
  async run(signal: AbortSignal, lead: (signal: AbortSignal) => Promise<void>): Promise<void> {
    while (await this.#won(signal)) {
      this.#logger.info({}, 'leading');
      this.#settings.onChange?.(true);
      await this.#serve(signal, lead);
      const held = this.#term;
      this.#term = undefined;
      this.#sighting = undefined;
      this.#settings.onChange?.(false);
      this.#logger.info({ lost: held === undefined }, 'no longer leading');
      if (held !== undefined && this.#settings.mayRelease?.() !== false) {
        await this.#release(held);
      }
      // Others first: a term that we gave up ourselves would otherwise be ours again at once.
      await this.#pause(signal);
    }
  }

  #msLeft(): number {
    if (this.#term === undefined) {
      return 0;
    }
    const { clock, renewDeadlineMs } = this.#settings;
    const { sinceMonotonic, sinceWall } = this.#term;
    // The monotonic clock stands still while a virtual machine sleeps; the wall clock may step. The shorter time
    // counts.
    const elapsedMs = Math.max(clock.monotonic() - sinceMonotonic, clock.now() - sinceWall);
    return Math.max(0, renewDeadlineMs - elapsedMs);
  }

  /** Waits until we lead; false when `signal` fires first. */
  async #won(signal: AbortSignal): Promise<boolean> {
    let failures = 0;
    let warnedAt = Number.NEGATIVE_INFINITY;
    while (!signal.aborted) {
      try {
        await this.#compete(signal);
        failures = 0;
        if (this.#term !== undefined) {
          return true;
        }
      } catch (error) {
        const fields = { error: messageOf(error) };
        const outrun = hasCode(error, 'Conflict') || hasCode(error, 'AlreadyExists');
        failures = outrun ? 0 : failures + 1;
        // One failure may happen. Many mean missing rights or a missing namespace, which an operator must mend.
        if (failures >= WARN_AFTER_FAILURES && this.#settings.clock.monotonic() - warnedAt >= WARN_EVERY_MS) {
          warnedAt = this.#settings.clock.monotonic();
          this.#logger.warn({ ...fields, failures }, 'candidacy keeps failing: this process cannot lead');
        } else {
          this.#logger.debug(fields, 'candidacy failed');
        }
      }
      await this.#pause(signal);
    }
    return false;
  }

  /** Reads the Lease, and tries to take it where that is allowed. */
  async #compete(signal: AbortSignal): Promise<void> {
    const lease = await this.#settings.client.get(leases, this.#settings.lease, this.#callOptions(signal));
    if (lease === undefined) {
      const created = { metadata: { ...this.#settings.lease, ...this.#marks() }, spec: this.#spec(undefined, true) };
      await this.#claim(() => this.#settings.client.create(leases, created, this.#callOptions(signal)));
      return;
    }
    const holder = lease.spec?.holderIdentity ?? '';
    const isOurs = holder === this.holderIdentity;
    if (holder === '' || isOurs || this.#isAbandoned(lease)) {
      // The version that was read is a precondition: of several candidates one succeeds.
      await this.#write(lease, !isOurs, signal);
    }
  }

  /** Whether the Lease, held by another, has not changed for the duration that its holder wrote. */
  #isAbandoned(lease: Lease): boolean {
    const version = `${lease.metadata.uid ?? ''} ${lease.metadata.resourceVersion ?? ''}`;
    if (this.#sighting?.version !== version) {
      this.#sighting = { version, at: this.#settings.clock.monotonic() };
    }
    const durationMs = Math.max(this.#settings.leaseDurationMs, (lease.spec?.leaseDurationSeconds ?? 0) * 1000);
    return this.#settings.clock.monotonic() - this.#sighting.at >= durationMs;
  }

  async #serve(signal: AbortSignal, lead: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const lost = new AbortController();
    const ending = AbortSignal.any([signal, lost.signal]);
    const tasks = new TaskGroup((name, error) => this.#logger.error({ err: error, task: name }, 'term failed'));
    // The Lease is renewed until the work has ended, also while the work is being ended.
    tasks.run('renewal', async (stopped) => {
      await this.#hold(stopped);
      lost.abort(new EsbError('the lease was lost', { code: 'NotLeader' }));
    });
    try {
      // The signal may have fired while the winning request was under way: the lease is then only given back.
      if (!ending.aborted) {
        await lead(ending);
      }
    } catch (error) {
      if (!ending.aborted) {
        this.#logger.error({ err: error }, 'leading failed');
      }
    } finally {
      await tasks.stop();
    }
  }

  /** Returns once the Lease is lost. */
  async #hold(signal: AbortSignal): Promise<void> {
    while (this.#term !== undefined) {
      await sleep(this.#settings.clock, Math.min(this.#settings.retryMs, this.#msLeft()), signal);
      try {
        await this.#renew(this.#term.lease, signal);
      } catch (error) {
        if (signal.aborted) {
          throw new AbortedError('leader election', signal.reason);
        }
        const leftMs = Math.round(this.#msLeft());
        this.#logger.warn({ error: messageOf(error), leftMs }, 'lease renewal failed');
      }
      if (this.#msLeft() <= 0) {
        this.#term = undefined;
      }
    }
  }

  async #renew(lease: Lease, signal: AbortSignal): Promise<void> {
    try {
      await this.#write(lease, false, signal);
    } catch (error) {
      if (!hasCode(error, 'Conflict') && !hasCode(error, 'NotFound')) {
        throw error;
      }
      // Changed by our own request whose answer was lost, by hand, or by a successor.
      const present = await this.#settings.client.get(leases, this.#settings.lease, this.#callOptions(signal));
      if (present?.spec?.holderIdentity === this.holderIdentity) {
        await this.#write(present, false, signal);
      } else {
        this.#term = undefined;
      }
    }
  }

  async #release({ lease }: Term): Promise<void> {
    const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1 };
    try {
      await this.#settings.client.update(leases, { ...lease, spec }, { deadlineMs: this.#settings.retryMs });
    } catch (error) {
      this.#logger.info({ error: messageOf(error) }, 'lease not given back');
    }
  }

  #write(lease: Lease, isNew: boolean, signal: AbortSignal): Promise<void> {
    const { metadata } = lease;
    const written = {
      ...lease,
      metadata: { ...metadata, ...this.#marks(metadata) },
      spec: this.#spec(lease.spec, isNew),
    };
    return this.#claim(() => this.#settings.client.update(leases, written, this.#callOptions(signal)));
  }

  /** Runs a request that makes us holder when it succeeds. */
  async #claim(request: () => Promise<Lease>): Promise<void> {
    const { clock } = this.#settings;
    const since = { sinceMonotonic: clock.monotonic(), sinceWall: clock.now() };
    this.#term = { lease: await request(), ...since };
  }

  #marks({ annotations }: Partial<Lease['metadata']> = {}): Pick<Lease['metadata'], 'annotations'> {
    const ours = this.#settings.annotations?.();
    return ours === undefined ? {} : { annotations: { ...annotations, ...ours } };
  }

  #spec(before: Lease['spec'], isNew: boolean): NonNullable<Lease['spec']> {
    const now = microTime(this.#settings.clock.now());
    return {
      ...before,
      holderIdentity: this.holderIdentity,
      leaseDurationSeconds: Math.ceil(this.#settings.leaseDurationMs / 1000),
      acquireTime: isNew ? now : (before?.acquireTime ?? now),
      renewTime: now,
      leaseTransitions: (before?.leaseTransitions ?? 0) + (isNew && before !== undefined ? 1 : 0),
    };
  }

  #callOptions(signal: AbortSignal): CallOptions {
    return { signal, deadlineMs: this.#settings.renewDeadlineMs / 2 };
  }

  /** Waits a while; no longer than until `signal` fires. */
  async #pause(signal: AbortSignal): Promise<void> {
    try {
      await sleep(this.#settings.clock, this.#settings.retryMs * (1 + this.#settings.random() / 5), signal);
    } catch {
      // Only the signal ends the wait early, and every loop asks the signal.
    }
  }
}
