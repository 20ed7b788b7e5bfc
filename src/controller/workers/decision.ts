import type { LambdaWorker } from '../../api/lambda-worker.ts';
import type { WriteCause } from '../metrics/controller-metrics.ts';
import type { Grant } from '../quota/quota-book.ts';
import type { NodeStanding } from '../scheduling/node-view.ts';
import type { Placement } from '../scheduling/place.ts';
import type { StatusDraft } from './status-draft.ts';

/** A node that the worker was on, and that may have a container of it. */
export interface LeftNode extends Pick<NodeStanding, 'liveness' | 'goneBecause'> {
  /** Whether its agent reports a container. */
  readonly lists: boolean;
  /** Milliseconds since the worker was taken away from there, as far as this controller knows. */
  readonly leftMs: number;
}

export interface DecisionInput {
  readonly worker: LambdaWorker;
  /** The assigned node; looked at only when there is an assignment. */
  readonly standing: NodeStanding;
  /** Other nodes that the worker was on; looked at only when it is being deleted. */
  readonly left: readonly LeftNode[];
  readonly deletingMs: number;
  readonly place: (exclude?: string, unfitArchitectures?: readonly string[]) => Placement;
  /** The answer of the namespace's quotas to the present size of the worker. */
  readonly grant: () => Grant;
  /** Whether the loss of its present node has already been written to this worker. */
  readonly isLossTold: boolean;
  /** Whether the last move away from a full node was long enough ago. */
  readonly mayLeaveFullNode: boolean;
  /** Whether the disruption budget lets the worker leave a healthy node; called only when another node fits. */
  readonly mayLeave: () => boolean;
}

export type WorkerDecision =
  | { readonly kind: 'nothing' }
  /** A node has to report first: look again when it has, or after that many milliseconds. */
  | { readonly kind: 'wait'; readonly forMs: number }
  /** Written before any assignment: no worker with an assignment can go without its node's clean-up. */
  | { readonly kind: 'addFinalizer' }
  | { readonly kind: 'removeFinalizer'; readonly because: string; readonly isNodeGone: boolean }
  | {
      readonly kind: 'write';
      readonly cause: WriteCause;
      readonly status: StatusDraft;
      /** For the Event. */
      readonly note: string;
      /** The node whose permanent loss the decision depends on. */
      readonly goneNode?: string | undefined;
    };
