import type { DesiredWorker } from '../../src/agent/model/desired-worker.ts';
import type { InvocationResult } from '../../src/agent/model/invocation.ts';
import type { WorkerView } from '../../src/agent/model/worker-state.ts';
import { trailerOf } from '../../src/agent/rpc/invoke-answer.ts';
import type { LambdaWorker } from '../../src/api/lambda-worker.ts';
import { EsbError } from '../../src/common/errors.ts';
import { GrowingBuffer } from '../../src/common/growing-buffer.ts';
import { Room } from '../../src/gateway/admission/room.ts';
import { type AgentAnswer, ReadBytes } from '../../src/gateway/agents/agent-call.ts';
import type { AgentSession } from '../../src/gateway/agents/agent-session.ts';
import { FleetView, type FunctionEntry } from '../../src/gateway/agents/fleet-view.ts';
import type { FunctionCall, InvokeResult } from '../../src/gateway/agents/function-call.ts';
import { VersionBook } from '../../src/gateway/agents/version-book.ts';
import { Invoker } from '../../src/gateway/dispatch/invoker.ts';
import { Caller } from '../../src/gateway/lambda/caller.ts';
import type { RecoverRequest } from '../../src/protocol/generated/agent.ts';
import { fakeInformer } from '../support/fake-informer.ts';
import type { AgentLife } from './agent-life.ts';
import type { SimulatedClock } from './simulated-clock.ts';

const NODE = 'node-1';
const ELSEWHERE = 'node-2';
/** Places of a function that has no bounds for any of its versions. */
const ROOMY = { get: () => new Map(), set: () => undefined, configurable: true };
/** A room that calls never fill. */
const ROOM = { maxRequests: 1_000_000, maxBytes: 2 ** 40, maxLoopDelayMs: 1_000, maxHeapUse: 1 };

/** A LambdaWorker as the API server has it. */
export interface Resource {
  desired: DesiredWorker;
  /** Whether it is assigned to the node of the simulation. */
  here: boolean;
  /** Monotonic milliseconds of its deletion. */
  deletedAt: number | undefined;
}

/** A call at the agent. */
export interface AgentCallFact {
  readonly requestId: string;
  readonly uid: string;
  /** Monotonic milliseconds. */
  readonly since: number;
  readonly life: AgentLife;
  sent: boolean;
}

/** The outcome of a call as its caller sees it. */
export type CallerOutcome = InvokeResult['outcome'] | 'refused';

/** Hears of the outcomes that agents and callers get. */
export interface CallWatcher {
  /** The agent has given the outcome of a call. */
  agentSaid(call: AgentCallFact, result: InvocationResult, answer: string): void;
  /** The agent has ended a call that an earlier one has sent, or knows nothing of it. */
  recovered(requestId: string, result: InvocationResult, answer: string): void;
  /** The caller has the outcome of a call. */
  callerGot(requestId: string, outcome: CallerOutcome, body: string): void;
  note(text: string): void;
  violation(text: string): void;
}

export interface ClusterOptions {
  readonly clock: SimulatedClock;
  readonly watcher: CallWatcher;
}

/** A fleet whose workers have places for any number of calls, so that calls wait at agents and not in the gateway. */
class RoomyView extends FleetView {
  override function(name: string): FunctionEntry | undefined {
    const entry = super.function(name);
    return entry === undefined ? undefined : Object.defineProperty(entry, 'placesByVersion', ROOMY);
  }
}

/** The API server, and the gateway with its real routing and retries. */
export class Cluster {
  readonly resources = new Map<string, Resource>();
  /** Calls that an agent has and has not told the outcome of. */
  readonly atAgent = new Map<string, AgentCallFact>();
  /** Calls without an outcome yet. */
  readonly open = new Map<string, Caller>();
  /** Calls whose callers have hung up. */
  readonly hungUp = new Set<string>();
  /** The watch of the agent works. */
  watching = true;
  /** The resource that the agent heard last of each uid: undefined once its assignment was taken away. */
  readonly told = new Map<string, DesiredWorker | undefined>();
  /** Monotonic milliseconds at which that was another generation. */
  readonly toldAt = new Map<string, number>();
  readonly #clock: SimulatedClock;
  readonly #watcher: CallWatcher;
  readonly #view = new RoomyView('default');
  readonly #invoker: Invoker;
  readonly #losses = new Map<string, () => void>();
  life: AgentLife | undefined;
  #calls = 0;

  constructor({ clock, watcher }: ClusterOptions) {
    this.#clock = clock;
    this.#watcher = watcher;
    const sessionTo = (life: AgentLife): AgentSession =>
      ({
        run: String(life.number),
        get isOpen() {
          return life.alive;
        },
        recover: (request: RecoverRequest, caller: Caller) => this.#recover(request, caller),
        invoke: (
          request: { requestId: string; epoch: number; payload: Buffer; worker: { uid: string } },
          caller: Caller,
        ) => this.#send(request, caller),
      }) as unknown as AgentSession;
    this.#invoker = new Invoker({
      maxQueueWaitMs: 300_000,
      view: this.#view,
      isViewCurrent: () => true,
      book: new VersionBook({ functions: fakeInformer(), versions: fakeInformer(), onChange: () => undefined }),
      random: () => 0,
      room: new Room(ROOM, { loopDelayMs: 0, heapUse: 0 }),
      sessionOf: (node) =>
        node === NODE && this.life?.serves === true && this.life.alive ? sessionTo(this.life) : undefined,
      clock,
    });
  }

  /** Makes or changes a resource, and tells gateway and agent. */
  put(resource: Resource): void {
    const { uid } = resource.desired.identity;
    this.resources.set(uid, resource);
    this.#view.applyResource(resourceOf(resource));
    this.#tell(uid);
  }

  remove(uid: string): void {
    this.resources.delete(uid);
    this.#view.removeResource(uid);
    this.#tell(uid);
  }

  /** The agent is told everything that it is to know, as after a list. */
  tellAll(): void {
    for (const uid of new Set([...this.resources.keys(), ...this.told.keys()])) {
      this.#tell(uid);
    }
  }

  /** Lists, and then the agent looks for containers without a resource. */
  async sweep(): Promise<void> {
    const { fleet } = this.life ?? {};
    if (!this.watching || fleet === undefined || this.life?.serves !== true) {
      return;
    }
    this.tellAll();
    const here = new Set([...this.resources].flatMap(([uid, each]) => (each.here ? [uid] : [])));
    await fleet
      .sweep(here, ({ uid }) => Promise.resolve(this.resources.get(uid)?.here !== true))
      .catch((error: unknown) => this.#watcher.note(`the sweep failed: ${String(error)}`));
  }

  /** Takes over the resources that the records of an agent hold at its start. */
  recorded(desired: readonly DesiredWorker[]): void {
    this.told.clear();
    for (const each of desired) {
      this.told.set(each.identity.uid, each);
    }
  }

  /** An agent serves: what it says of its workers is known from now on. */
  connected(life: AgentLife): void {
    const { fleet } = life;
    if (fleet === undefined) {
      return;
    }
    this.#view.replaceHoldings(NODE, fleet.views().map(stateOf));
    fleet.subscribe({
      changed: (view) => {
        if (life.alive) {
          this.#view.changeHolding(NODE, stateOf(view));
          this.#cleaned(view);
        }
      },
      removed: (uid) => {
        if (life.alive) {
          this.#view.removeHolding(NODE, uid);
        }
      },
    });
  }

  /** The agent is gone: what it had of calls is lost. */
  lost(): void {
    this.#view.dropNode(NODE);
    for (const lose of [...this.#losses.values()]) {
      lose();
    }
    this.atAgent.clear();
  }

  /** A caller calls a function. */
  call(functionName: string): void {
    this.#calls += 1;
    const requestId = `call-${this.#calls}`;
    const caller = new Caller();
    this.open.set(requestId, caller);
    const call = {
      reference: { name: functionName },
      requestId,
      payload: Buffer.from('{}'),
      clientContext: '',
      tailLog: false,
      traceId: '',
      traceParent: '',
    };
    this.#run(call, caller).then(
      ({ body, outcome }) => this.#ended(requestId, outcome, body.toString()),
      (error: unknown) => this.#ended(requestId, 'refused', String(error)),
    );
  }

  async #run(call: FunctionCall, caller: Caller): Promise<InvokeResult> {
    const entered = await this.#invoker.enter(call, caller);
    try {
      return await this.#invoker.invoke(call, caller, entered);
    } finally {
      entered.release();
    }
  }

  /** A caller hangs up. */
  hangUp(requestId: string): void {
    this.hungUp.add(requestId);
    this.open.get(requestId)?.hangUp();
  }

  #ended(requestId: string, outcome: CallerOutcome, body: string): void {
    if (!this.open.delete(requestId)) {
      this.#watcher.violation(`${requestId} has two outcomes`);
    }
    this.#watcher.callerGot(requestId, outcome, body);
  }

  #tell(uid: string): void {
    const { life } = this;
    if (!this.watching || life?.serves !== true || !life.alive || life.fleet === undefined) {
      return;
    }
    const resource = this.resources.get(uid);
    if (resource?.here === true) {
      if (this.told.get(uid)?.generation !== resource.desired.generation) {
        this.toldAt.set(uid, this.#clock.monotonic());
      }
      this.told.set(uid, resource.desired);
      life.fleet.apply(resource.desired);
    } else if (life.fleet.view(uid) !== undefined) {
      this.told.set(uid, undefined);
      life.fleet.release(uid);
    }
  }

  /** Nothing is left of a worker that is deleted: its finalizer goes, and with it the resource. */
  #cleaned({ conditions, identity }: WorkerView): void {
    if (conditions.CleanedUp?.status === 'True' && this.resources.get(identity.uid)?.desired.deleting === true) {
      queueMicrotask(() => this.remove(identity.uid));
    }
  }

  #active(uid: string, stamp: string): void {
    const resource = this.resources.get(uid);
    if (resource !== undefined && resource.deletedAt === undefined) {
      resource.desired = { ...resource.desired, lastInvocationTime: stamp };
      // Owners of workers write stamps. Every fifth is written at once, and the others are gathered.
      if (stamp.endsWith('0Z') || stamp.endsWith('5Z')) {
        this.#tell(uid);
      }
    }
  }

  /** Asks the agent for the answer of a call that an earlier one has sent. */
  async #recover({ requestId, run, sentMs, worker }: RecoverRequest, caller: Caller): Promise<AgentAnswer> {
    const { life } = this;
    if (life?.fleet === undefined || !life.alive) {
      return agentGone;
    }
    const settled = Promise.withResolvers<AgentAnswer>();
    this.#losses.set(requestId, () => settled.resolve(agentGone));
    const signal = new AbortController();
    caller.onGone = () => signal.abort();
    let body = '';
    life.fleet
      .recover({
        uid: worker?.uid ?? '',
        requestId,
        sentMs: run === String(life.number) ? undefined : sentMs,
        from: 0,
        tailLog: false,
        signal: signal.signal,
        onHead: () => undefined,
        onChunk: (chunk) => {
          body += chunk.toString();
        },
      })
      .then((result) => {
        if (life.alive) {
          this.#watcher.recovered(requestId, result, body);
          settled.resolve(result.kind === 'Unknown' ? result : answerOf(result, body));
        }
      })
      .catch((error: unknown) => {
        const { soFar, ...gone } = agentGone;
        const isAskable = EsbError.from(error).code === 'Unavailable';
        settled.resolve({ ...gone, reason: 'Error', message: String(error), ...(isAskable ? { soFar } : {}) });
      });
    try {
      return await settled.promise;
    } finally {
      caller.onGone = undefined;
      this.#losses.delete(requestId);
    }
  }

  async #send(
    request: { requestId: string; epoch: number; payload: Buffer; worker: { uid: string } },
    caller: Caller,
  ): Promise<AgentAnswer> {
    const { life } = this;
    const { requestId, epoch, payload, worker } = request;
    if (life?.fleet === undefined || !life.alive) {
      return { kind: 'Refused', reason: 'ConnectionLost', message: 'the agent is away' };
    }
    const fact: AgentCallFact = {
      requestId,
      uid: worker.uid,
      since: this.#clock.monotonic(),
      life,
      sent: false,
    };
    this.atAgent.set(requestId, fact);
    const settled = Promise.withResolvers<AgentAnswer>();
    this.#losses.set(requestId, () => settled.resolve(agentGone));
    const signal = new AbortController();
    caller.onGone = () => signal.abort();
    let body = '';
    life.fleet
      .invoke({
        uid: worker.uid,
        epoch,
        requestId,
        payload,
        clientContext: '',
        tailLog: false,
        signal: signal.signal,
        onHead: () => undefined,
        onChunk: (chunk) => {
          body += chunk.toString();
        },
      })
      .then((result) => {
        if (life.alive) {
          this.atAgent.delete(requestId);
          this.#watcher.agentSaid(fact, result, body);
          if (result.kind !== 'Refused') {
            this.#active(worker.uid, result.stamp);
          }
          settled.resolve(answerOf(result, body));
        }
      })
      .catch((error: unknown) => {
        if (life.alive) {
          this.#watcher.violation(`the call ${requestId} was rejected: ${String(error)}`);
        }
      });
    try {
      return await settled.promise;
    } finally {
      caller.onGone = undefined;
      this.#losses.delete(requestId);
    }
  }
}

/** The agent has ended, and its next run may know the answer. */
const agentGone = {
  kind: 'Unknown',
  reason: 'ConnectionLost',
  message: 'the agent is gone',
  soFar: {
    head: { status: 0, contentType: '', streaming: false },
    body: new GrowingBuffer(),
    size: 0,
    read: new ReadBytes(),
    streamed: false,
  },
} as const;

function answerOf(result: InvocationResult, body: string): AgentAnswer {
  switch (result.kind) {
    case 'Answered':
    case 'TimedOut':
      return {
        kind: result.kind,
        head: { status: 200, contentType: '', streaming: false },
        body: Buffer.from(body),
        size: body.length,
        trailer: { timings: null, logTail: Buffer.alloc(0), functionEnd: null, ...trailerOf(result) },
      } as unknown as AgentAnswer;
    case 'Unknown':
      return { ...result, ...(result.reason === 'AgentStopped' ? { soFar: agentGone.soFar } : {}) };
    case 'Refused': {
      const { fault, ...refusal } = result;
      return { ...refusal, ...(fault && { fault: { ...fault, body: fault.body ?? '' } }) };
    }
    default:
      return result satisfies never;
  }
}

function stateOf(view: WorkerView) {
  return {
    worker: { namespace: view.identity.namespace, name: view.identity.name, uid: view.identity.uid },
    functionName: view.identity.functionName,
    epoch: view.epoch,
    phase: `PHASE_${view.phase.toUpperCase()}` as 'PHASE_RUNNING',
    inFlight: view.inFlight,
    others: 0,
    othersPlaced: 0,
    containerId: view.containerId ?? '',
    callable: view.callable,
    places: view.places ?? 1,
    usage: null,
  };
}

function resourceOf({ desired, here, deletedAt }: Resource): LambdaWorker {
  const { identity } = desired;
  return {
    metadata: {
      name: identity.name,
      namespace: identity.namespace,
      uid: identity.uid,
      creationTimestamp: '2026-11-01T00:00:00Z',
      ...(deletedAt === undefined ? {} : { deletionTimestamp: '2026-11-01T00:00:00Z' }),
    },
    spec: {
      functionName: identity.functionName,
      timeoutSeconds: desired.timeoutSeconds,
      runtimeInterface: desired.runtimeInterface,
    },
    status: { assignment: { nodeName: here ? NODE : ELSEWHERE, epoch: desired.epoch } },
  } as unknown as LambdaWorker;
}
