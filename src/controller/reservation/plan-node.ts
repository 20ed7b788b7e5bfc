import type { LambdaNode } from '../../api/lambda-node.ts';
import type { Pod } from '../../kube/api/resource-types.ts';
import type { NodePresence } from '../scheduling/node-snapshot.ts';
import { decideGuard, type GuardDecision, isEmpty } from './decide-guard.ts';
import { decideReserve, type ReserveDecision, requestedMiB, YIELD_MS } from './decide-reserve.ts';
import { holdView, isOwnedBy, type ReserveView } from './hold-view.ts';
import { askCPU, type Closing, closureBy, type NodeTrack, noteEnded, replaceAfterMs } from './node-track.ts';
import { isEvictedByTaint } from './tolerations.ts';

/** Everything about one node at one look. */
export interface NodeLook {
  readonly nodeName: string;
  readonly node: LambdaNode | undefined;
  readonly presence: NodePresence;
  readonly guard: Pod | undefined;
  readonly reserves: readonly { readonly pod: Pod; readonly view: ReserveView }[];
  readonly assigned: number;
  /** Workers that have a container there, by the word of the agent. */
  readonly present: number;
  /** Milliseconds for which that word may be out of date; 0 where it holds. */
  readonly unsettledMs: number;
  /** The image that hold Pods are to have. */
  readonly image: string;
  readonly wantedMiB: number;
  /** MiB of one step of the reservation. */
  readonly stepMiB: number;
  /** Thousandths of a core. */
  readonly wantedMilliCPU: number;
  readonly graceSeconds: number;
}

/** The consequences of one look at a node. */
export interface NodePlan {
  readonly guard: GuardDecision;
  readonly reserve: ReserveDecision;
  /** Why the node is closed to new workers; undefined where it is open. */
  readonly closing: Closing | undefined;
  /** Whether the agent lets workers have less than is wanted, on a node that is open. */
  readonly isSmaller: boolean;
  /** Milliseconds after which the plan changes without an event. */
  readonly waitsMs: readonly number[];
}

function planGuard(look: NodeLook, track: NodeTrack, now: number): GuardDecision {
  const { assigned, graceSeconds, guard: pod, image, node, presence, present } = look;
  const view = pod === undefined ? undefined : holdView(pod);
  if (track.guard.isNew(`${pod?.metadata.uid ?? ''} ${view?.state.kind ?? ''}`, now)) {
    track.wasClosed = false;
  }
  const isClosed = presence.cordoned || presence.departure !== undefined;
  track.wasClosed ||= isClosed;
  const ended = look.reserves.filter((one) => one.view.state.kind === 'ended').map((one) => one.pod.metadata.uid ?? '');
  noteEnded(track, ended, view?.state.kind === 'ended' ? pod?.metadata.uid : undefined, now);
  return decideGuard({
    ...presence,
    assigned,
    present,
    isBack: track.wasClosed && !isClosed,
    isOrphaned: pod !== undefined && node !== undefined && !isOwnedBy(pod, node),
    isTainted: isEvictedByTaint(presence.taints, pod?.spec?.tolerations ?? []),
    wanted: { image, graceSeconds },
    pod: view,
    sinceMs: track.guard.ms(now),
    replaceAfterMs: replaceAfterMs(track),
  });
}

/**
 * Plans what becomes of the Pods of a node, by {@link decideGuard} and {@link decideReserve}.
 *
 * @param track takes in what this look has found
 * @param now monotonic milliseconds
 */
export function planNode(look: NodeLook, track: NodeTrack, now: number): NodePlan {
  const { image, node, presence, reserves, unsettledMs } = look;
  const guard = planGuard(look, track, now);
  const promisedMiB = node?.status?.promised?.memoryMiB ?? 0;
  const pods = reserves.map(({ view }) => view);
  track.lower.isNew(String(requestedMiB(pods) > look.wantedMiB), now);
  const cpu = askCPU(track, pods, look.wantedMilliCPU, now);
  track.yieldsUntil = pods.some(({ isPreempted }) => isPreempted) ? now + YIELD_MS : track.yieldsUntil;
  const reserve = decideReserve({
    ...presence,
    isEmpty: isEmpty({ ...look, lost: presence.lost }),
    isDraining: guard.draining !== undefined,
    image,
    wantedMiB: look.wantedMiB,
    stepMiB: look.stepMiB,
    ...cpu.input,
    promisedMiB,
    pods,
    endedForMs: now - track.endedAt,
    replaceAfterMs: replaceAfterMs(track),
    lowerForMs: track.lower.ms(now),
    raisedForMs: now - track.raisedAt,
    yieldsForMs: track.yieldsUntil - now,
  });
  const { promiseMiB } = reserve;
  const isShort = !presence.isOutside && promiseMiB < look.wantedMiB;
  noteRefusal(track, guard, reserve, isShort, now);
  track.raisedAt = promiseMiB > (node?.status?.reserved?.memoryMiB ?? 0) ? now : track.raisedAt;
  const { closing, againAfterMs } = closureBy({
    draining: guard.draining,
    refusal: track.refusal,
    unheldForMs: track.unheldSince === undefined ? undefined : now - track.unheldSince,
  });
  const waits = [guard.againAfterMs, reserve.againAfterMs, againAfterMs, cpu.againAfterMs];
  return {
    guard,
    reserve,
    closing,
    isSmaller: closing === undefined && (isShort || promisedMiB < promiseMiB),
    waitsMs: [...waits, unsettledMs > 0 ? unsettledMs : undefined].filter((ms) => ms !== undefined),
  };
}

/** Notes since when and why Pods of the node are refused, or that all is held. */
function noteRefusal(
  track: NodeTrack,
  guard: GuardDecision,
  { promiseMiB, refusal }: ReserveDecision,
  isShort: boolean,
  now: number,
): void {
  track.refusal = guard.refusal ?? refusal ?? track.refusal;
  const isUnguarded = guard.action.kind === 'create' && track.refusal !== undefined;
  if (!isShort && guard.refusal === undefined && !isUnguarded) {
    track.unheldSince = undefined;
    track.refusal = undefined;
    track.ends = 0;
  } else if (track.unheldSince === undefined || promiseMiB > track.promiseMiB) {
    track.unheldSince = now;
  }
  track.promiseMiB = promiseMiB;
}
