import type { DesiredWorker } from '../../src/agent/model/desired-worker.ts';
import type { Fleet, FleetListener } from '../../src/agent/model/fleet.ts';
import type { Invocation, InvocationResult, Recovery } from '../../src/agent/model/invocation.ts';
import type { WorkerView } from '../../src/agent/model/worker-state.ts';
import { EsbError } from '../../src/common/errors.ts';

/** A fleet whose workers are what a test says they are. */
export interface FakeFleet extends Fleet {
  /** Requests so far, oldest first, such as `release uid-1`. */
  readonly asked: string[];
  readonly applied: DesiredWorker[];
  /** Shows a worker, new or changed. */
  show(view: WorkerView): void;
  remove(uid: string): void;
  /** Behaviour of the next calls. */
  onInvoke(run: (invocation: Invocation) => Promise<InvocationResult>): void;
  /** Fake of the calls of an earlier run. */
  onRecover(run: (recovery: Recovery) => Promise<InvocationResult>): void;
}

/** A running worker `default/hello`. */
export function viewFixture(
  change: Partial<WorkerView> & { readonly uid?: string; readonly name?: string } = {},
): WorkerView {
  const { uid = 'uid-of-hello', name = 'hello', ...rest } = change;
  return {
    identity: { namespace: 'default', name, uid, functionName: name },
    epoch: 1,
    phase: 'Running',
    transient: false,
    inFlight: 0,
    callable: true,
    observedGeneration: 1,
    containerId: `${name}-00000001`,
    restartCount: 0,
    conditions: { Ready: { status: 'True', reason: 'Running', message: '' } },
    ...rest,
  };
}

export function fakeFleet(): FakeFleet {
  const views = new Map<string, WorkerView>();
  const listeners = new Set<FleetListener>();
  const asked: string[] = [];
  const applied: DesiredWorker[] = [];
  let run: (invocation: Invocation) => Promise<InvocationResult> = () =>
    Promise.resolve({ kind: 'Refused', reason: 'NotFound', message: 'no such worker' });
  let recovered: (recovery: Recovery) => Promise<InvocationResult> = () =>
    Promise.resolve({ kind: 'Unknown', reason: 'AgentStopped', message: 'not kept', stamp: '' });
  const hint = (name: string) => async (uid: string, epoch: number) => {
    asked.push(`${name} ${uid} ${epoch}`);
    const view = views.get(uid);
    if (view === undefined) {
      throw new EsbError(`no worker ${uid}`, { code: 'NotFound' });
    }
    if (view.epoch !== epoch) {
      throw new EsbError(`epoch is ${view.epoch}`, { code: 'Fenced' });
    }
    return view;
  };
  return {
    asked,
    applied,
    show(view) {
      views.set(view.identity.uid, view);
      for (const listener of listeners) {
        listener.changed(view);
      }
    },
    remove(uid) {
      views.delete(uid);
      for (const listener of listeners) {
        listener.removed(uid);
      }
    },
    onInvoke(next) {
      run = next;
    },
    onRecover(next) {
      recovered = next;
    },
    async adopt() {
      asked.push('adopt');
    },
    apply(desired) {
      applied.push(desired);
    },
    release(uid) {
      asked.push(`release ${uid}`);
    },
    async sweep(assigned, confirmGone) {
      asked.push(`sweep ${[...assigned].toSorted().join(',')}`);
      for (const view of views.values()) {
        if (!assigned.has(view.identity.uid) && (await confirmGone(view.identity))) {
          asked.push(`swept ${view.identity.uid}`);
        }
      }
    },
    invoke: (invocation) => run(invocation),
    recover: (recovery) => recovered(recovery),
    ensure: hint('ensure'),
    pause: hint('pause'),
    resume: hint('resume'),
    destroy: hint('destroy'),
    views: () => [...views.values()],
    view: (uid) => views.get(uid),
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async stop(drainMs) {
      asked.push(`stop ${drainMs}`);
    },
  };
}
