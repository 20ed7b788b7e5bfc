/** A call as a mark tells of it. */
export interface MarkedCall {
  readonly requestId: string;
  /** Wall-clock milliseconds at which its time is over. */
  readonly until: number;
}

/** Mark that an earlier run of the agent left of one worker. */
export interface FoundMark {
  readonly uid: string;
  readonly containerId: string;
  /** Whether a call was in the container when that run ended. */
  readonly busy: boolean;
  /** As much as is known of that call; an agent before an upgrade left nothing of it. */
  readonly call: Partial<MarkedCall>;
  /** The last stamp that was issued for it, if any. */
  readonly stamp: string | undefined;
  /** Calls in other containers, which an agent before that one had left. */
  readonly left: readonly { readonly containerId: string; readonly call: Partial<MarkedCall> }[];
}

/** A call that an earlier run of the agent has left in a container. Its answer goes to no caller. */
export interface LeftCall {
  /** Absent where it is not known: then no line of the log tells the end of the call. */
  readonly requestId?: string;
  /** Wall-clock milliseconds at which its time is over. */
  readonly until: number;
}

/**
 * Facts about a call that was found in a container.
 *
 * @param boundMs milliseconds that no call in that container takes longer than: a wall clock may have been set
 * meanwhile
 */
export function leftCall(found: Partial<MarkedCall>, now: number, boundMs: number): LeftCall {
  const latest = now + boundMs;
  return { ...found, until: Math.min(found.until ?? latest, latest) };
}

/** The call that may be in that container, as a mark tells of it; undefined for none. */
export function callLeftIn(containerId: string, mark: FoundMark | undefined): Partial<MarkedCall> | undefined {
  // A mark that was being written names no container.
  return mark?.busy === true && (mark.containerId === containerId || mark.containerId === '')
    ? mark.call
    : mark?.left.find((each) => each.containerId === containerId)?.call;
}
