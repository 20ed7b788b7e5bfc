import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { DesiredWorker } from '../../src/agent/model/desired-worker.ts';
import type { WorkerRecord } from '../../src/agent/model/worker-record.ts';
import { createFleet } from '../../src/agent/worker/worker-manager.ts';
import { takenMiB } from '../../src/api/worker-resources.ts';
import type { Logger } from '../../src/common/logger.ts';
import { Random } from '../chaos/random.ts';
import { FakeRuntime } from '../support/fake-runtime.ts';
import { AgentLife } from './agent-life.ts';
import { Cluster, type Resource } from './cluster.ts';
import { type FaultName, faultNames, faultOf } from './fault-table.ts';
import { crashingShape, FaultyParts, muteShape } from './faulty-parts.ts';
import { Invariants, mayRestAbsent } from './invariants.ts';
import { memoryFiles } from './memory-files.ts';
import { SimulatedClock, settle } from './simulated-clock.ts';
import { placesOf, WorkerProcesses } from './worker-processes.ts';

const NAMES = ['w0', 'w1', 'w2', 'w3', 'w4', 'w5'] as const;
/** Two workers of one function, three of another, and one alone. */
const FUNCTIONS: Readonly<Record<string, string>> = {
  w0: 'f0',
  w1: 'f0',
  w2: 'f1',
  w3: 'f1',
  w4: 'f1',
  w5: 'f2',
};
/** Workers of interface `Lambda`, in the runs that have such. */
const INIT_NAMES: readonly string[] = ['w1', 'w2', 'w4', 'w5'];
const soundShapes = ['v1-a', 'v1-b', 'v1-c'] as const;
/** Room for five workers of six, or for fewer and a replacement beside. */
const capacity = { memoryMiB: 5 * 144 + 72, workers: 7 };
const STATE_DIR = '/simulated/state';
const RUN_DIR = '/simulated/run';
/** Calls that are open at once. */
const MOST_CALLS = 10;
/** Simulated milliseconds within which every goal is reached once faults are over. */
const REST_WITHIN_MS = 420_000;
/** Rounds of 20 seconds after which the agent sweeps, while everything comes to rest. */
const SWEEP_EVERY = 6;
/** Lines of the trace that a failure shows. */
const TRACE_LINES = 400;
/** `/tmp` of the simulated workers is memory. */
const inMemory = (worker: Parameters<typeof takenMiB>[0]): number => takenMiB(worker, false);

const stepWeights = {
  invoke: 300,
  advance: 330,
  desire: 60,
  fault: 36,
  heal: 44,
  happening: 22,
  hangUp: 8,
  hint: 8,
  watch: 8,
  sweep: 1,
  kill: 6,
  stop: 3,
  clock: 4,
  calm: 3,
} as const;
const desireWeights = {
  rest: 6,
  shape: 4,
  bad: 1,
  policy: 2,
  stamp: 2,
  delete: 1,
  away: 1,
  back: 3,
} as const;
type StepKind = keyof typeof stepWeights;
/** Each kind as often as its weight says. */
const stepKinds = Object.entries(stepWeights).flatMap(([kind, weight]) =>
  Array.from({ length: weight }, () => kind as StepKind),
);

const silent: Logger = Object.assign(Object.create(null), {
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  fatal: () => undefined,
  child: () => silent,
}) as Logger;

export interface SimulationResult {
  readonly seed: number;
  readonly killAfter: number | undefined;
  /** Steps done; fewer than asked for where something was violated. */
  readonly steps: number;
  /** Of all that happened, in order. */
  readonly hash: string;
  readonly violation: string | undefined;
  /** The last lines of what happened. */
  readonly trace: readonly string[];
  readonly calls: number;
  readonly simulatedSeconds: number;
}

export interface SimulationOptions {
  /** Whether there are workers of interface `Lambda`. Default by the seed. */
  readonly inits?: boolean | undefined;
  /** Step after which the agent is killed. Default none. */
  readonly killAfter?: number | undefined;
}

class Violation extends Error {}

/** A whole node under one seed. */
export class Simulation {
  readonly #seed: number;
  readonly #random: Random;
  readonly #clock = new SimulatedClock();
  readonly #runtime: FakeRuntime;
  readonly #processes: WorkerProcesses;
  readonly #faults: FaultyParts;
  readonly #cluster: Cluster;
  readonly #invariants: Invariants;
  readonly #hash = createHash('sha256');
  readonly #trace: string[] = [];
  readonly #logger: Logger;
  #violation: string | undefined;
  #step = 0;
  readonly #maxStarts: number;
  readonly #hasInits: boolean;
  #lives = 0;
  #uids = 0;
  /** Until the next rest nothing fails but what workers do themselves, and hints. */
  #isFair = false;
  #orphans: ReadonlySet<string> = new Set();
  #calls = 0;
  #pendingHash = '';

  /** Step after which the agent is killed, beside those that the seed says. */
  readonly #killAfter: number | undefined;
  #isKilled = false;

  /** Seeds that are even have workers of interface `Lambda` among others, where nothing else is said. */
  constructor(
    seed: number,
    { inits: hasInits = seed % 2 === 0, killAfter }: SimulationOptions = {},
    logger: Logger = silent,
  ) {
    this.#seed = seed;
    this.#killAfter = killAfter;
    this.#hasInits = hasInits;
    this.#logger = logger;
    this.#random = new Random(seed);
    this.#maxStarts = this.#random.pick([1, 2, 4]);
    memoryFiles.clear();
    const clock = this.#clock;
    const random = this.#random;
    const life = (): AgentLife | undefined => this.#cluster.life;
    const note = (text: string): void => this.#note(text);
    this.#runtime = new FakeRuntime(() => clock.now());
    this.#runtime.reusesAddresses = true;
    this.#invariants = new Invariants({
      clock,
      runtime: this.#runtime,
      processes: () => this.#processes,
      cluster: () => this.#cluster,
      faults: () => this.#faults,
      capacity,
      runDir: RUN_DIR,
      takenMiB: inMemory,
      onViolation: (text) => {
        this.#violation ??= text;
        this.#note(`VIOLATION: ${text}`);
      },
      onNote: note,
    });
    const watcher = this.#invariants;
    this.#processes = new WorkerProcesses({ runtime: this.#runtime, clock, random, watcher });
    this.#faults = new FaultyParts({
      runtime: this.#runtime,
      processes: this.#processes,
      clock,
      random,
      life,
      onGhost: (operation, containerId) => watcher.ghost(operation, containerId),
      onListed: () => watcher.listed(),
      note,
    });
    this.#cluster = new Cluster({ clock, watcher });
    this.#runtime.subscribe(({ containerId, kind }) => {
      if (kind === 'Deleted') {
        this.#faults.forget(containerId);
        this.#invariants.gone(containerId);
      }
    });
    memoryFiles.guard({
      isAlive: () => life()?.alive === true,
      mayChange: (path, grows) => {
        const current = life();
        if (current === undefined || !current.spend(path)) {
          return false;
        }
        if (this.#faults.diskFull && grows && path.startsWith(STATE_DIR)) {
          throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
        }
        return true;
      },
    });
  }

  async run(steps: number): Promise<SimulationResult> {
    for (const name of NAMES) {
      this.#create(name);
    }
    this.#start();
    await settle();
    try {
      while (this.#step < steps) {
        this.#step += 1;
        await this.#take(stepKinds[this.#random.between(0, stepKinds.length - 1)] ?? 'advance');
        await settle();
        this.#check();
      }
      await this.#calm();
      await this.#end();
    } catch (error) {
      if (!(error instanceof Violation)) {
        this.#violation = `the simulation failed: ${String((error as Error).stack)}`;
      }
    }
    this.#hash.update(this.#pendingHash);
    return {
      seed: this.#seed,
      killAfter: this.#killAfter,
      steps: this.#step,
      hash: this.#hash.digest('hex'),
      violation: this.#violation,
      trace: this.#trace.slice(-TRACE_LINES),
      calls: this.#calls,
      simulatedSeconds: Math.round(this.#clock.monotonic() / 1_000),
    };
  }

  // Steps

  async #take(kind: StepKind): Promise<void> {
    const random = this.#random;
    switch (kind) {
      case 'invoke':
        if (this.#cluster.open.size < MOST_CALLS) {
          this.#calls += 1;
          const functionName = FUNCTIONS[random.pick(NAMES)] ?? '';
          this.#note(`call-${this.#calls} of ${functionName}`);
          this.#cluster.call(functionName);
        }
        return;
      case 'advance':
        await this.#advance(random.weighted({ 1: 20, 10: 20, 100: 20, 1000: 14, 4000: 6, 15000: 3, 70000: 1 }));
        return;
      case 'desire':
        this.#changeDesire();
        return;
      case 'fault':
        this.#beginFault();
        return;
      case 'heal':
        this.#healOne();
        return;
      case 'happening':
        this.#happen();
        return;
      case 'hangUp': {
        const open = [...this.#cluster.open.keys()];
        if (open.length > 0) {
          const requestId = random.pick(open);
          this.#note(`the caller of ${requestId} hangs up`);
          this.#cluster.hangUp(requestId);
        }
        return;
      }
      case 'hint':
        this.#hint();
        return;
      case 'watch':
        this.#cluster.watching = !this.#cluster.watching;
        this.#note(`the API server is ${this.#cluster.watching ? 'back' : 'away'}`);
        if (this.#cluster.watching) {
          this.#cluster.tellAll();
        }
        return;
      case 'sweep':
        this.#note('a sweep');
        void this.#cluster.sweep();
        return;
      case 'kill':
        this.#kill();
        return;
      case 'stop':
        this.#stop();
        return;
      case 'clock':
        this.#note('the wall clock is set');
        this.#clock.step(random.pick([-3_600_000, -2_000, 2_000, 3_600_000]));
        this.#invariants.clockSet();
        return;
      case 'calm':
        await this.#calm();
        return;
      default:
        kind satisfies never;
    }
  }

  async #advance(ms: string): Promise<void> {
    await this.#clock.advance(Number(ms), () => this.#fired());
  }

  #changeDesire(): void {
    const random = this.#random;
    const name = random.pick(NAMES);
    const resource = this.#resourceOf(name);
    if (resource === undefined) {
      this.#create(name);
      return;
    }
    if (resource.deletedAt !== undefined) {
      return;
    }
    const { desired } = resource;
    const kind = random.weighted({ ...desireWeights, bad: this.#isFair ? 6 : 1 });
    if (!resource.here && kind !== 'back' && kind !== 'delete') {
      return;
    }
    switch (kind) {
      case 'rest':
        this.#change(resource, {
          restingState: random.pick(['Running', 'Paused', 'Absent']),
          ...idlePolicy(random),
        });
        return;
      case 'shape':
        this.#change(resource, { shapeHash: random.pick(soundShapes) });
        return;
      case 'bad':
        this.#change(resource, { shapeHash: random.pick([muteShape, muteShape, crashingShape]) });
        return;
      case 'policy':
        this.#change(resource, { wakePolicy: random.chance(0.3) ? 'Never' : 'OnInvoke' });
        return;
      case 'stamp':
        this.#note(`${name} is woken by its status`);
        resource.desired = { ...desired, lastInvocationTime: `2031-01-01T00:00:00.00000${this.#step % 10}Z` };
        this.#cluster.put(resource);
        return;
      case 'delete':
        this.#note(`${name} is deleted`);
        this.#delete(resource);
        return;
      case 'away':
        this.#note(`${name} moves away`);
        resource.here = false;
        resource.desired = { ...desired, epoch: desired.epoch + 1 };
        this.#cluster.put(resource);
        return;
      case 'back':
        if (!resource.here) {
          this.#note(`${name} comes back`);
          resource.here = true;
          resource.desired = { ...desired, epoch: desired.epoch + 1 };
          this.#cluster.put(resource);
        }
        return;
      default:
        kind satisfies never;
    }
  }

  #change(resource: Resource, change: Partial<DesiredWorker>): void {
    const { desired } = resource;
    this.#note(`${desired.identity.name}: ${JSON.stringify(change)}`);
    const next = { ...desired, ...change, generation: desired.generation + 1 };
    for (const key of ['pauseAfterSeconds', 'removeAfterSeconds'] as const) {
      if (key in change && change[key] === undefined) {
        delete (next as Record<string, unknown>)[key];
      }
    }
    resource.desired = next;
    this.#cluster.put(resource);
  }

  #delete(resource: Resource): void {
    const { desired } = resource;
    if (!resource.here) {
      this.#cluster.remove(desired.identity.uid);
      return;
    }
    resource.deletedAt = this.#clock.monotonic();
    resource.desired = { ...desired, deleting: true, generation: desired.generation + 1 };
    this.#cluster.put(resource);
  }

  #beginFault(): void {
    const random = this.#random;
    if (this.#isFair) {
      return;
    }
    const kind = random.weighted({ table: 12, disk: 1, hints: 1, refusals: 1 });
    if (kind === 'disk') {
      this.#note('the disk of the records is full');
      this.#faults.diskFull = true;
      return;
    }
    if (kind === 'hints') {
      this.#note('hints are lost, late and doubled');
      this.#faults.hintNoise = 0.5;
      return;
    }
    if (kind === 'refusals') {
      this.#processes.refusals = random.between(1, 4);
      return;
    }
    const name: FaultName = random.pick(faultNames);
    if (faultOf(name).scope === 'Node') {
      this.#faults.begin(name, undefined);
      return;
    }
    const containers = [...this.#runtime.containers.keys()];
    if (containers.length > 0) {
      this.#faults.begin(name, random.pick(containers));
    }
  }

  #healOne(): void {
    const random = this.#random;
    if (random.chance(0.3)) {
      this.#faults.diskFull = false;
      this.#faults.hintNoise = 0;
    }
    this.#faults.endOne();
  }

  /** Something happens to a process. */
  #happen(): void {
    const random = this.#random;
    const running = [...this.#processes.byId.values()];
    if (running.length === 0) {
      return;
    }
    const quiet = running.filter(({ containerId }) => this.#runtime.hung.has(containerId));
    const process = random.pick(quiet.length > 0 && random.chance(0.5) ? quiet : running);
    const { containerId } = process;
    const kind = process.isInit
      ? random.weighted({ exit: 3, oom: 1, restart: 3, lost: 2, freeze: 2, thaw: 2, reboot: 0.2 })
      : random.weighted({ exit: 4, oom: 1, freeze: 2, thaw: 2, reboot: 0.2 });
    this.#faults.disturb(containerId);
    switch (kind) {
      case 'exit':
      case 'oom':
        this.#note(`${containerId}: ${kind}`);
        this.#processes.exit(containerId, kind === 'oom' ? 137 : 1, kind === 'oom');
        return;
      case 'restart':
        if (process.calls.size === 0 || process.places > 1) {
          this.#note(`${containerId}: its runtime ends`);
          this.#processes.restart(process);
        }
        return;
      case 'lost':
        this.#note(`${containerId}: its init loses the agent`);
        this.#processes.loseInit(process);
        return;
      case 'freeze':
        if (process.calls.size === 0 && this.#runtime.taskOf(containerId) === 'Running') {
          this.#note(`${containerId} is frozen by somebody else`);
          process.foreignFrozen = true;
          this.#invariants.suspect(containerId, 'frozen by somebody else');
          this.#runtime.foreign('Paused', containerId);
        }
        return;
      case 'thaw':
        if (this.#runtime.taskOf(containerId) === 'Paused') {
          this.#note(`${containerId} is thawed by somebody else`);
          this.#runtime.foreign('Running', containerId);
        }
        return;
      case 'reboot':
        this.#reboot();
        return;
      default:
        kind satisfies never;
    }
  }

  #reboot(): void {
    this.#note('the machine loses power, and starts again');
    this.#cluster.life?.kill('the machine starts again');
    this.#processes.reboot();
    this.#runtime.hung.clear();
    this.#runtime.undying.clear();
    this.#runtime.reboot();
    for (const path of memoryFiles.files.keys()) {
      if (path.startsWith(RUN_DIR)) {
        memoryFiles.files.delete(path);
      }
    }
    memoryFiles.losePower(STATE_DIR, () => this.#random.chance(0.5));
    for (const [path, text] of memoryFiles.files) {
      if (path.endsWith('.json') && text === '') {
        this.#invariants.violation(`${path} has lost its content with the power`);
      }
    }
  }

  #hint(): void {
    const containers = [...this.#runtime.containers.keys()];
    if (containers.length > 0) {
      const containerId = this.#random.pick(containers);
      const kind = this.#random.pick(['Exited', 'Paused', 'Resumed', 'Created', 'Deleted', 'OutOfMemory']);
      this.#note(`a hint without cause: ${kind} ${containerId}`);
      this.#cluster.life?.hear({ kind: kind as 'Exited', containerId });
    }
  }

  // The agent

  #kill(): void {
    const { life } = this.#cluster;
    if (life === undefined) {
      return;
    }
    if (this.#random.chance(0.5)) {
      life.kill('SIGKILL');
    } else {
      life.killAfter(this.#random.between(0, 40));
    }
  }

  #stop(): void {
    const { life } = this.#cluster;
    if (life?.fleet === undefined || !life.serves || life.stopping) {
      return;
    }
    this.#note('the agent is told to end');
    life.stopping = true;
    void life.fleet
      .stop(this.#random.pick([0, 5_000, 20_000]), () => {
        life.refusing = true;
      })
      .then(() => life.kill('it has ended'));
  }

  #start(): void {
    this.#lives += 1;
    const clock = this.#clock;
    const life = new AgentLife(this.#lives, clock, (where) => {
      this.#note(`the agent ends: ${where.replace(/\.json\..*$/, '.json')}`);
      this.#invariants.died();
      memoryFiles.open.clear();
      this.#cluster.lost();
      clock.setTimer(() => this.#start(), this.#random.between(1, this.#random.chance(0.2) ? 20_000 : 500));
    });
    this.#note(`the agent starts (${life.number})`);
    this.#cluster.life = life;
    const fleet = createFleet({
      runtime: life.runtime(this.#runtime, this.#invariants, (event, tell) => this.#faults.hears(event, tell)),
      clock: life.clock,
      logger: this.#logger,
      stateDir: STATE_DIR,
      runDir: RUN_DIR,
      capacity,
      secretReader: { read: () => Promise.resolve(undefined) },
      connect: (address) => this.#processes.connect(life, address),
      inits: this.#processes.initsOf(life),
      random: () => this.#random.next(),
      limits: { maxStarts: this.#maxStarts, maxPauses: 2, maxRemovals: 2 },
    });
    life.fleet = fleet;
    const records = readRecords();
    this.#cluster.recorded(records.map(({ desired }) => desired));
    const served = records.flatMap(({ container, served: told }) => (told === undefined ? [] : (container?.id ?? [])));
    const marked = readMarked();
    this.#invariants.starts(marked, served);
    for (const [containerId, { address, identity, task }] of this.#runtime.containers) {
      const record = records.find(({ container }) => container?.id === containerId);
      if (record?.served !== undefined && record.served.address?.ip !== address?.ip && task.kind === 'Running') {
        this.#invariants.violation(`the record of ${containerId} tells of an address that is not its own`);
      }
      if (memoryFiles.files.get(`${RUN_DIR}/${identity.uid}.mark`) === '') {
        this.#invariants.suspect(containerId, 'its mark was being written');
      }
    }
    fleet
      .adopt()
      .then(() => {
        if (!life.alive) {
          return;
        }
        life.serves = true;
        const found = [...this.#runtime.containers.values()].map(
          ({ containerId, task }) => `${containerId} ${task.kind}`,
        );
        this.#note(`the agent serves, and finds ${found.join(', ') || 'nothing'}`);
        this.#note(`taken: ${JSON.stringify(fleet.allocation())}`);
        this.#invariants.begun(life);
        this.#cluster.connected(life);
        void this.#cluster.sweep();
      })
      .catch((error: unknown) => this.#note(`the agent cannot adopt: ${String(error)}`));
  }

  // Rest

  /** Every fault ends, and everything comes to rest where it should in bounded time. */
  async #calm(): Promise<void> {
    this.#note('every fault ends');
    this.#faults.endAll();
    this.#processes.calm = true;
    if (!this.#cluster.watching) {
      this.#cluster.watching = true;
    }
    for (const resource of this.#cluster.resources.values()) {
      const { shapeHash } = resource.desired;
      if (resource.deletedAt === undefined && (shapeHash === muteShape || shapeHash === crashingShape)) {
        this.#change(resource, { shapeHash: 'v1-a' });
      }
    }
    this.#cluster.tellAll();
    const until = this.#clock.monotonic() + REST_WITHIN_MS;
    let left = this.#unrest();
    let rounds = 0;
    while (this.#clock.monotonic() < until) {
      await this.#clock.advance(20_000, () => this.#fired());
      this.#collect();
      rounds += 1;
      if (rounds % SWEEP_EVERY === 0) {
        void this.#cluster.sweep();
      }
      left = this.#unrest();
      if (left === undefined) {
        break;
      }
    }
    if (left !== undefined) {
      this.#invariants.violation(`not at rest after ${REST_WITHIN_MS / 1_000} s without faults: ${left}`);
      this.#failOn();
    }
    this.#processes.calm = false;
    this.#isFair = this.#random.chance(0.3);
    this.#faults.hintNoise = this.#isFair ? 0.4 : 0;
    this.#note(`everything is at rest${this.#isFair ? ', and the weather is fair' : ''}`);
  }

  /** The garbage collector: files of workers that the agent does not know are discarded when they are seen twice. */
  #collect(): void {
    const { life } = this.#cluster;
    if (life?.serves !== true || !life.alive || life.fleet === undefined) {
      return;
    }
    const { uids } = life.fleet.known();
    const orphans = new Set<string>();
    for (const path of memoryFiles.files.keys()) {
      const uid = /([^/]+)\.(json|mark)$/.exec(path)?.[1];
      if (uid !== undefined && uid !== 'set-aside' && !uids.has(uid)) {
        orphans.add(uid);
        if (this.#orphans.has(uid)) {
          void life.fleet.discard(uid);
        }
      }
    }
    this.#orphans = orphans;
  }

  /** The first thing that is not yet as it should be at rest; undefined for none. */
  #unrest(): string | undefined {
    const { life, open, resources } = this.#cluster;
    const { fleet } = life ?? {};
    if (life?.serves !== true || life.stopping || fleet === undefined || !life.alive) {
      return 'the agent does not serve';
    }
    if (open.size > 0) {
      return `no outcome of ${[...open.keys()].join(', ')}`;
    }
    const byUid = Map.groupBy(this.#runtime.containers.values(), ({ identity }) => identity.uid);
    let memoryMiB = 0;
    let waitsForRoom = false;
    for (const { desired, here, deletedAt } of resources.values()) {
      const { uid } = desired.identity;
      const own = byUid.get(uid) ?? [];
      byUid.delete(uid);
      if (deletedAt !== undefined) {
        return `${uid} is deleted and still there`;
      }
      const view = fleet.view(uid);
      const rest = restOf(desired);
      if (!here) {
        if (own.length > 0 || view !== undefined) {
          return `${uid} is elsewhere and still here`;
        }
        continue;
      }
      if (view === undefined) {
        return `${uid} is not known to the agent`;
      }
      if (rest === 'Absent') {
        if (own.length > 0 || view.phase !== 'Absent') {
          return `${uid} rests Absent and has ${own.map(({ task }) => task.kind).join(', ')}, ${view.phase}`;
        }
        continue;
      }
      if (own.length === 0 && view.conditions.Ready.reason === 'NodeFull') {
        waitsForRoom = true;
        continue;
      }
      const [container] = own;
      if (own.length !== 1 || container?.task.kind !== rest || view.phase !== rest) {
        return `${uid} is to be ${rest} and is ${own.map(({ task }) => task.kind).join(', ') || 'gone'}, shown as ${view.phase} (${view.conditions.Ready.reason}: ${view.conditions.Ready.message})`;
      }
      memoryMiB += inMemory(desired);
      if (container.shapeHash !== desired.shapeHash && !waitsForRoom) {
        return `${uid} is of ${container.shapeHash} and should be of ${desired.shapeHash}`;
      }
    }
    if (byUid.size > 0) {
      return `containers of nobody: ${[...byUid.keys()].join(', ')}`;
    }
    return this.#leaks(fleet, memoryMiB);
  }

  #leaks(fleet: NonNullable<AgentLife['fleet']>, memoryMiB: number): string | undefined {
    const uids = new Set(this.#cluster.resources.keys());
    const folder = join(STATE_DIR, 'workers');
    for (const path of memoryFiles.files.keys()) {
      const name = path.slice(path.lastIndexOf('/') + 1);
      const uid = name.replace(/\.(json|mark)$/, '');
      const isKnown = path.startsWith(folder) || path.startsWith(RUN_DIR) ? uids.has(uid) : true;
      if (!isKnown) {
        return `the file ${path} of a worker that is gone`;
      }
    }
    const marked = readMarked().find((containerId) => this.#runtime.containers.has(containerId));
    if (marked !== undefined) {
      return `a mark tells of a call in ${marked}`;
    }
    if (this.#runtime.hung.size > 0) {
      return `${[...this.#runtime.hung].join(', ')} is there, and its shim stands still`;
    }
    if (fleet.setAside().length > 0) {
      return 'containers are set aside';
    }
    const allocation = fleet.allocation();
    if (allocation.memoryMiB !== memoryMiB || allocation.workers !== this.#runtime.containers.size) {
      return `${JSON.stringify(allocation)} is taken for ${memoryMiB} MiB of ${this.#runtime.containers.size} containers`;
    }
    const ips = [...this.#runtime.containers.values()].flatMap(({ address }) => address?.ip ?? []);
    return new Set(ips).size === ips.length ? undefined : 'two containers have one address';
  }

  /** Everything is deleted, and nothing is left. */
  async #end(): Promise<void> {
    this.#processes.calm = true;
    for (const resource of [...this.#cluster.resources.values()]) {
      this.#delete(resource);
    }
    for (let waited = 0; waited < 12 && (waited < 3 || this.#cluster.resources.size > 0); waited += 1) {
      await this.#clock.advance(30_000, () => this.#fired());
      this.#collect();
    }
    await this.#clock.advance(30_000, () => this.#fired());
    const left = [
      ...this.#cluster.resources.keys(),
      ...this.#runtime.containers.keys(),
      ...[...memoryFiles.files.keys()].filter((path) => !path.endsWith('set-aside.json')),
      ...[...memoryFiles.open.values()].map((path) => `${path}, which is open`),
      ...(this.#cluster.life?.fleet?.views() ?? []).map(({ identity }) => identity.uid),
    ];
    if (left.length > 0) {
      this.#invariants.violation(`left with everything deleted: ${left.join(', ')}`);
      this.#failOn();
    }
  }

  #create(name: string): void {
    this.#uids += 1;
    const random = this.#random;
    this.#note(`${name} is made`);
    this.#cluster.put({
      here: true,
      deletedAt: undefined,
      desired: {
        identity: {
          namespace: 'default',
          name,
          uid: `${name}-${this.#uids}`,
          functionName: FUNCTIONS[name] ?? '',
        },
        generation: 1,
        epoch: 1,
        shapeHash: random.pick(soundShapes),
        image: 'registry.example/hello:1',
        imagePullPolicy: 'IfNotPresent',
        imagePullSecrets: [],
        command: [],
        args: [],
        env: [],
        memoryMiB: 128,
        pids: 256,
        ephemeralStorageMiB: 16,
        readOnlyRootFilesystem: true,
        timeoutSeconds: 3,
        runtimeInterface: this.#hasInits && INIT_NAMES.includes(name) ? 'Lambda' : 'Emulator',
        startupTimeoutSeconds: 60,
        ...(this.#hasInits && placesOf(name) > 1 ? { perWorker: placesOf(name) } : {}),
        port: 8080,
        networkMode: 'Bridge',
        restingState: random.pick(['Running', 'Paused', 'Absent']),
        wakePolicy: 'OnInvoke',
        terminationGraceSeconds: random.pick([1, 5]),
        deleting: false,
        ...(this.#uids % 2 === 0 ? { letsCallsEnd: true } : {}),
        ...(random.chance(0.2) ? { warmUpPayload: '{}' } : {}),
        ...idlePolicy(random),
      },
    });
  }

  #resourceOf(name: string): Resource | undefined {
    return [...this.#cluster.resources.values()].find(({ desired }) => desired.identity.name === name);
  }

  /** One timer is one step. */
  #fired(): void {
    this.#step += 1;
    this.#check();
  }

  #check(): void {
    this.#invariants.check();
    this.#failOn();
    if (!this.#isKilled && this.#killAfter !== undefined && this.#step >= this.#killAfter) {
      this.#isKilled = true;
      this.#cluster.life?.kill('SIGKILL');
    }
  }

  #failOn(): void {
    if (this.#violation !== undefined) {
      throw new Violation(this.#violation);
    }
  }

  #note(text: string): void {
    const line = `${this.#step} ${(this.#clock.monotonic() / 1_000 - 1_000).toFixed(3)} ${text}`;
    this.#trace.push(line);
    if (this.#trace.length > 8 * TRACE_LINES) {
      this.#trace.splice(0, 4 * TRACE_LINES);
    }
    this.#pendingHash += line;
    if (this.#pendingHash.length > 16_384) {
      this.#hash.update(this.#pendingHash);
      this.#pendingHash = '';
    }
  }
}

/** The records that an agent finds at its start, without processes that they tell of no more. */
function readRecords(): readonly Pick<WorkerRecord, 'desired' | 'container' | 'served'>[] {
  return [...memoryFiles.files]
    .filter(([path]) => path.startsWith(join(STATE_DIR, 'workers')) && path.endsWith('.json'))
    .map(([, text]) => {
      const { served, ...record } = JSON.parse(text) as WorkerRecord;
      const outdated = memoryFiles.files.get(join(RUN_DIR, 'outdated', record.desired.identity.uid))?.split('\n') ?? [];
      return served === undefined || outdated.includes(record.container?.id ?? '') ? record : { ...record, served };
    });
}

/** Containers of which marks tell that a call is in them. */
function readMarked(): readonly string[] {
  return [...memoryFiles.files]
    .filter(([path]) => path.endsWith('.mark'))
    .flatMap(([, text]) => (text.split('\n\n', 1)[0] ?? '').split('\n'))
    .flatMap((line) => (line.startsWith('1 ') ? (line.split(' ')[1] ?? []) : []));
}

function idlePolicy(random: Random): Partial<DesiredWorker> {
  return {
    pauseAfterSeconds: random.chance(0.3) ? undefined : random.pick([1, 2, 5]),
    removeAfterSeconds: random.chance(0.8) ? undefined : random.pick([4, 60]),
  } as Partial<DesiredWorker>;
}

/** Where a worker is to be once nothing has happened to it for long. */
function restOf(desired: DesiredWorker): 'Running' | 'Paused' | 'Absent' {
  if (mayRestAbsent(desired)) {
    return 'Absent';
  }
  return desired.restingState === 'Running' && desired.pauseAfterSeconds === undefined ? 'Running' : 'Paused';
}
