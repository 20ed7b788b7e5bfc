import { ERROR_CODES } from '../common/error-codes.ts';
import type { Reason } from './generated/agent.ts';

interface ReasonEntry {
  /** The word of logs, metrics, spans and messages. */
  readonly name: string;
  /** Whether the worker may have begun the call. A call that may have begun is never sent again. */
  readonly started: 'no' | 'maybe';
  /** One clause, for the reference: that of the error code of the same name where both mean the same. */
  readonly meaning: string;
}

type NamedReason = Exclude<Reason, 'REASON_UNSPECIFIED'>;

/** Every reason of the protocol. */
export const REASONS = {
  REASON_NOT_FOUND: {
    name: 'NotFound',
    started: 'no',
    meaning: 'no such worker is on this node, or the worker is being removed',
  },
  REASON_FENCED: { name: 'Fenced', started: 'no', meaning: ERROR_CODES.Fenced.meaning },
  REASON_PAUSED_BY_OWNER: { name: 'PausedByOwner', started: 'no', meaning: ERROR_CODES.PausedByOwner.meaning },
  REASON_QUEUE_FULL: { name: 'QueueFull', started: 'no', meaning: 'too many calls wait for the worker' },
  REASON_START_FAILED: { name: 'StartFailed', started: 'no', meaning: 'the worker could not be made ready' },
  REASON_CRASH_LOOP_BACK_OFF: {
    name: 'CrashLoopBackOff',
    started: 'no',
    meaning: ERROR_CODES.CrashLoopBackOff.meaning,
  },
  REASON_NODE_FULL: { name: 'NodeFull', started: 'no', meaning: ERROR_CODES.NodeFull.meaning },
  REASON_UNAVAILABLE: { name: 'Unavailable', started: 'no', meaning: ERROR_CODES.Unavailable.meaning },
  REASON_CALLER_GONE: { name: 'CallerGone', started: 'no', meaning: ERROR_CODES.CallerGone.meaning },
  REASON_INVALID_ARGUMENT: { name: 'InvalidArgument', started: 'no', meaning: 'the call names no worker' },
  REASON_SHARE_IN_USE: { name: 'ShareInUse', started: 'no', meaning: ERROR_CODES.ShareInUse.meaning },
  REASON_BUSY: { name: 'Busy', started: 'no', meaning: ERROR_CODES.Busy.meaning },
  REASON_WORKER_EXITED: {
    name: 'WorkerExited',
    started: 'maybe',
    meaning: 'the process of the worker ended during the call',
  },
  REASON_CONNECTION_LOST: { name: 'ConnectionLost', started: 'maybe', meaning: ERROR_CODES.ConnectionLost.meaning },
  REASON_AGENT_STOPPED: { name: 'AgentStopped', started: 'maybe', meaning: 'the agent ended before the answer came' },
  REASON_RESTARTED: { name: 'Restarted', started: 'maybe', meaning: 'the worker was restarted under the call' },
  REASON_RESPONSE_TOO_SLOW: { name: 'ResponseTooSlow', started: 'maybe', meaning: ERROR_CODES.ResponseTooSlow.meaning },
} as const satisfies Readonly<Record<NamedReason, ReasonEntry>>;

type Entry = (typeof REASONS)[keyof typeof REASONS];

/** Why a call was refused: nothing of it reached the worker. */
export type RefusalReason = Extract<Entry, { readonly started: 'no' }>['name'];

/** Why the outcome of a call is unknown: the worker may have begun it. */
export type UnknownReason = Extract<Entry, { readonly started: 'maybe' }>['name'];

const codes: ReadonlyMap<string, NamedReason> = new Map(
  Object.entries(REASONS).map(([code, { name }]) => [name, code as NamedReason]),
);

/** The value of a word in the protocol; `REASON_UNSPECIFIED` for a word that is no reason of a call. */
export function reasonCodeOf(name: string): Reason {
  return codes.get(name) ?? 'REASON_UNSPECIFIED';
}

/** The reason that a value of the protocol stands for; undefined for one of a later release, and for none. */
export function reasonIn(code: Reason): Entry | undefined {
  const entries: Readonly<Partial<Record<Reason, Entry>>> = REASONS;
  return entries[code];
}
