import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Clock } from '../../common/clock.ts';
import { EsbError, hasCode, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { GatewayConfig } from '../../options/gateway.ts';
import type { EventLimits, EventStore } from './event-store.ts';
import { PostgresEventStore } from './postgres-event-store.ts';
import { ReopeningEventStore } from './reopening-event-store.ts';
import { SqliteEventChannel } from './sqlite-event-channel.ts';
import { sqliteEventStore } from './sqlite-event-store.ts';

/** Variable of the environment with the connection string of the event database. */
export const EVENT_DATABASE_VARIABLE = 'ESB_EVENT_DATABASE';

export interface EventStoreConfig {
  readonly stateDir: string;
  readonly namespace: string;
  readonly events: Pick<GatewayConfig['events'], 'store' | 'databaseFile' | 'maxEvents' | 'maxBytes'>;
  /**
   * Whether a folder that another process has is waited for: a gateway that had the events ends while the role that takes
   * them over begins. Default false.
   */
  readonly waits?: boolean;
}

export interface EventStoreContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Opens the store that the flags ask for. The gateway starts without a reachable database or a usable file: events are
 * refused until the store opens.
 *
 * @throws {EsbError} `EventStoreLocked` when another gateway has the state folder and is not waited for, or `EventDatabaseMissing`
 *   when neither flag nor environment names the database
 */
export async function openEventStore(
  { events, namespace, stateDir, waits = false }: EventStoreConfig,
  context: EventStoreContext,
): Promise<EventStore> {
  const limits: EventLimits = { maxEvents: events.maxEvents, maxBytes: events.maxBytes };
  const { clock, logger } = context;
  if (events.store === 'sqlite') {
    const owner = randomUUID();
    let isSuspect = false;
    const store = new ReopeningEventStore({
      open: async (tellBroken, signal) => {
        const onBroken = (error: EsbError): void => {
          isSuspect = true;
          tellBroken(error);
        };
        return sqliteEventStore(
          await SqliteEventChannel.open({ folder: stateDir, limits, owner, onBroken, signal, isSuspect }),
          limits,
        );
      },
      limits,
      clock,
      logger,
    });
    await store.start();
    const { failure } = store;
    if (!waits && hasCode(failure, 'EventStoreLocked')) {
      await store.close();
      throw failure;
    }
    return store;
  }
  return new PostgresEventStore({
    connectionString: await connectionString(events.databaseFile, context.env),
    namespace,
    limits,
    clock,
    logger,
  });
}

/** Never in an argument, which every user of the machine may read. */
async function connectionString(file: string | undefined, env: EventStoreContext['env']): Promise<string> {
  if (file !== undefined) {
    try {
      return await readFile(file, 'utf8');
    } catch (error) {
      throw new EsbError(`cannot read the connection string of the event database: ${messageOf(error)}`, {
        code: 'EventDatabaseMissing',
        cause: error,
      });
    }
  }
  const value = env[EVENT_DATABASE_VARIABLE];
  if (value === undefined || value === '') {
    throw new EsbError(
      `--event-store=postgres needs the connection string in a file (--event-database-file) or in ${EVENT_DATABASE_VARIABLE}`,
      { code: 'EventDatabaseMissing' },
    );
  }
  return value;
}
