import type { EventReason } from '../../api/condition.ts';
import { type LambdaFunction, lambdaFunctions } from '../../api/lambda-function.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import { referenceTo } from '../../kube/events/event-series.ts';
import type { WriteOutcome } from './write-outcome.ts';

/** A refusal of the API server, in its words. */
export interface Refused {
  readonly reason: 'SettingsRefused' | 'VersionRefused' | 'WorkerRefused';
  readonly message: string;
}

/** The actions that Events of refusals name. One of a revision is in no status. */
const actions: Readonly<Record<Refused['reason'] | 'RevisionRefused', string>> = {
  RevisionRefused: 'Keep',
  SettingsRefused: 'Change',
  VersionRefused: 'Publish',
  WorkerRefused: 'Scale',
};

/** The first refusal among the outcomes of some writes for a function; an Event tells one that is new. */
export function refusalIn<Reason extends keyof typeof actions>(
  owner: LambdaFunction,
  outcomes: readonly WriteOutcome[],
  reason: Reason,
  events: EventSink<EventReason>,
): { readonly reason: Reason; readonly message: string } | undefined {
  const refused = outcomes.find((outcome) => outcome.kind === 'refused');
  if (refused === undefined) {
    return undefined;
  }
  const { message } = refused;
  if (refused.isNew) {
    events.record({
      regarding: referenceTo(lambdaFunctions, owner),
      type: 'Warning',
      reason,
      action: actions[reason],
      note: message,
    });
  }
  return { reason, message };
}
