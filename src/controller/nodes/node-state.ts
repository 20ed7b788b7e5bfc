import {
  conditionsOf,
  findCondition,
  isReadinessTaken,
  isSameVerdict,
  isTrue,
  type NodeStateReasons,
  nodeConditions,
  nodeStateConditions,
  undecided,
  type Verdict,
  type Verdicts,
  yes,
} from '../../api/condition.ts';
import type { LambdaNode } from '../../api/lambda-node.ts';
import { fieldManagers } from '../../api/name.ts';
import { unreachable } from '../../common/errors.ts';
import type { PatchBody } from '../../kube/api/types.ts';
import type { EarlierLife, NodeLife, StayReason } from './liveness.ts';

/** Why a node that is well gets no new workers: by its hold Pod. */
export type HoldClosure = 'draining' | 'unheld';

/** The state of a node as this controller sees it. */
export interface NodeState {
  readonly life: NodeLife;
  readonly closure: HoldClosure | undefined;
  /** Why Pods of ours are refused there; undefined where the controller that led before has found the closure. */
  readonly because?: string | undefined;
}

const stays: Readonly<Record<StayReason, string>> = {
  AgentStarting: 'its agent is being started',
  ManyUnreachable: 'so many nodes of its zone are unreachable that the fault is hardly theirs',
  NoNodeHeard: 'no other node was heard either',
  RateLimited: 'one node after the other is given up',
};

type StateVerdicts = { readonly [Type in keyof NodeStateReasons]?: Verdict<NodeStateReasons[Type]> };

/** The consequence of the silence of a node, for people; undefined for a node that is not silent. */
export function lifeText(life: NodeLife): string | undefined {
  switch (life.kind) {
    case 'fresh':
    case 'quiet':
      return undefined;
    case 'unreachable':
      return `its Lease is not renewed; its workers stay for now, since ${stays[life.because]}`;
    case 'lost':
      return 'its Lease is not renewed; its workers are served elsewhere where they can be';
    default:
      return unreachable(life);
  }
}

/** Why the workers of an unreachable node stay, as a clause about the node. */
export function stayClause(because: StayReason): string {
  return stays[because];
}

function lifeVerdicts(life: NodeLife): StateVerdicts {
  const text = lifeText(life);
  if (text === undefined) {
    return {};
  }
  return life.kind === 'unreachable' ? { Unreachable: yes(life.because, text) } : { Lost: yes('LeaseExpired', text) };
}

function closureVerdicts(
  node: LambdaNode,
  { because, closure }: Pick<NodeState, 'because' | 'closure'>,
): StateVerdicts {
  switch (closure) {
    case undefined:
      return {};
    case 'draining':
      return { Draining: yes('WorkersLeave', 'its workers leave it') };
    case 'unheld': {
      const text = 'the memory of its workers is not reserved, so that no more workers come';
      const told = findCondition(node.status?.conditions, nodeConditions.unheld)?.message ?? text;
      const message = because === undefined ? told : `${text}: ${because}`;
      return { Unheld: yes('MemoryNotReserved', message) };
    }
    default:
      return unreachable(closure);
  }
}

/**
 * The condition Ready, where the controller has the last word on it. The word is given once for each silence: an agent
 * that reports and renews no Lease is not overruled again. After the node was heard the word stays until the agent has
 * written what holds now.
 */
function readiness({ status }: LambdaNode, isSilent: boolean): Verdict | undefined {
  const { conditions } = status ?? {};
  const present = findCondition(conditions, nodeConditions.ready);
  if (isReadinessTaken(conditions)) {
    return present;
  }
  const isTold = isTrue(conditions, nodeConditions.lost) || isTrue(conditions, nodeConditions.unreachable);
  return isSilent && !isTold
    ? undecided<NodeStateReasons['Ready']>('NodeUnreachable', 'nothing has been heard of its agent')
    : undefined;
}

/**
 * The write that brings the conditions of a LambdaNode in line with the state of its node; undefined where they are.
 * A forced server-side apply, which succeeds only on the version that was read.
 *
 * @param now wall-clock milliseconds
 */
export function nodeStatePatch(node: LambdaNode, { life, ...closed }: NodeState, now: number): PatchBody | undefined {
  const present = node.status?.conditions;
  const told = lifeVerdicts(life);
  const ready = readiness(node, Object.keys(told).length > 0);
  const verdicts: Verdicts = { Ready: ready, ...told, ...closureVerdicts(node, closed) };
  // Another word of Ready is the agent's, and stays.
  const own = [...nodeStateConditions, ...(ready === undefined ? [] : [nodeConditions.ready])];
  if (own.every((type) => isSameVerdict(findCondition(present, type), verdicts[type]))) {
    return undefined;
  }
  const { generation, resourceVersion } = node.metadata;
  const conditions = conditionsOf(verdicts, { present, generation, now });
  return {
    kind: 'apply',
    fieldManager: fieldManagers.controller,
    body: { metadata: { resourceVersion }, status: { conditions } },
  };
}

/**
 * The findings of the leader before about the nodes that were not well, by name.
 *
 * @param now wall-clock milliseconds
 */
export function earlierLives(nodes: readonly LambdaNode[], now: number): ReadonlyMap<string, EarlierLife> {
  const lives = nodes.map((node) => [node.metadata.name, earlierLife(node, now)] as const);
  return new Map(lives.flatMap(([name, life]) => (life === undefined ? [] : [[name, life] as const])));
}

function earlierLife(node: LambdaNode, now: number): EarlierLife | undefined {
  const conditions = node.status?.conditions;
  const told = (type: string) => (isTrue(conditions, type) ? findCondition(conditions, type) : undefined);
  const lost = told(nodeConditions.lost);
  if (lost !== undefined) {
    return { life: { kind: 'lost', isConfirmed: false }, forMs: now - Date.parse(lost.lastTransitionTime) };
  }
  const silent = told(nodeConditions.unreachable);
  if (silent === undefined) {
    return undefined;
  }
  const because = isStayReason(silent.reason) ? silent.reason : 'RateLimited';
  return { life: { kind: 'unreachable', because }, forMs: now - Date.parse(silent.lastTransitionTime) };
}

function isStayReason(reason: string): reason is StayReason {
  return Object.hasOwn(stays, reason);
}

/** The closure that the leader before has found. */
export function earlierClosure(node: LambdaNode): HoldClosure | undefined {
  const conditions = node.status?.conditions;
  if (isTrue(conditions, nodeConditions.draining)) {
    return 'draining';
  }
  return isTrue(conditions, nodeConditions.unheld) ? 'unheld' : undefined;
}
