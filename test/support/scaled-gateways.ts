import { isDeepStrictEqual } from 'node:util';
import type { EffectiveAlias, LambdaFunction } from '../../src/api/lambda-function.ts';
import type { LambdaVersion } from '../../src/api/lambda-version.ts';
import type { LambdaWorker } from '../../src/api/lambda-worker.ts';
import type { FunctionLoad } from '../../src/api/load-report.ts';
import { planFunction } from '../../src/controller/functions/plan.ts';
import { livingOf } from '../../src/controller/functions/readiness.ts';
import { Scaler } from '../../src/controller/functions/scaler.ts';
import { effectiveAliases, groupsOf } from '../../src/controller/functions/worker-groups.ts';
import { LoadBook, type LoadStream } from '../../src/controller/load/load-book.ts';
import { LoadMeter } from '../../src/gateway/admission/load-meter.ts';
import { Room } from '../../src/gateway/admission/room.ts';
import type { AgentAnswer } from '../../src/gateway/agents/agent-call.ts';
import type { AgentSession } from '../../src/gateway/agents/agent-session.ts';
import { FleetView } from '../../src/gateway/agents/fleet-view.ts';
import type { FunctionCall } from '../../src/gateway/agents/function-call.ts';
import { VersionBook } from '../../src/gateway/agents/version-book.ts';
import { Invoker } from '../../src/gateway/dispatch/invoker.ts';
import { Caller } from '../../src/gateway/lambda/caller.ts';
import type { Phase, WorkerState } from '../../src/protocol/generated/agent.ts';
import { fakeInformer } from './fake-informer.ts';
import { condition, functionFixture, ownedFixture, sourceOf, versionFixture } from './function-fixture.ts';
import { manualClock } from './manual-clock.ts';

const NODE = 'node-1';
const TICK_MS = 100;
/** Milliseconds of a message between gateway and agent, and from the end of the last call in a worker to its removal. */
const MESSAGE_MS = 1;
/** Milliseconds for which an agent gathers changes of the number of calls. */
const GATHER_MS = 20;
const REMOVAL_MS = 1_000;
const MAX_WAIT_MS = 300_000;

export interface ScaledGatewaysOptions {
  readonly random: () => number;
  readonly scaling?: Partial<LambdaFunction['spec']['scaling']>;
  readonly aliases?: readonly EffectiveAlias[];
  readonly gateways?: number;
  /** Part of the calls that come at the first gateway, from 0 to 1; each gateway has as many as any other when absent. */
  readonly unevenness?: number;
  /** Milliseconds of a start, from half of these to one and a half times. */
  readonly startMs?: number;
  /** Milliseconds by which gateways and agents are behind the API server at most. */
  readonly lagMs?: number;
  /** Calls of the function that run at once; each worker has a share of one. */
  readonly reserved?: number;
}

/** A call at an agent. */
interface Sent {
  readonly gateway: number;
  readonly ms: number;
  /** When it came at its gateway. */
  readonly since: number;
  readonly answer: (answer: AgentAnswer) => void;
}

/** A worker as its agent has it. */
interface Held {
  readonly uid: string;
  readonly name: string;
  phase: Phase;
  /** The call that runs; those that wait are in the order in which they came at their gateways. */
  running: Sent | undefined;
  readonly waiting: Sent[];
  /** Whether a change of the number of calls is being gathered. */
  gathers: boolean;
  /** The phase that was told last. */
  told: Phase | undefined;
}

/** The end of a call. */
interface Ended {
  /** Number of its gateway. */
  readonly gateway: number;
  readonly version: string;
  /** Milliseconds that its function took. */
  readonly ranMs: number;
  /** Milliseconds from its beginning. */
  readonly ms: number;
  readonly error: string | undefined;
}

const ANSWERED: AgentAnswer = {
  kind: 'Answered',
  head: { status: 200, contentType: '', streaming: false },
  body: Buffer.from('{}'),
  size: 2,
  streamed: false,
  trailer: {
    outcome: 'OUTCOME_ANSWERED',
    reason: '',
    message: '',
    stamp: '',
    timings: null,
    logTail: Buffer.alloc(0),
    reasonCode: 'REASON_UNSPECIFIED',
    functionEnd: null,
    initFault: null,
  },
};
const BUSY: AgentAnswer = { kind: 'Refused', reason: 'Busy', message: 'another call has the place' };
const WITHDRAWN: AgentAnswer = { kind: 'Refused', reason: 'CallerGone', message: 'the call was taken back' };
const LEAVES: AgentAnswer = { kind: 'Refused', reason: 'NotFound', message: 'the worker is being removed' };

/** Admission, routing and load of one gateway. */
class SimulatedGateway {
  readonly view = new FleetView('default');
  readonly workers = fakeInformer<LambdaWorker>();
  readonly functions = fakeInformer<LambdaFunction>();
  readonly meter: LoadMeter;
  readonly invoker: Invoker;
  /** Until when news of the API server are on their way, by informer. */
  readonly late = new Map<unknown, number>();

  constructor(
    { clock, random, session }: { readonly session: AgentSession } & Pick<ScaledGateways, 'clock' | 'random'>,
    versions: readonly LambdaVersion[],
  ) {
    const { functions, view } = this;
    const book = new VersionBook({
      functions,
      versions: fakeInformer(versions),
      onChange: (name, owner) => view.noteChange(name, owner),
    });
    const mayGrow = (name: string): boolean => book.scaling(name) !== undefined;
    const limits = { maxRequests: 8_192, maxBytes: 2 ** 29, maxLoopDelayMs: 3_000, maxHeapUse: 1 };
    this.meter = new LoadMeter(book);
    this.invoker = new Invoker({
      loadMeter: this.meter,
      room: new Room(limits, { loopDelayMs: 0, heapUse: 0 }),
      ...{ book, clock, mayGrow, random, view },
      isViewCurrent: () => true,
      sessionOf: () => session,
      maxQueueWaitMs: MAX_WAIT_MS,
    });
    this.workers.subscribe(({ kind, object }) =>
      kind === 'deleted' ? view.removeResource(object.metadata.uid ?? '') : view.applyResource(object),
    );
    view.replaceHoldings(NODE, []);
  }
}

/**
 * One function of the mode Auto with versions 1 and 2: gateways and a controller by their own parts, over an API server
 * whose news are late, and an agent in few words. A worker runs one call at a time.
 */
export class ScaledGateways {
  readonly clock = manualClock();
  readonly random: () => number;
  ended: Ended[] = [];
  /** Calls that go on, and the most that did at once. */
  open = 0;
  mostOpen = 0;
  /** The longest time for which a worker that all gateways know was free while calls of its version waited. */
  idleMs = 0;
  /** Calls that came, by gateway. */
  readonly asked: number[];
  readonly #startMs: number;
  readonly #lagMs: number;
  readonly #unevenness: number | undefined;
  readonly #reserved: number | undefined;
  readonly #versions: readonly LambdaVersion[];
  readonly #gateways: readonly SimulatedGateway[];
  readonly #streams: readonly LoadStream[];
  readonly #scaler: Scaler;
  readonly #stored = new Map<string, LambdaWorker>();
  readonly #held = new Map<string, Held>();
  /** Milliseconds for which that is so now, by version. */
  readonly #idle = new Map<number | undefined, number>();
  #owner: LambdaFunction;
  #uids = 0;

  constructor(options: ScaledGatewaysOptions) {
    const { aliases = [], gateways = 1, lagMs = 200, random, reserved, scaling, startMs = 2_000, unevenness } = options;
    this.random = random;
    this.asked = Array.from({ length: gateways }, () => 0);
    this.#unevenness = unevenness;
    this.#reserved = reserved;
    this.#startMs = startMs;
    this.#lagMs = lagMs;
    const { template } = functionFixture().spec;
    this.#owner = functionFixture({
      spec: {
        template: {
          spec: {
            ...template.spec,
            concurrency: { queueDepth: 1_000, ...(reserved === undefined ? {} : { reserved }) },
          },
        },
        scaling: { mode: 'Auto', minWorkers: 0, ...scaling },
        aliases: aliases as LambdaFunction['spec']['aliases'] & object,
      },
      status: { observedGeneration: 1, latestVersion: 2, aliases },
    });
    this.#versions = [1, 2].map((version) => versionFixture(this.#owner, version));
    const sessionOf = (gateway: number): AgentSession => {
      const session: Pick<AgentSession, 'invoke' | 'isOpen' | 'run'> = {
        isOpen: true,
        run: '1',
        invoke: async (call, _caller, _limitMs, _sink, waits) => await this.#invoke(gateway, call, waits),
      };
      return session as AgentSession;
    };
    this.#gateways = Array.from(
      { length: gateways },
      (_, at) => new SimulatedGateway({ clock: this.clock, random, session: sessionOf(at) }, this.#versions),
    );
    const book = new LoadBook(this.clock, (change) => void this.#scaler.record(change));
    this.#scaler = new Scaler({ load: book, clock: this.clock });
    this.#streams = this.#gateways.map((_, at) => book.open('default', `gateway-${at}`));
    this.#tellFunction();
  }

  /** Aliases that are in effect. */
  get aliases(): readonly EffectiveAlias[] {
    return this.#owner.status?.aliases ?? [];
  }

  workersOf(version: number | undefined): number {
    return livingOf([...this.#stored.values()]).filter(({ spec }) => spec.version === version).length;
  }

  /** Milliseconds within which 99 of 100 calls have ended, of those that have. */
  get p99(): number {
    const times = this.ended.map(({ ms }) => ms).toSorted((one, other) => one - other);
    return times[Math.floor(times.length * 0.99)] ?? 0;
  }

  get errors(): readonly string[] {
    return this.ended.flatMap(({ error }) => error ?? []);
  }

  /** The alias `live` is to be this one. */
  wish(alias: Omit<EffectiveAlias, 'name'>): void {
    const aliases = [{ name: 'live', ...alias }] as LambdaFunction['spec']['aliases'] & object;
    this.#owner = { ...this.#owner, spec: { ...this.#owner.spec, aliases } };
    this.#tellFunction();
  }

  /**
   * Lets time go by. Calls come at any gateway, and take between a fifth and nine fifths of their mean.
   *
   * @param qualifier of the calls; undefined for $LATEST
   */
  async run(
    seconds: number,
    {
      meanMs,
      perSecond,
      qualifier,
    }: { readonly perSecond: number; readonly meanMs: number; readonly qualifier?: string },
  ): Promise<void> {
    for (let tick = 0; tick < (seconds * 1_000) / TICK_MS; tick += 1) {
      for (let calls = (perSecond * TICK_MS) / 1_000; calls > this.random(); calls -= 1) {
        const ms = meanMs * (0.2 + 1.6 * this.random());
        this.clock.setTimer(() => this.#call(ms, qualifier), this.random() * TICK_MS);
      }
      const loads = this.#gateways.map(({ meter }) => meter.all());
      for (const [at, load] of loads.entries()) {
        this.#streams[at]?.take({ kind: 'all', load });
      }
      this.#noteIdle(loads.flat());
      this.#reconcile();
      await this.clock.advance(TICK_MS);
    }
  }

  #noteIdle(loads: readonly FunctionLoad[]): void {
    const held = [...this.#held.values()].map((each) => ({ ...each, worker: this.#stored.get(each.name) }));
    for (const version of [undefined, 1, 2]) {
      const calls = loads.reduce((sum, each) => sum + (each.version === version ? each.calls : 0), 0);
      const own = held.filter(({ worker, uid }) => worker?.metadata.uid === uid && worker.spec.version === version);
      const waiting = calls - own.reduce((sum, each) => sum + countOf(each), 0);
      const isFree = own.some(
        ({ phase, running, uid }) =>
          phase === 'PHASE_RUNNING' &&
          running === undefined &&
          this.#gateways.every(({ view }) => view.worker(uid)?.holding !== undefined),
      );
      const ms = isFree && waiting > 0 ? (this.#idle.get(version) ?? 0) + TICK_MS : 0;
      this.#idle.set(version, ms);
      this.idleMs = Math.max(this.idleMs, ms);
    }
  }

  /** The gateway at which a call comes. */
  #entrance(): number {
    const { length } = this.#gateways;
    const [first, even] = [this.#unevenness ?? 0, this.random()];
    return this.#unevenness === undefined
      ? Math.floor(even * length)
      : even < first
        ? 0
        : 1 + Math.floor(((even - first) / (1 - first)) * (length - 1));
  }

  #call(ms: number, qualifier: string | undefined): void {
    const at = this.#entrance();
    const gateway = this.#gateways[at];
    this.asked[at] = (this.asked[at] ?? 0) + 1;
    const since = this.clock.monotonic();
    const end = (version: string, error?: string): void => {
      this.open -= 1;
      this.ended.push({ gateway: at, version, ranMs: ms, ms: this.clock.monotonic() - since, error });
    };
    const call: FunctionCall = {
      reference: { name: 'hello', ...(qualifier === undefined ? {} : { qualifier }) },
      requestId: 'request',
      payload: Buffer.from(String(ms)),
      clientContext: '',
      tailLog: false,
      traceId: '',
      traceParent: '',
    };
    this.open += 1;
    this.mostOpen = Math.max(this.mostOpen, this.open);
    this.#run(gateway, call).then(end, (error: unknown) => end('', String(error)));
  }

  async #run(gateway: SimulatedGateway | undefined, call: FunctionCall): Promise<string> {
    if (gateway === undefined) {
      throw new TypeError('there is a gateway');
    }
    const caller = new Caller();
    const entered = await gateway.invoker.enter(call, caller);
    try {
      const { executedVersion, outcome } = await gateway.invoker.invoke(call, caller, entered);
      if (outcome !== 'answered') {
        throw new TypeError(`the outcome is ${outcome}`);
      }
      entered.answered(2);
      return executedVersion;
    } finally {
      entered.release();
    }
  }

  /** Scales as the controller does. */
  #reconcile(): void {
    const owner = this.#owner;
    const owned = [...this.#stored.values()];
    const living = livingOf(owned);
    const template = sourceOf(owner).hash;
    const { groups } = this.#scaler.apply(
      owner,
      groupsOf({ owner, template, versions: this.#versions, isAwaited: false }),
      living,
    );
    const isTaken = (name: string): boolean => this.#stored.has(name);
    for (const step of planFunction({ owner, groups, owned, isTaken })) {
      if (step.kind === 'create') {
        this.#create(step.name, step.source.version);
      } else if (step.kind === 'delete') {
        this.#delete(step.worker);
      }
    }
    const aliases = effectiveAliases(owner, groups, living);
    if (!isDeepStrictEqual(aliases, this.aliases)) {
      this.#owner = { ...owner, status: { observedGeneration: 1, ...owner.status, aliases } };
      this.#tellFunction();
    }
  }

  #create(name: string, number: number | undefined): void {
    this.#uids += 1;
    const uid = `uid-${this.#uids}`;
    const version = this.#versions.find(({ spec }) => spec.version === number);
    const metadata = { name, uid, creationTimestamp: new Date(this.clock.now()).toISOString() };
    const made = ownedFixture(this.#owner, 0, {
      metadata,
      ...(version === undefined ? {} : { version }),
      status: {
        phase: 'Creating',
        conditions: [condition('Ready', 'False', 'Creating')],
        ...(this.#reserved === undefined ? {} : { assignment: { nodeName: NODE, epoch: 1, share: 1 } }),
      },
    });
    this.#put(made);
    const held: Held = {
      uid,
      name,
      phase: 'PHASE_CREATING',
      running: undefined,
      waiting: [],
      gathers: false,
      told: undefined,
    };
    this.#held.set(uid, held);
    this.#show(held);
    this.clock.setTimer(() => this.#started(held), this.#startMs * (0.5 + this.random()));
  }

  #started(held: Held): void {
    const worker = this.#stored.get(held.name);
    if (held.phase === 'PHASE_CREATING' && worker?.metadata.uid === held.uid) {
      held.phase = 'PHASE_RUNNING';
      const conditions = [condition('Ready', 'True')];
      this.#put({ ...worker, status: { ...worker.status, observedGeneration: 1, phase: 'Running', conditions } });
      this.#next(held);
    }
  }

  #delete(worker: LambdaWorker): void {
    this.#put({
      ...worker,
      metadata: { ...worker.metadata, deletionTimestamp: new Date(this.clock.now()).toISOString() },
    });
    this.clock.setTimer(() => {
      const held = this.#held.get(worker.metadata.uid ?? '');
      if (held !== undefined) {
        held.phase = 'PHASE_TERMINATING';
        for (const { answer } of held.waiting.splice(0)) {
          answer(LEAVES);
        }
        this.#next(held);
      }
    }, this.random() * this.#lagMs);
  }

  #removed({ name, uid }: Held): void {
    this.#held.delete(uid);
    this.#stored.delete(name);
    for (const gateway of this.#gateways) {
      gateway.view.removeHolding(NODE, uid);
      this.#tell(gateway, gateway.workers, () => gateway.workers.remove({ namespace: 'default', name }));
    }
  }

  #put(worker: LambdaWorker): void {
    this.#stored.set(worker.metadata.name, worker);
    for (const gateway of this.#gateways) {
      this.#tell(gateway, gateway.workers, () => gateway.workers.put(worker));
    }
  }

  #tellFunction(): void {
    const owner = this.#owner;
    for (const gateway of this.#gateways) {
      this.#tell(gateway, gateway.functions, () => gateway.functions.put(owner));
    }
  }

  /** News of one kind come late, and in order. */
  #tell({ late }: SimulatedGateway, informer: unknown, tell: () => void): void {
    const now = this.clock.monotonic();
    const at = Math.max(now + this.random() * this.#lagMs, late.get(informer) ?? 0);
    late.set(informer, at);
    this.clock.setTimer(tell, at - now);
  }

  /** The agent tells gateways of each phase of a worker at once, and gathers changes of the number of its calls. */
  #show(held: Held): void {
    if (held.told !== held.phase) {
      held.told = held.phase;
      this.#tellWorker(held);
    } else if (!held.gathers) {
      held.gathers = true;
      this.clock.setTimer(() => this.#tellWorker(held), GATHER_MS);
    }
  }

  #tellWorker(held: Held): void {
    held.gathers = false;
    const { name, phase, running, uid, waiting } = held;
    const stateFor = (gateway: number): WorkerState => ({
      worker: { namespace: 'default', name, uid },
      functionName: 'hello',
      epoch: 1,
      phase,
      inFlight: countOf(held),
      others: [running, ...waiting].filter((call) => call !== undefined && call.gateway !== gateway).length,
      othersPlaced: [running ?? waiting[0]].filter((call) => call !== undefined && call.gateway !== gateway).length,
      containerId: '',
      callable: true,
      places: 1,
      usage: null,
    });
    const states = this.#gateways.map((_, at) => stateFor(at));
    this.clock.setTimer(() => {
      for (const [at, { view }] of this.#held.has(uid) ? this.#gateways.entries() : []) {
        view.changeHolding(NODE, states[at] as WorkerState);
      }
    }, MESSAGE_MS);
  }

  async #invoke(
    gateway: number,
    { atOnce = false, payload, waitedMs = 0, worker }: Parameters<AgentSession['invoke']>[0],
    waits: Parameters<AgentSession['invoke']>[4],
  ): Promise<AgentAnswer> {
    const answered = Promise.withResolvers<AgentAnswer>();
    const answer = (end: AgentAnswer): unknown => this.clock.setTimer(() => answered.resolve(end), MESSAGE_MS);
    const uid = worker?.uid ?? '';
    const since = this.clock.monotonic() - waitedMs;
    const call: Sent = { gateway, ms: Number(payload.toString()), since, answer };
    if (waits !== undefined) {
      waits.withdraw = () => this.clock.setTimer(() => this.#withdraw(uid, call), MESSAGE_MS);
    }
    this.clock.setTimer(() => {
      const held = this.#held.get(uid);
      if (held === undefined || held.phase === 'PHASE_TERMINATING') {
        answer(LEAVES);
      } else if (atOnce && countOf(held) > 0) {
        answer(BUSY);
      } else {
        const before = held.waiting.findLastIndex((other) => other.since <= since);
        held.waiting.splice(before + 1, 0, call);
        this.#next(held);
      }
    }, MESSAGE_MS);
    return await answered.promise;
  }

  #withdraw(uid: string, call: Sent): void {
    const held = this.#held.get(uid);
    const at = held?.waiting.indexOf(call) ?? -1;
    if (held !== undefined && at >= 0) {
      held.waiting.splice(at, 1);
      call.answer(WITHDRAWN);
      this.#show(held);
    }
  }

  /** Runs the next call of a worker, or removes one that has none any more and is to go. */
  #next(held: Held): void {
    this.#show(held);
    if (held.running !== undefined || held.phase === 'PHASE_CREATING') {
      return;
    }
    if (held.phase === 'PHASE_TERMINATING') {
      this.clock.setTimer(() => this.#removed(held), REMOVAL_MS);
      return;
    }
    const call = held.waiting.shift();
    if (call !== undefined) {
      held.running = call;
      this.clock.setTimer(() => {
        held.running = undefined;
        call.answer(ANSWERED);
        this.#next(held);
      }, call.ms);
    }
  }
}

function countOf({ running, waiting }: Held): number {
  return waiting.length + (running === undefined ? 0 : 1);
}
