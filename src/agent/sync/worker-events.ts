import type { AgentEventReason, Verdict } from '../../api/condition.ts';
import { lambdaWorkers } from '../../api/lambda-worker.ts';
import { apiVersionOf } from '../../kube/api/resource-path.ts';
import type { EventSink } from '../../kube/events/event-recorder.ts';
import type { RecordedEvent } from '../../kube/events/event-series.ts';
import type { WorkerIdentity } from '../../runtime/contract/runtime.ts';
import { imageCodes } from '../model/conditions.ts';
import type { Fleet } from '../model/fleet.ts';
import type { InvocationResult } from '../model/invocation.ts';
import type { WorkerView } from '../model/worker-state.ts';

/** Part of an Event that does not depend on the worker. Notes hold nothing that differs from time to time: equal ones are counted. */
export type Happening = Pick<RecordedEvent<AgentEventReason>, 'type' | 'reason' | 'action' | 'note'>;

/** Happenings between two views of one worker. A first view tells of none: an earlier run of the agent may have told. */
export function happeningsOf(before: WorkerView, after: WorkerView): readonly Happening[] {
  if (
    before.conditions === after.conditions &&
    before.lastTermination === after.lastTermination &&
    before.phase === after.phase
  ) {
    return [];
  }
  return [pulled, failed, notReplaced, ended, limited].flatMap((tell) => tell(before, after) ?? []);
}

/** The Event of a call that its function has left without an answer; undefined for any other end. */
export function happeningOf(result: InvocationResult): Happening | undefined {
  if (result.kind === 'TimedOut' || (result.kind === 'Answered' && result.end?.outcome === 'Timeout')) {
    return warning('CallTimedOut', 'Call', 'a call took longer than spec.timeoutSeconds');
  }
  return result.kind === 'Answered' && result.end?.outcome === 'Exited'
    ? warning('RuntimeExited', 'Call', 'the runtime ended in the middle of a call, and is started again')
    : undefined;
}

function pulled(before: WorkerView, after: WorkerView): Happening | undefined {
  const { ImageReady: was } = before.conditions;
  const { ImageReady: is } = after.conditions;
  return was?.reason === 'Pulling' && is?.status === 'True'
    ? {
        type: 'Normal',
        reason: 'Pulled',
        action: 'Pull',
        note: was.message.replace(/^pulling (.+?)(: .*)?$/, 'pulled $1'),
      }
    : undefined;
}

/** An exit that nothing asked for has an Event of its own. */
function failed(before: WorkerView, { conditions: { Ready: ready }, phase }: WorkerView): Happening | undefined {
  if (phase !== 'Failed' || before.phase === 'Failed' || ready.reason === 'CrashLoopBackOff') {
    return undefined;
  }
  const note = `${ready.reason}: ${ready.message}`;
  return imageCodes.has(ready.reason) ? warning('PullFailed', 'Pull', note) : warning('StartFailed', 'Start', note);
}

function notReplaced(before: WorkerView, after: WorkerView): Happening | undefined {
  const told = newly('ReplacementFailed', before.conditions.UpToDate, after.conditions.UpToDate);
  return told && warning('ReplacementFailed', 'Replace', told.message);
}

function ended({ lastTermination: before }: WorkerView, { lastTermination: end }: WorkerView): Happening | undefined {
  if (end === undefined || (end.finishedAt === before?.finishedAt && end.reason === before.reason)) {
    return undefined;
  }
  const output = 'status.lastTermination has its last output';
  switch (end.reason) {
    case 'OOMKilled':
      return warning('OOMKilled', 'Run', 'the worker was killed for using more memory than its limit');
    case 'RuntimeApiAbused':
      return warning(
        'RuntimeApiAbused',
        'Run',
        'the worker was ended for what it sent; status.lastTermination says what',
      );
    case 'Completed':
    case 'Error':
      return warning('Crashed', 'Run', `the process of the worker ended with code ${end.exitCode}; ${output}`);
  }
}

function limited(before: WorkerView, after: WorkerView): Happening | undefined {
  const { LimitsReached: was } = before.conditions;
  const { LimitsReached: is } = after.conditions;
  for (const reason of ['OutOfMemory', 'ProcessLimit', 'LoadTimeout'] as const) {
    const told = newly(reason, was, is);
    if (told !== undefined) {
      return warning(reason, 'Run', told.message);
    }
  }
  return undefined;
}

function newly(reason: string, before: Verdict | undefined, after: Verdict | undefined): Verdict | undefined {
  return after?.reason === reason && before?.reason !== reason ? after : undefined;
}

function warning(reason: AgentEventReason, action: string, note: string): Happening {
  return { type: 'Warning', reason, action, note };
}

/**
 * Tells the Events of the workers of a node. Without the API server, and past the ration of the sink, Events are lost;
 * nothing waits for them.
 */
export class WorkerEvents {
  readonly #events: EventSink<AgentEventReason>;
  readonly #views = new Map<string, WorkerView>();

  constructor(events: EventSink<AgentEventReason>) {
    this.#events = events;
  }

  follow(fleet: Pick<Fleet, 'views' | 'subscribe'>): void {
    for (const view of fleet.views()) {
      this.#views.set(view.identity.uid, view);
    }
    fleet.subscribe({
      changed: (view) => this.#changed(view),
      removed: (uid) => void this.#views.delete(uid),
    });
  }

  /** A call of a worker has ended. Cheap: called at every call. */
  answered(worker: WorkerIdentity, result: InvocationResult): void {
    const happening = happeningOf(result);
    if (happening !== undefined) {
      this.#record(worker, happening);
    }
  }

  #changed(view: WorkerView): void {
    const { identity } = view;
    const before = this.#views.get(identity.uid);
    this.#views.set(identity.uid, view);
    for (const happening of before === undefined ? [] : happeningsOf(before, view)) {
      this.#record(identity, happening);
    }
  }

  #record({ name, namespace, uid }: WorkerIdentity, happening: Happening): void {
    const { kind } = lambdaWorkers;
    const regarding = { apiVersion: apiVersionOf(lambdaWorkers), kind, namespace, name, uid };
    this.#events.record({ ...happening, regarding });
  }
}
