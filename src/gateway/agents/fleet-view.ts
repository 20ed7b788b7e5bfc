import { type FunctionSettings, speakerOf } from '../../api/function-settings.ts';
import { calledNameOf, type LambdaFunction, withSettings } from '../../api/lambda-function.ts';
import { functionNameOf, type LambdaWorker, perWorkerOf } from '../../api/lambda-worker.ts';
import type { WorkerRef, WorkerState } from '../../protocol/generated/agent.ts';
import {
  foreignOf,
  foreignPlacesOf,
  type Holding,
  isReached,
  isSharer,
  type RoutableWorker,
  readyPlacesOf,
} from './routing.ts';

/**
 * Reported workers of one node that are kept without a resource: an agent may see a worker before the gateway does.
 * More than a node has workers.
 */
const MAX_UNKNOWN_WORKERS = 10_000;

/** One worker of a function, in which resource and agents are put together. */
export interface WorkerEntry extends RoutableWorker {
  /** How it is named to agents. */
  readonly reference: WorkerRef;
  readonly functionName: string;
  readonly resource: LambdaWorker;
  /** Highest epoch seen in the resource; 0 for none. */
  readonly highestEpoch: number;
  /** The node that had it last, and how often that was another one than before. */
  readonly lastNode: string | undefined;
  readonly moves: number;
  /** Calls of this gateway that are under way to it, on that node. */
  outstanding: number;
  lastTurn: number;
}

/** Places for calls that some workers have together. */
export interface Places {
  /** Calls that they take at once, by their resources. */
  readonly places: number;
  /** Places of the workers that a call reaches now. */
  readonly readyPlaces: number;
  /** The sum of their shares of the reserved concurrency; undefined where the controller gives none. */
  readonly shares: number | undefined;
  /** Workers that are assigned and have a share. */
  readonly sharers: number;
  /** Ready places that calls of others have, by the agents. */
  readonly foreignPlaces: number;
  /** Whether calls of others are with these workers, or wait there. */
  readonly isShared: boolean;
}

export interface FunctionEntry {
  readonly name: string;
  /** Workers of all versions of the function. */
  readonly workers: readonly WorkerEntry[];
  /** Workers that are gone, for as long as calls of this gateway end there. */
  readonly leaving: ReadonlySet<WorkerEntry>;
  /** The workers of each version; undefined stands for $LATEST. */
  readonly byVersion: ReadonlyMap<number | undefined, readonly WorkerEntry[]>;
  /** Their places. A version without workers is not in it. */
  readonly placesByVersion: ReadonlyMap<number | undefined, Places>;
  /** Calls that the workers of all versions take at once, by their resources. */
  readonly places: number;
  /** The sum of all shares; undefined where the controller gives none. */
  readonly shares: number | undefined;
  /** The worker that speaks for it: where there is none, one as its LambdaFunction has it made. */
  readonly speaker: Pick<WorkerEntry, 'resource'>;
  /** The settings for all of its calls. */
  readonly settings: FunctionSettings;
  /** Goes up by one with each call, so that equal workers take turns. */
  rotation: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface MutableFunction extends FunctionEntry {
  workers: Mutable<WorkerEntry>[];
  readonly leaving: Set<WorkerEntry>;
  byVersion: ReadonlyMap<number | undefined, readonly WorkerEntry[]>;
  placesByVersion: ReadonlyMap<number | undefined, Places>;
  places: number;
  shares: number | undefined;
  speaker: Pick<WorkerEntry, 'resource'>;
  settings: FunctionSettings;
}

/**
 * The state of a namespace as the gateway knows it: the resources as last watched, and the report of each connected
 * agent. Changed in place, because every call reads it.
 */
export class FleetView {
  readonly #namespace: string;
  readonly #workers = new Map<string, Mutable<WorkerEntry>>();
  readonly #functions = new Map<string, MutableFunction>();
  /** A worker as each LambdaFunction has it made, by the name that callers write. */
  readonly #templates = new Map<string, Pick<WorkerEntry, 'resource'>>();
  /** The report of each node's agent, by uid, including workers without a known resource. */
  readonly #claims = new Map<string, Map<string, Holding>>();
  readonly #connected = new Set<string>();
  /** Listeners for the next change, by function. */
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  /** The function of this name; undefined where it has neither a LambdaFunction nor a worker. */
  function(name: string): FunctionEntry | undefined {
    return this.#functions.get(name);
  }

  /** The worker of this uid, unless it is gone or going. */
  worker(uid: string): WorkerEntry | undefined {
    return this.#workers.get(uid);
  }

  /** Names of all functions, in no order. */
  functionNames(): Iterable<string> {
    return this.#functions.keys();
  }

  get functionCount(): number {
    return this.#functions.size;
  }

  get workerCount(): number {
    return this.#workers.size;
  }

  /** Nodes whose agent is connected. */
  get connected(): ReadonlySet<string> {
    return this.#connected;
  }

  /** Calls `listener` once, at the next change of a function. The returned function cancels that. */
  onNextChange(functionName: string, listener: () => void): () => void {
    const listeners = this.#waiting.get(functionName) ?? new Set();
    this.#waiting.set(functionName, listeners);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#waiting.get(functionName) === listeners) {
        this.#waiting.delete(functionName);
      }
    };
  }

  /**
   * A fact about a function beside its workers has changed.
   *
   * @param owner its LambdaFunction, for which it exists without workers too; undefined for none
   */
  noteChange(functionName: string, owner: LambdaFunction | undefined): void {
    const known = this.#functions.get(functionName);
    if (owner === undefined) {
      this.#templates.delete(functionName);
    } else {
      this.#templates.set(functionName, templateOf(owner));
    }
    const template = this.#templates.get(functionName);
    if (known === undefined && template !== undefined) {
      update(this.#entryOf(functionName, template), template);
    } else if (known !== undefined && known.workers.length === 0) {
      this.#leave(known);
    }
    this.#changed(functionName);
  }

  /** A resource as it is now. One that is being deleted takes no calls any more. */
  applyResource(worker: LambdaWorker): void {
    const { uid, name, namespace, deletionTimestamp } = worker.metadata;
    if (uid === undefined) {
      return;
    }
    if (deletionTimestamp !== undefined) {
      this.removeResource(uid);
      return;
    }
    const assignment = worker.status?.assignment;
    const known = this.#workers.get(uid);
    const entry: Mutable<WorkerEntry> = known ?? {
      uid,
      name,
      reference: { namespace: namespace ?? this.#namespace, name, uid },
      functionName: functionNameOf(worker),
      resource: worker,
      assignment: undefined,
      highestEpoch: 0,
      lastNode: undefined,
      moves: 0,
      holding: undefined,
      outstanding: 0,
      lastTurn: 0,
    };
    entry.resource = worker;
    // A list from an API server that lags may have a former assignment.
    if (assignment === undefined || assignment.epoch >= entry.highestEpoch) {
      if (assignment !== undefined && assignment.nodeName !== entry.lastNode) {
        // Calls that were sent to another node take no place here.
        entry.lastNode = assignment.nodeName;
        entry.moves += 1;
        entry.outstanding = 0;
      }
      entry.assignment = assignment;
      entry.highestEpoch = assignment?.epoch ?? entry.highestEpoch;
      entry.holding = this.#claimOf(entry);
    }
    const owner = this.#entryOf(entry.functionName, entry);
    if (known === undefined) {
      this.#workers.set(uid, entry);
      owner.workers.push(entry);
    }
    update(owner);
    this.#changed(entry.functionName);
  }

  /** The resource is gone or going. */
  removeResource(uid: string): void {
    const entry = this.#workers.get(uid);
    if (entry === undefined) {
      return;
    }
    this.#workers.delete(uid);
    const owner = this.#functions.get(entry.functionName);
    if (owner !== undefined) {
      owner.workers = owner.workers.filter((worker) => worker !== entry);
      owner.leaving.add(entry);
      this.#leave(owner);
    }
    this.#changed(entry.functionName);
  }

  /** Everything that the agent of a node says it holds; it counts as connected from now on. */
  replaceHoldings(nodeName: string, workers: readonly WorkerState[]): void {
    this.#dropNode(nodeName);
    this.#connected.add(nodeName);
    for (const worker of workers) {
      this.#setHolding(nodeName, worker);
    }
    this.#allChanged();
  }

  changeHolding(nodeName: string, worker: WorkerState): void {
    this.#setHolding(nodeName, worker);
    this.#changed(this.#workers.get(worker.worker?.uid ?? '')?.functionName);
  }

  removeHolding(nodeName: string, uid: string): void {
    this.#claims.get(nodeName)?.delete(uid);
    this.#heed(uid);
    this.#changed(this.#workers.get(uid)?.functionName);
  }

  /** The agent of a node is not connected any more: nothing that it said holds. */
  dropNode(nodeName: string): void {
    this.#dropNode(nodeName);
    this.#connected.delete(nodeName);
    this.#allChanged();
  }

  /** Brings a function up to date that may have lost what it exists by. */
  #leave(owner: MutableFunction): void {
    const template = this.#templates.get(owner.name);
    if (owner.workers.length === 0 && template === undefined) {
      this.#functions.delete(owner.name);
    }
    update(owner, template);
  }

  #entryOf(name: string, speaker: Pick<WorkerEntry, 'resource'>): MutableFunction {
    const found = this.#functions.get(name);
    if (found !== undefined) {
      return found;
    }
    const made: MutableFunction = {
      name,
      workers: [],
      leaving: new Set(),
      byVersion: new Map(),
      placesByVersion: new Map(),
      places: 0,
      shares: undefined,
      speaker,
      settings: speaker.resource.spec,
      rotation: 0,
    };
    this.#functions.set(name, made);
    return made;
  }

  #setHolding(nodeName: string, state: WorkerState): void {
    const { worker } = state;
    if (worker === null || worker.namespace !== this.#namespace) {
      return;
    }
    const { uid } = worker;
    const entry = this.#workers.get(uid);
    const claims = this.#claims.get(nodeName) ?? new Map<string, Holding>();
    this.#claims.set(nodeName, claims);
    if (entry === undefined && claims.size >= this.#workers.size + MAX_UNKNOWN_WORKERS && !claims.has(uid)) {
      return;
    }
    claims.set(uid, {
      epoch: state.epoch,
      phase: state.phase,
      foreignInFlight: state.others,
      foreignPlaces: state.othersPlaced,
      callable: state.callable,
      places: state.places,
    });
    this.#heed(uid);
  }

  #dropNode(nodeName: string): void {
    const claims = this.#claims.get(nodeName);
    this.#claims.delete(nodeName);
    for (const uid of claims?.keys() ?? []) {
      this.#heed(uid);
    }
  }

  /** Takes over the report of the assigned node's agent for a worker. */
  #heed(uid: string): void {
    const entry = this.#workers.get(uid);
    if (entry !== undefined) {
      entry.holding = this.#claimOf(entry);
    }
  }

  #claimOf({ assignment, uid }: WorkerEntry): Holding | undefined {
    return assignment === undefined ? undefined : this.#claims.get(assignment.nodeName)?.get(uid);
  }

  #allChanged(): void {
    for (const functionName of [...this.#waiting.keys()]) {
      this.#changed(functionName);
    }
  }

  #changed(functionName: string | undefined): void {
    const listeners = functionName === undefined ? undefined : this.#waiting.get(functionName);
    if (listeners === undefined || functionName === undefined) {
      return;
    }
    this.#waiting.delete(functionName);
    for (const listener of listeners) {
      listener();
    }
  }
}

/** @param template the speaker of a function without workers; the last one goes on to speak when absent */
function update(owner: MutableFunction, template?: Pick<WorkerEntry, 'resource'>): void {
  for (const worker of owner.leaving) {
    if (worker.outstanding === 0) {
      owner.leaving.delete(worker);
    }
  }
  owner.byVersion = Map.groupBy(owner.workers, ({ resource }) => resource.spec.version);
  owner.placesByVersion = new Map([...owner.byVersion].map(([version, workers]) => [version, placesOf(workers)]));
  owner.places = owner.placesByVersion.values().reduce((sum, { places }) => sum + places, 0);
  owner.shares = sharesOf(owner.workers);
  owner.speaker = speakerOf(owner.workers) ?? template ?? owner.speaker;
  owner.settings = owner.speaker.resource.spec;
}

function templateOf(owner: LambdaFunction): Pick<WorkerEntry, 'resource'> {
  const { metadata, spec } = owner;
  const made = { ...withSettings(owner, spec.template.spec), functionName: calledNameOf(owner) };
  return { resource: { metadata, spec: made } as LambdaWorker };
}

function placesOf(workers: readonly WorkerEntry[]): Places {
  return {
    places: workers.reduce((sum, { resource }) => sum + perWorkerOf(resource), 0),
    get readyPlaces() {
      // Where none can be reached, calls have no place to leave to others: all of them wait for the agents.
      return workers.some(isReached) ? workers.reduce((sum, each) => sum + readyPlacesOf(each), 0) : 0;
    },
    shares: sharesOf(workers),
    sharers: workers.filter(({ assignment }) => isSharer(assignment)).length,
    get foreignPlaces() {
      return workers.reduce((sum, each) => sum + foreignPlacesOf(each), 0);
    },
    get isShared() {
      return workers.some((each) => foreignOf(each) > 0);
    },
  };
}

function sharesOf(workers: readonly WorkerEntry[]): number | undefined {
  return workers.reduce<number | undefined>(
    (sum, { assignment }) => (assignment?.share === undefined ? sum : (sum ?? 0) + assignment.share),
    undefined,
  );
}
