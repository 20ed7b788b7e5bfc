import { sleep } from '../../src/common/deadline.ts';
import { EsbError } from '../../src/common/errors.ts';
import type { RuntimeEvent } from '../../src/runtime/contract/runtime.ts';
import { WorkerExitError } from '../../src/runtime/contract/worker-exit-error.ts';
import type { Random } from '../chaos/random.ts';
import type { FakeFault, FakeOperation, FakeRuntime } from '../support/fake-runtime.ts';
import type { AgentLife } from './agent-life.ts';
import { type FaultEntry, type FaultName, type FaultyOutcome, faultOf } from './fault-table.ts';
import type { SimulatedClock } from './simulated-clock.ts';
import type { WorkerProcesses } from './worker-processes.ts';

/** Milliseconds that an operation takes where nothing is wrong, at least and at most. */
const usualMs: Partial<Record<FakeOperation, readonly [number, number]>> = {
  ensure: [20, 300],
  pause: [5, 60],
  settle: [2, 15],
  destroy: [20, 300],
  list: [2, 30],
};
/** Milliseconds after which the runtime gives an operation up where its caller does not say. */
const deadlineMs: Partial<Record<FakeOperation, number>> = {
  ensure: 300_000,
  destroy: 60_000,
  list: 60_000,
  inspect: 10_000,
  settle: 10_000,
};
/** Milliseconds that a request takes which goes on after its caller was killed. */
const SHORT_MS = 500;
/** Milliseconds for which a port is waited for. */
const LISTEN_MS = 60_000;

/** Shapes whose processes are no good. */
export const muteShape = 'v1-mute';
export const crashingShape = 'v1-crash';

interface Active {
  readonly name: FaultName;
  readonly entry: FaultEntry;
  /** Undefined for the whole node. */
  readonly containerId: string | undefined;
}

export interface FaultyPartsOptions {
  readonly runtime: FakeRuntime;
  readonly processes: WorkerProcesses;
  readonly clock: SimulatedClock;
  readonly random: Random;
  readonly life: () => AgentLife | undefined;
  /** Told before an operation of an agent that is dead has its effect. */
  readonly onGhost: (operation: FakeOperation, containerId: string) => void;
  /** Called when the runtime has listed all containers. */
  readonly onListed: () => void;
  readonly note: (text: string) => void;
}

/** Makes the runtime take its time, and fail as the table says. */
export class FaultyParts {
  /** Whether records can be written. */
  diskFull = false;
  /** Share of the hints that are lost, and of those that come twice or late. */
  hintNoise = 0;
  /** Monotonic milliseconds at which the last fault that touches a container, or the node, was over. */
  readonly #quietSince = new Map<string, number>();
  readonly #quietNames = new Map<string, number>();
  #nodeQuietSince: number;
  readonly #active = new Set<Active>();
  readonly #options: FaultyPartsOptions;
  #waiting: (() => void)[] = [];

  constructor(options: FaultyPartsOptions) {
    const { clock, processes, runtime } = options;
    this.#options = options;
    this.#nodeQuietSince = clock.monotonic();
    runtime.pulls = false;
    runtime.before = (operation, containerId, call) => this.#before(operation, containerId, call);
    runtime.made = (containerId) => this.#made(containerId);
    runtime.listens = (containerId) => this.#listens(containerId);
    processes.byId.clear();
  }

  get active(): readonly FaultName[] {
    return [...this.#active].map(({ name }) => name);
  }

  has(name: FaultName, containerId?: string): boolean {
    return [...this.#active].some((each) => each.name === name && each.containerId === containerId);
  }

  /** Whether containerd answers. */
  get answers(): boolean {
    return !this.has('containerd is away') && !this.has('containerd stands still');
  }

  /** Monotonic milliseconds since when no fault touches the node; infinite while one does. */
  get nodeQuietSince(): number {
    const loud = this.diskFull || [...this.#active].some(({ containerId }) => containerId === undefined);
    return loud ? Number.POSITIVE_INFINITY : this.#nodeQuietSince;
  }

  /** Faults of a container, without the faults of the node. */
  quietSince(containerId: string): number {
    const loud = [...this.#active].some((each) => each.containerId === containerId);
    return loud ? Number.POSITIVE_INFINITY : (this.#quietSince.get(containerId) ?? 0);
  }

  /** Monotonic milliseconds at which the last fault of any container of a worker was over. */
  quietNameSince(name: string): number {
    return this.#quietNames.get(name) ?? 0;
  }

  #disturbed(containerId: string): void {
    const now = this.#options.clock.monotonic();
    this.#quietSince.set(containerId, now);
    this.#quietNames.set(containerId.slice(0, containerId.indexOf('-')), now);
  }

  begin(name: FaultName, containerId: string | undefined): void {
    if (this.has(name, containerId)) {
      return;
    }
    const { note, runtime } = this.#options;
    const entry = faultOf(name);
    this.#active.add({ name, entry, containerId });
    note(`${name}${containerId === undefined ? '' : `: ${containerId}`}`);
    if (entry.state === 'ShimHangs' && containerId !== undefined) {
      runtime.hung.add(containerId);
    } else if (entry.state === 'Undying' && containerId !== undefined) {
      runtime.undying.add(containerId);
    } else if (entry.state === 'EventsEnd') {
      runtime.emit({ kind: 'Disconnected', containerId: '' });
    } else if (entry.state === 'SlowPull') {
      runtime.pull = () => this.#pull(name);
    }
  }

  /** Ends all that last: for good, or all but shims that stand still, which an agent has to end by itself. */
  endAll(): void {
    for (const each of [...this.#active]) {
      if (each.entry.state !== 'ShimHangs') {
        this.#end(each);
      }
    }
    this.diskFull = false;
    this.hintNoise = 0;
    this.#options.processes.refusals = 0;
  }

  /** Ends one that lasts. */
  endOne(): void {
    const lasting = [...this.#active].filter(({ entry }) => entry.lasts === 'Lasting');
    if (lasting.length > 0) {
      this.#end(this.#options.random.pick(lasting));
    }
  }

  /** A container is gone, and with it its faults. */
  forget(containerId: string): void {
    for (const each of [...this.#active]) {
      if (each.containerId === containerId) {
        this.#end(each);
      }
    }
    this.#disturbed(containerId);
  }

  /** Something else that is no fault of the agent touched a container. */
  disturb(containerId: string): void {
    this.#disturbed(containerId);
  }

  /** How hints come to the agent. */
  hears(event: RuntimeEvent, tell: () => void): void {
    const { clock, random } = this.#options;
    if (event.containerId !== '' && this.has('containerd is away')) {
      return;
    }
    if (this.has('containerd stands still')) {
      this.#waiting.push(tell);
      return;
    }
    if (event.containerId === '' || !random.chance(this.hintNoise)) {
      tell();
      return;
    }
    const how = random.weighted({ lost: 3, twice: 1, late: 1 });
    if (how === 'lost') {
      this.disturb(event.containerId);
    } else if (how === 'twice') {
      tell();
      tell();
    } else {
      clock.setTimer(tell, random.between(1, 3_000));
    }
  }

  #end(each: Active): void {
    const { clock, note, runtime } = this.#options;
    if (!this.#active.delete(each)) {
      return;
    }
    const { containerId, entry, name } = each;
    if (containerId === undefined) {
      this.#nodeQuietSince = clock.monotonic();
    } else {
      this.#disturbed(containerId);
    }
    if (entry.lasts === 'Lasting') {
      note(`over: ${name}${containerId === undefined ? '' : `: ${containerId}`}`);
    }
    if (containerId !== undefined) {
      if (entry.state === 'ShimHangs') {
        runtime.hung.delete(containerId);
      } else if (entry.state === 'Undying') {
        runtime.undying.delete(containerId);
      }
    }
    if (entry.state === 'EventsEnd') {
      runtime.emit({ kind: 'Reconnected', containerId: '' });
    } else if (entry.state === 'EventsWait') {
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const tell of waiting) {
        tell();
      }
    } else if (entry.state === 'SlowPull') {
      runtime.pull = undefined;
    }
  }

  /** The fault that an operation meets, of the container before one of the node. */
  #meet(operation: FakeOperation, containerId: string): FaultyOutcome | undefined {
    let met: Active | undefined;
    for (const each of this.#active) {
      if (each.entry.outcomes[operation] === undefined) {
        continue;
      }
      const isHere = each.containerId === containerId || (operation === 'list' && each.entry.state === 'ShimHangs');
      if (isHere || (each.containerId === undefined && met === undefined)) {
        met = each;
      }
    }
    if (met?.entry.lasts === 'Once') {
      this.#end(met);
    }
    return met?.entry.outcomes[operation];
  }

  async #before(
    operation: FakeOperation,
    containerId: string,
    call: { readonly deadlineMs?: number | undefined; readonly graceSeconds?: number },
  ): Promise<FakeFault | undefined> {
    const { clock, processes, random } = this.#options;
    const life = this.#options.life();
    const outcome = this.#meet(operation, containerId);
    let ms = this.#takesMs(operation, outcome);
    if (operation === 'destroy' && outcome === undefined && processes.byId.get(containerId)?.stubborn === true) {
      ms += (call.graceSeconds ?? 10) * 1_000;
    }
    const limit = call.deadlineMs ?? deadlineMs[operation] ?? Number.POSITIVE_INFINITY;
    if (ms > 0) {
      await sleep(clock, Math.min(ms, limit));
    }
    if (life?.alive !== true) {
      // Asked for by a process that was killed: what takes it more than one request goes no further.
      if (ms > SHORT_MS || random.chance(0.5)) {
        await new Promise(() => undefined);
      }
      this.#options.onGhost(operation, containerId);
    }
    if (ms > limit) {
      return { error: new EsbError('no answer in time', { code: 'DeadlineExceeded', retryable: true }) };
    }
    const code = outcome?.code;
    if (operation === 'list' && code === undefined && life === this.#options.life()) {
      this.#options.onListed();
    }
    return code === undefined
      ? undefined
      : {
          error: new EsbError(`${operation}: ${code}`, { code, retryable: true }),
          afterEffect: outcome?.effect === true,
        };
  }

  #takesMs(operation: FakeOperation, outcome: FaultyOutcome | undefined): number {
    const { random } = this.#options;
    if (outcome !== undefined) {
      return random.between(...outcome.afterMs);
    }
    const usual = usualMs[operation];
    if (usual !== undefined) {
      return random.between(...usual);
    }
    return random.chance(0.5) ? 0 : random.between(1, 5);
  }

  async #pull(name: FaultName): Promise<void> {
    const { clock, random } = this.#options;
    const life = this.#options.life();
    const until = clock.monotonic() + random.between(1_000, 90_000);
    while (this.has(name) && clock.monotonic() < until) {
      await sleep(clock, 2_000);
    }
    if (life?.alive !== true) {
      await new Promise(() => undefined);
    }
  }

  /** Leaves a container half-made where an agent is killed. */
  async #made(containerId: string): Promise<void> {
    const { clock, random } = this.#options;
    const life = this.#options.life();
    if (life?.alive !== true) {
      await new Promise(() => undefined);
    }
    await sleep(clock, random.between(5, 50));
    if (life?.alive !== true) {
      this.#options.note(`${containerId} stays half-made`);
      await new Promise(() => undefined);
    }
  }

  async #listens(containerId: string): Promise<void> {
    const { clock, processes, random, runtime } = this.#options;
    const process = processes.byId.get(containerId);
    if (process === undefined) {
      throw new EsbError('it is gone', { code: 'StartFailed', retryable: true });
    }
    if (process.listening) {
      return;
    }
    const life = this.#options.life();
    if (process.shapeHash === crashingShape) {
      await sleep(clock, random.between(1, 400));
      if (life?.alive !== true) {
        processes.exit(containerId, 1, false);
        await new Promise(() => undefined);
      }
      throw new WorkerExitError(containerId, {
        exitCode: 1,
        oomKilled: false,
        finishedAt: new Date(clock.now()),
        output: 'cannot start',
      });
    }
    const ms =
      process.shapeHash === muteShape
        ? LISTEN_MS
        : random.chance(0.4)
          ? 0
          : random.between(1, random.chance(0.1) ? 6_000 : 600);
    if (ms > 0) {
      await sleep(clock, Math.min(ms, LISTEN_MS));
    }
    if (life?.alive !== true && processes.byId.get(containerId) !== process) {
      await new Promise(() => undefined);
    }
    if (process.shapeHash === muteShape) {
      if (life?.alive !== true) {
        await new Promise(() => undefined);
      }
      throw new EsbError('nothing listens', { code: 'NotListening', retryable: true });
    }
    if (processes.byId.get(containerId) !== process) {
      const kind = runtime.taskOf(containerId);
      throw new EsbError(`it ended while it was waited for: ${kind}`, {
        code: 'StartFailed',
        retryable: true,
      });
    }
    processes.opened(containerId);
  }
}
