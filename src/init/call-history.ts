/** Milliseconds that a request may have been on its way, by which a call is older than its gateway says. */
const ON_ITS_WAY_MS = 500;

/** Most characters of the marks of a history: an init remembers 256 calls. */
export const MAX_HISTORY_TEXT = 256 * 8;

/** Calls that an init has had and forgotten, as it tells when it connects. */
export interface CallHistory {
  /** Milliseconds since which all calls of the worker came to this init. The init names or remembers each of them. */
  readonly sinceMs: number;
  readonly marks: Set<number>;
}

/** @param text marks in hexadecimal digits, eight each */
export function readHistory(sinceMs: number, text: string): CallHistory {
  return { sinceMs, marks: new Set((text.match(/[0-9a-f]{8}/g) ?? []).map((mark) => Number.parseInt(mark, 16))) };
}

/**
 * Whether an init that connected `agoMs` ago, and did not name a call then, has certainly never had the call.
 *
 * @param sentMs milliseconds since the call left its gateway
 */
export function neverHad(history: CallHistory, agoMs: number, requestId: string, sentMs: number): boolean {
  return history.sinceMs + agoMs > sentMs + ON_ITS_WAY_MS && !history.marks.has(markOf(requestId));
}

/** FNV-1a, as the init has it. */
export function markOf(id: string): number {
  let mark = 2_166_136_261;
  for (const byte of Buffer.from(id)) {
    mark = Math.imul(mark ^ byte, 16_777_619) >>> 0;
  }
  return mark;
}
