import { randomUUID } from 'node:crypto';
import { type Clock, systemClock } from '../../common/clock.ts';
import { AbortedError, sleep } from '../../common/deadline.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import { microTime } from '../api/micro-time.ts';
import { type Lease, leases } from '../api/resource-types.ts';
import type { KubeClient, ObjectKey } from '../api/types.ts';

export interface LeaderElectorOptions {
  readonly client: KubeClient;
  /** The Lease that candidates compete for. */
  readonly lease: ObjectKey;
  /** Readable name of this candidate. A random part is added, so that a restarted process is another candidate. */
  readonly identity: string;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Milliseconds that others wait after the last renewal that they saw. Default 15,000. */
  readonly leaseDurationMs?: number;
  /** Milliseconds after the last renewal until we no longer write. Well below the duration. Default 10,000. */
  readonly renewDeadlineMs?: number;
  /** Milliseconds between renewals, and between looks of a candidate. Default 2,000. */
  readonly retryMs?: number;
  /** Told when the term begins and ends; for a gauge. */
  readonly onChange?: (leading: boolean) => void;
}

/** One candidate. */
export interface LeaderElector {
  /** As it is written in the Lease while we lead. */
  readonly holderIdentity: string;
  /** Whether we may write now. Asks the clock: false from the moment when others may begin to think so. */
  isLeader(): boolean;
  /**
   * Competes until `signal` fires, and each time that we win runs `lead` until its signal fires: on a lost Lease, or
   * when `signal` does. The Lease is given back only after `lead` has ended. A `lead` that ends or throws by itself
   * ends the term.
   */
  run(signal: AbortSignal, lead: (signal: AbortSignal) => Promise<void>): Promise<void>;
}

/** Looks of a candidate that fail in a row until somebody is told, and milliseconds until they are told again. */
const WARN_AFTER_FAILURES = 3;
const WARN_EVERY_MS = 60_000;

const DEFAULTS = { leaseDurationMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2000 } as const;

/** What we hold: the Lease as we last wrote it, and when the request for it began, on both clocks. */
interface Term {
  readonly lease: Lease;
  readonly sinceMonotonic: number;
  readonly sinceWall: number;
}

/** Another's Lease, and when we first saw it in this form. */
interface Sighting {
  readonly version: string;
  readonly at: number;
}

/**
 * Leader election over a Lease, after client-go's, with two differences. Time is judged by our own monotonic clock
 * alone, from the moment when a renewal was sent and from when another's record was first seen to be as it is, so that
 * clocks need not agree. And {@link LeaderElector.isLeader} says no once the renewal deadline has passed, whether or not
 * any of our code ran meanwhile: used as a fence it keeps a process that was stopped and continued from writing.
 */
export function createLeaderElector(options: LeaderElectorOptions): LeaderElector {
  const { client, lease: key, clock = systemClock, random = Math.random, onChange } = options;
  const { leaseDurationMs, renewDeadlineMs, retryMs } = { ...DEFAULTS, ...options };
  if (renewDeadlineMs >= leaseDurationMs || retryMs >= renewDeadlineMs) {
    throw new EsbError('leader election needs retry < renew deadline < lease duration', {
      code: 'InvalidArgument',
    });
  }
  const holderIdentity = `${options.identity}_${randomUUID()}`;
  const logger = options.logger.child({ lease: key.name, holderIdentity });
  let term: Term | undefined;
  let sighting: Sighting | undefined;

  const msLeft = (): number => {
    if (term === undefined) {
      return 0;
    }
    // The monotonic clock stands still while a virtual machine sleeps; the wall clock may step. The shorter time counts.
    const elapsed = Math.max(clock.monotonic() - term.sinceMonotonic, clock.now() - term.sinceWall);
    return Math.max(0, renewDeadlineMs - elapsed);
  };

  const spec = (before: Lease['spec'], isNew: boolean): NonNullable<Lease['spec']> => {
    const now = microTime(clock.now());
    return {
      ...before,
      holderIdentity,
      leaseDurationSeconds: Math.ceil(leaseDurationMs / 1000),
      acquireTime: isNew ? now : (before?.acquireTime ?? now),
      renewTime: now,
      leaseTransitions: (before?.leaseTransitions ?? 0) + (isNew && before !== undefined ? 1 : 0),
    };
  };

  /** Runs a request that makes us holder when it succeeds. */
  const claim = async (request: () => Promise<Lease>): Promise<void> => {
    const sinceMonotonic = clock.monotonic();
    const sinceWall = clock.now();
    term = { lease: await request(), sinceMonotonic, sinceWall };
  };

  const callOptions = (signal: AbortSignal) => ({ signal, deadlineMs: renewDeadlineMs / 2 });

  /** Whether the Lease, held by another, has not changed for as long as its holder said. */
  const isAbandoned = (lease: Lease): boolean => {
    const version = `${lease.metadata.uid ?? ''} ${lease.metadata.resourceVersion ?? ''}`;
    if (sighting?.version !== version) {
      sighting = { version, at: clock.monotonic() };
    }
    const durationMs = Math.max(leaseDurationMs, (lease.spec?.leaseDurationSeconds ?? 0) * 1000);
    return clock.monotonic() - sighting.at >= durationMs;
  };

  /** One look at the Lease, and a try to take it where that is allowed. */
  const compete = async (signal: AbortSignal): Promise<void> => {
    const lease = await client.get(leases, key, callOptions(signal));
    if (lease === undefined) {
      await claim(() =>
        client.create(leases, { metadata: key, spec: spec(undefined, true) }, callOptions(signal)),
      );
      return;
    }
    const holder = lease.spec?.holderIdentity ?? '';
    const isOurs = holder === holderIdentity;
    if (holder === '' || isOurs || isAbandoned(lease)) {
      // The version that was read is a precondition: of several who try, one succeeds.
      await claim(() =>
        client.update(leases, { ...lease, spec: spec(lease.spec, !isOurs) }, callOptions(signal)),
      );
    }
  };

  const renew = async (signal: AbortSignal): Promise<void> => {
    if (term === undefined) {
      return;
    }
    const { lease } = term;
    try {
      await claim(() =>
        client.update(leases, { ...lease, spec: spec(lease.spec, false) }, callOptions(signal)),
      );
    } catch (error) {
      if (!hasCode(error, 'Conflict') && !hasCode(error, 'NotFound')) {
        throw error;
      }
      // Changed by somebody: by ourselves with a request whose answer was lost, by hand, or by a successor.
      const present = await client.get(leases, key, callOptions(signal));
      if (present?.spec?.holderIdentity === holderIdentity) {
        await claim(() =>
          client.update(leases, { ...present, spec: spec(present.spec, false) }, callOptions(signal)),
        );
      } else {
        term = undefined;
      }
    }
  };

  /** Waits a while; no longer than until `signal` fires. */
  const pause = async (signal: AbortSignal): Promise<void> => {
    try {
      await sleep(clock, retryMs * (1 + random() / 5), signal);
    } catch {
      // Only the signal ends it early, and every loop asks that itself.
    }
  };

  /** Waits until we lead; false when `signal` fires first. */
  const won = async (signal: AbortSignal): Promise<boolean> => {
    let failures = 0;
    let warnedAt = Number.NEGATIVE_INFINITY;
    while (!signal.aborted) {
      try {
        await compete(signal);
        failures = 0;
        if (term !== undefined) {
          return true;
        }
      } catch (error) {
        const fields = { error: messageOf(error) };
        const outrun = hasCode(error, 'Conflict') || hasCode(error, 'AlreadyExists');
        failures = outrun ? 0 : failures + 1;
        // Once may happen; without the rights or the namespace nobody will ever lead, and somebody must mend that.
        if (failures >= WARN_AFTER_FAILURES && clock.monotonic() - warnedAt >= WARN_EVERY_MS) {
          warnedAt = clock.monotonic();
          logger.warn({ ...fields, failures }, 'candidacy keeps failing: nobody can lead from here');
        } else {
          logger.debug(fields, 'candidacy failed');
        }
      }
      await pause(signal);
    }
    return false;
  };

  /** Returns once the Lease is lost. */
  const hold = async (signal: AbortSignal): Promise<void> => {
    while (term !== undefined) {
      await sleep(clock, Math.min(retryMs, msLeft()), signal);
      try {
        await renew(signal);
      } catch (error) {
        if (signal.aborted) {
          throw new AbortedError('leader election', signal.reason);
        }
        logger.warn({ error: messageOf(error), leftMs: Math.round(msLeft()) }, 'lease renewal failed');
      }
      if (msLeft() <= 0) {
        term = undefined;
      }
    }
  };

  const release = async (held: Term): Promise<void> => {
    try {
      await client.update(
        leases,
        { ...held.lease, spec: { ...held.lease.spec, holderIdentity: '', leaseDurationSeconds: 1 } },
        { deadlineMs: retryMs },
      );
    } catch (error) {
      logger.info({ error: messageOf(error) }, 'lease not given back');
    }
  };

  const serve = async (signal: AbortSignal, lead: (signal: AbortSignal) => Promise<void>): Promise<void> => {
    const ending = new AbortController();
    const tasks = new TaskGroup((name, error) => logger.error({ err: error, task: name }, 'term failed'));
    const onAbort = (): void => ending.abort(new AbortedError('term', signal.reason));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) {
      onAbort();
    }
    // The Lease is renewed until the work has ended, also while it is being ended.
    tasks.run('renewal', async (stopped) => {
      await hold(stopped);
      ending.abort(new EsbError('the lease was lost', { code: 'NotLeader', retryable: true }));
    });
    try {
      await lead(ending.signal);
    } catch (error) {
      if (!ending.signal.aborted) {
        logger.error({ err: error }, 'leading failed');
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      await tasks.stop();
    }
  };

  return {
    holderIdentity,
    isLeader: () => term !== undefined && msLeft() > 0,
    async run(signal, lead) {
      while (await won(signal)) {
        logger.info({}, 'leading');
        onChange?.(true);
        await serve(signal, lead);
        const held = term;
        term = undefined;
        sighting = undefined;
        onChange?.(false);
        logger.info({ lost: held === undefined }, 'no longer leading');
        if (held !== undefined) {
          await release(held);
        }
        // Others first: a term that we gave up ourselves would otherwise be ours again at once.
        await pause(signal);
      }
    },
  };
}
