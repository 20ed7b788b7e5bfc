import type { LambdaFunction } from '../../src/api/lambda-function.ts';
import { type LoadLimits, Room } from '../../src/gateway/admission/room.ts';
import { FleetView } from '../../src/gateway/agents/fleet-view.ts';
import type { FunctionCall } from '../../src/gateway/agents/function-call.ts';
import { VersionBook } from '../../src/gateway/agents/version-book.ts';
import { type EnteredCall, Invoker, type InvokerOptions } from '../../src/gateway/dispatch/invoker.ts';
import { Caller } from '../../src/gateway/lambda/caller.ts';
import type { WorkerState } from '../../src/protocol/generated/agent.ts';
import { type FakeInformer, fakeInformer } from './fake-informer.ts';
import { functionFixture } from './function-fixture.ts';
import { type ManualClock, manualClock } from './manual-clock.ts';
import { workerFixture } from './worker-fixture.ts';

const NODE = 'node-1';

interface Concurrency {
  readonly reserved?: number;
  readonly queueDepth?: number;
}

export interface LabWorker {
  readonly functionName: string;
  /** Undefined for $LATEST. */
  readonly version?: number | undefined;
  readonly concurrency?: Concurrency | undefined;
  readonly share?: number | undefined;
  /** The report of its agent; the agent has not taken over the worker when absent. */
  readonly holding?: Partial<WorkerState>;
}

/** The calls of a gateway, from their arrival to an agent, without any agent. */
export interface InvokerLab {
  readonly invoker: Invoker;
  readonly view: FleetView;
  readonly functions: FakeInformer<LambdaFunction>;
  readonly room: Room;
  readonly clock: ManualClock;
  /** Adds workers of a function, by the names NAME-0 and so on; the first speaks for it. */
  add(functionName: string, workers: number, concurrency?: Concurrency): void;
  put(name: string, worker: LabWorker): void;
  /** Lets aliases of a function name versions. */
  name(functionName: string, aliases: Readonly<Record<string, number>>): void;
  enter(functionName: string, caller?: Caller, payload?: Buffer): Promise<EnteredCall> | EnteredCall;
  enterAs(functionName: string, qualifier: string, caller?: Caller): Promise<EnteredCall> | EnteredCall;
}

export function invokerLab(
  options: Partial<Omit<InvokerOptions, 'room'>> & { readonly load?: Partial<LoadLimits> } = {},
): InvokerLab {
  const view = new FleetView('default');
  view.replaceHoldings(NODE, []);
  const clock = manualClock();
  const functions = fakeInformer<LambdaFunction>();
  const room = new Room(
    { maxRequests: 1_000, maxBytes: 1_000_000, maxLoopDelayMs: 1_000, maxHeapUse: 0.9, ...options.load },
    { loopDelayMs: 0, heapUse: 0 },
  );
  const invoker = new Invoker({
    ...{ clock, room, view },
    book: new VersionBook({
      functions,
      versions: fakeInformer(),
      onChange: (name, owner) => view.noteChange(name, owner),
    }),
    isViewCurrent: () => true,
    random: () => 0,
    sessionOf: () => undefined,
    maxQueueWaitMs: 60_000,
    ...options,
  });
  const enter = (call: FunctionCall, caller = new Caller('192.0.2.1')) => invoker.enter(call, caller);
  const put: InvokerLab['put'] = (name, { concurrency, functionName, holding, share, version }) => {
    view.applyResource(
      workerFixture({
        name,
        spec: {
          functionName,
          ...(version === undefined ? {} : { version }),
          ...(concurrency === undefined ? {} : { concurrency: { queueDepth: 100, ...concurrency } }),
        },
        status: { assignment: { nodeName: NODE, epoch: 1, ...(share === undefined ? {} : { share }) } },
      }),
    );
    if (holding !== undefined) {
      view.changeHolding(NODE, heldWorker(name, functionName, holding));
    }
  };
  return {
    ...{ clock, functions, invoker, put, room, view },
    add(functionName, workers, concurrency) {
      for (let index = 0; index < workers; index += 1) {
        put(`${functionName}-${index}`, { functionName, concurrency });
      }
    },
    name(functionName, aliases) {
      const named = Object.entries(aliases).map(([name, version]) => ({ name, version }));
      functions.put(functionFixture({ name: functionName, status: { aliases: named } }));
    },
    enter: (functionName, caller, payload) => enter(callOf(functionName, { payload }), caller),
    enterAs: (functionName, qualifier, caller) => enter(callOf(functionName, { qualifier }), caller),
  };
}

/** The report of an agent about a running worker without calls. */
export function heldWorker(name: string, functionName: string, holding: Partial<WorkerState>): WorkerState {
  return {
    worker: { namespace: 'default', name, uid: `uid-of-${name}` },
    functionName,
    epoch: 1,
    phase: 'PHASE_RUNNING',
    inFlight: 0,
    others: 0,
    othersPlaced: 0,
    containerId: '',
    callable: true,
    places: 1,
    usage: null,
    ...holding,
  };
}

export function callOf(
  name: string,
  {
    payload = Buffer.from('{}'),
    qualifier,
  }: { readonly payload?: Buffer | undefined; readonly qualifier?: string } = {},
): FunctionCall {
  return {
    reference: { name, ...(qualifier === undefined ? {} : { qualifier }) },
    requestId: 'request-1',
    payload,
    clientContext: '',
    tailLog: false,
    traceId: '',
    traceParent: '',
  };
}

/** A place that is had at once. */
export function atOnce(entrance: Promise<EnteredCall> | EnteredCall): EnteredCall {
  if (entrance instanceof Promise) {
    throw new Error('the call has to wait');
  }
  return entrance;
}

/** Outcome of a wait, once there is one. */
export interface Later<T> {
  place: T | undefined;
  error: unknown;
}

/** Follows a wait for a place, or for a worker. */
export function later<T>(wait: Promise<T> | T): Later<T> {
  if (!(wait instanceof Promise)) {
    throw new Error('the call was let in at once');
  }
  const seen: Later<T> = { place: undefined, error: undefined };
  wait.then(
    (place) => {
      seen.place = place;
    },
    (error: unknown) => {
      seen.error = error;
    },
  );
  return seen;
}
