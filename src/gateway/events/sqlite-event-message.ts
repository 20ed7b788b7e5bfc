import { unreachable } from '../../common/errors.ts';
import type { ClaimLimits, EventLane, EventLimits, EventLoad } from './event-store.ts';
import type { ClaimedRow, NewRow, SqliteEventTable } from './sqlite-event-table.ts';

/** What the thread of an SQLite store is started with. */
export interface SqliteThreadData {
  readonly file: string;
  readonly limits: EventLimits;
  /** Whether the whole file is to be looked at. */
  readonly isSuspect: boolean;
}

/** One thing to be done. */
export type SqliteOperation =
  | { readonly kind: 'Put'; readonly row: NewRow }
  | { readonly kind: 'Lanes' }
  | {
      readonly kind: 'Claim';
      readonly lane: string;
      readonly limits: ClaimLimits;
      readonly leaseMs: number;
    }
  | {
      readonly kind: 'Renew';
      readonly claims: readonly { readonly id: string; readonly claim: string }[];
      readonly leaseMs: number;
    }
  | { readonly kind: 'Finish'; readonly id: string }
  | {
      readonly kind: 'Postpone';
      readonly id: string;
      readonly claim: string;
      readonly progress: string;
      readonly delayMs: number;
    }
  | { readonly kind: 'Park'; readonly id: string; readonly claim: string; readonly delayMs: number }
  | { readonly kind: 'Exchange'; readonly id: string; readonly claim: string; readonly successor: NewRow };

/** One thing to be done, with the number by which its end is told. */
export interface SqliteTask {
  readonly kind: 'Do';
  readonly number: number;
  readonly operation: SqliteOperation;
}

/** What the thread is sent. */
export type ToSqliteThread = SqliteTask | { readonly kind: 'Close' };

/** An error that crosses between threads. */
export interface SentError {
  readonly code: string;
  readonly message: string;
}

/** What a thing that was done gives. */
export type SqliteValue = readonly EventLane[] | readonly ClaimedRow[];

/** How one thing ended. */
export interface SqliteOutcome {
  readonly number: number;
  readonly error?: SentError;
  readonly value?: SqliteValue;
}

/** What the thread sends. */
export type FromSqliteThread =
  | { readonly kind: 'Opened'; readonly load: EventLoad; readonly diskFull: boolean }
  | { readonly kind: 'NotOpened'; readonly error: SentError }
  | {
      readonly kind: 'Done';
      readonly outcomes: readonly SqliteOutcome[];
      readonly load: EventLoad;
      readonly diskFull: boolean;
    };

/** Does one thing, within a transaction of the table. */
export function runOperation(table: SqliteEventTable, operation: SqliteOperation): SqliteValue {
  switch (operation.kind) {
    case 'Put':
      table.put(operation.row);
      return [];
    case 'Lanes':
      return table.lanes();
    case 'Claim':
      return table.claim(operation.lane, operation.limits, operation.leaseMs);
    case 'Renew':
      table.renew(operation.claims, operation.leaseMs);
      return [];
    case 'Finish':
      table.finish(operation.id);
      return [];
    case 'Postpone':
      table.postpone(operation.id, operation.claim, operation.progress, operation.delayMs);
      return [];
    case 'Park':
      table.park(operation.id, operation.claim, operation.delayMs);
      return [];
    case 'Exchange':
      table.exchange(operation.id, operation.claim, operation.successor);
      return [];
    default:
      return unreachable(operation);
  }
}
