import { type Clock, systemClock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { messageOf } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { TaskGroup } from '../common/task-group.ts';
import { microTime } from './micro-time.ts';
import { leases } from './resource-types.ts';
import type { KubeClient, ObjectKey } from './types.ts';

export interface LeaseKeeperOptions {
  readonly client: KubeClient;
  readonly lease: ObjectKey;
  /** Who is alive. */
  readonly identity: string;
  /** Owner of the fields. */
  readonly fieldManager: string;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Milliseconds between renewals. Default 10,000. */
  readonly everyMs?: number;
  /** What readers are told; each decides by itself. Default 40. */
  readonly durationSeconds?: number;
  /** Told after each renewal, with how long it took. */
  readonly onRenewed?: (ms: number) => void;
}

/** A sign of life, as kubelets give for their nodes. */
export interface LeaseKeeper {
  /** Monotonic milliseconds of the last renewal that the server confirmed. */
  lastRenewedAt(): number | undefined;
  start(): void;
  /** Stops renewing. The Lease stays. */
  stop(): Promise<void>;
}

const DEFAULT_EVERY_MS = 10_000;
const DEFAULT_DURATION_SECONDS = 40;

/** Keeps a Lease of which there is only one writer. Made where there is none; a failed renewal is tried again soon. */
export function createLeaseKeeper(options: LeaseKeeperOptions): LeaseKeeper {
  const {
    client,
    lease,
    identity,
    fieldManager,
    clock = systemClock,
    random = Math.random,
    everyMs = DEFAULT_EVERY_MS,
    durationSeconds = DEFAULT_DURATION_SECONDS,
    onRenewed,
  } = options;
  const logger = options.logger.child({ lease: lease.name });
  const tasks = new TaskGroup((name, error) =>
    logger.error({ err: error, task: name }, 'lease keeper failed'),
  );
  let renewedAt: number | undefined;
  let started = false;

  const renew = async (signal: AbortSignal): Promise<void> => {
    const startedAt = clock.monotonic();
    const spec = {
      holderIdentity: identity,
      leaseDurationSeconds: durationSeconds,
      renewTime: microTime(clock.now()),
    };
    await client.patch(
      leases,
      lease,
      { kind: 'apply', fieldManager, body: { spec } },
      { signal, deadlineMs: everyMs },
    );
    renewedAt = clock.monotonic();
    onRenewed?.(renewedAt - startedAt);
  };

  const run = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      let delayMs = everyMs;
      try {
        await renew(signal);
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        logger.warn({ error: messageOf(error) }, 'lease not renewed');
        delayMs = everyMs / 5;
      }
      await sleep(clock, delayMs * (1 - random() / 10), signal);
    }
  };

  return {
    lastRenewedAt: () => renewedAt,
    start() {
      if (!started) {
        started = true;
        tasks.run('renewal', run);
      }
    },
    stop: () => tasks.stop(),
  };
}
