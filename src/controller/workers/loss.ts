import { undecided, type Verdict, type WorkerReasons } from '../../api/condition.ts';
import type { Assignment } from '../../api/lambda-worker.ts';
import type { NodeStanding } from '../scheduling/node-view.ts';
import type { DecisionInput, WorkerDecision } from './decision.ts';
import { says } from './status-draft.ts';

/**
 * Whether the silence of its node is told to a worker. Where no node is heard at all, agents and workers are hardly to
 * blame, and thousands of writes would be one load more on the API server.
 */
export function isToldOfSilence({ liveness, stays }: NodeStanding): boolean {
  return liveness === 'lost' || (stays !== undefined && stays !== 'NoNodeHeard');
}

/** The worker keeps its assignment to a silent node. */
export function tellLoss(
  input: DecisionInput,
  assignment: Assignment,
  message: string,
  scheduled: Verdict,
): WorkerDecision {
  const { worker } = input;
  const ready = undecided<WorkerReasons['Ready']>('NodeLost', message);
  const isTold = (says(worker, { ready }) && worker.status?.phase === 'Unknown') || input.isLossTold;
  if (isTold && says(worker, { scheduled })) {
    return { kind: 'nothing' };
  }
  return { kind: 'write', cause: 'lost', status: { assignment, scheduled, ready, phase: 'Unknown' }, note: message };
}
