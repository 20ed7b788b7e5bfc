import type { HoldClosure } from '../nodes/node-state.ts';

/** Milliseconds for which the kubelet may refuse Pods of ours before the node gets no more workers. */
export const UNHELD_AFTER_MS = 30_000;

/** The reason for which a node is closed to new workers. */
export interface Closing {
  readonly closure: HoldClosure;
  /** Undefined where the controller that led before has found the closure. */
  readonly because: string | undefined;
}

export interface ClosureInput {
  /** Why workers are to leave the node. */
  readonly draining: string | undefined;
  /** Why the kubelet or the API server has last refused a Pod of ours. */
  readonly refusal: string | undefined;
  /** Milliseconds since the first refusal; undefined where none was since both Pods were held. */
  readonly unheldForMs: number | undefined;
}

/** The consequence of the state of our Pods for new workers, and the milliseconds until that changes by itself. */
export function closureBy({ draining, refusal, unheldForMs }: ClosureInput): {
  readonly closing?: Closing;
  readonly againAfterMs?: number;
} {
  if (draining !== undefined) {
    return { closing: { closure: 'draining', because: draining } };
  }
  if (unheldForMs === undefined) {
    return {};
  }
  const left = UNHELD_AFTER_MS - unheldForMs;
  return left > 0 ? { againAfterMs: left } : { closing: { closure: 'unheld', because: refusal } };
}
