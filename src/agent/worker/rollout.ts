import { takenMiB } from '../../api/worker-resources.ts';
import { unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { WorkerInfo } from '../../runtime/contract/runtime.ts';
import type { FoundMark, MarkedCall } from '../invoke/in-flight-marker.ts';
import { leftCall } from '../invoke/left-call.ts';
import type { SharedMarker } from '../invoke/shared-marker.ts';
import { inOrderOfService, wasReady } from '../model/adoption.ts';
import { containerIdOf } from '../model/container-id.ts';
import type { ContainerMake } from '../model/container-spec.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import type { Goal } from '../model/goal.ts';
import {
  isAlive,
  type Manner,
  type ObservedContainer,
  type Plan,
  plan,
  type Rearrangement,
} from '../model/plan.ts';
import type { Replacement } from '../model/status-input.ts';
import type { StoredMake, WorkerRecord } from '../model/worker-record.ts';
import { ActionRunner, type ActionRunnerHost } from './action-runner.ts';
import { WorkerContainer } from './container.ts';
import { callBoundMs } from './container-call.ts';
import type { WorkerContext } from './context.ts';

/** The longest that a resource may ask for. */
const longestTimeoutSeconds = 900;

/** What the containers ask of their worker, and tell it. */
export interface RolloutHost {
  /** What each lane asks and tells. */
  readonly lane: ActionRunnerHost;
  desired(): DesiredWorker;
  /** Whether a call in the present container is to be waited for. */
  busy(): boolean;
  /** Whether calls that an earlier run of the agent has left are to be waited for. */
  patient(): boolean;
  /** Whether calls wait. */
  waiting(): boolean;
  /** Another container takes calls from here on. */
  exchanged(lane: ActionRunner): void;
  /** Something is to be decided anew. */
  kick(): void;
}

/**
 * The containers of one worker: the present one, which calls go to, and, while it is replaced, a successor or what was
 * replaced.
 */
export class Rollout {
  readonly #context: WorkerContext;
  readonly #logger: Logger;
  readonly #mark: SharedMarker;
  readonly #host: RolloutHost;
  #present: ActionRunner;
  #others: ActionRunner[] = [];
  #noRoomBeside: string | undefined;

  /** @param present the container that served when a record was written; default one as the resource wants it */
  constructor(
    context: WorkerContext,
    logger: Logger,
    mark: SharedMarker,
    host: RolloutHost,
    present: StoredMake | undefined,
  ) {
    this.#context = context;
    this.#logger = logger;
    this.#mark = mark;
    this.#host = host;
    this.#present = this.#createLane(present === undefined ? this.#make() : this.#makeOfRecord(present));
  }

  /** The lane of the container that calls go to. */
  get present(): ActionRunner {
    return this.#present;
  }

  get others(): readonly ActionRunner[] {
    return this.#others;
  }

  get all(): readonly ActionRunner[] {
    return [this.#present, ...this.#others];
  }

  /** Why the node has no room for another container beside the present one, when it has none. */
  get noRoomBeside(): string | undefined {
    return this.#noRoomBeside;
  }

  /** Whether the present container is of another shape than is wanted. */
  get isOutdated(): boolean {
    return this.#present.container.shapeHash !== this.#host.desired().shapeHash;
  }

  /** Whether there is more than one, or may have to be. */
  get mayBeSeveral(): boolean {
    return this.#others.length > 0 || this.isOutdated;
  }

  serves(lane: ActionRunner): boolean {
    return lane === this.#present;
  }

  find(containerId: string): ActionRunner | undefined {
    return this.all.find(({ container }) => container.id === containerId);
  }

  /** How the replacement of the present container goes; undefined when there is none, or it does not serve. */
  replacement(goal: Goal): Replacement | undefined {
    const { container } = this.#present;
    const { kind } = container.state;
    const alive = kind === 'Running' || kind === 'Paused';
    if (!isAlive(goal) || !alive || container.shapeHash === goal.shapeHash) {
      return undefined;
    }
    const successor = this.#successor(goal.shapeHash);
    return {
      step: successor?.step,
      detail: successor?.detail,
      failure: successor?.setbacks.failure,
      nodeFull: this.#noRoomBeside,
    };
  }

  /** Brings the lanes up to date with the plan, and returns what is left of it to be done. */
  rearrange(goal: Goal): Extract<Plan, { readonly kind: 'Act' }> {
    for (;;) {
      const next = plan(goal, {
        present: this.#observed(this.#present),
        others: this.#others.map((lane) => this.#observed(lane)),
        busy: this.#host.busy(),
        manner: this.#manner(goal),
      });
      if (next.kind === 'Act') {
        return next;
      }
      this.#apply(next.rearrangement);
    }
  }

  #observed({ container }: ActionRunner): ObservedContainer {
    const { occupied, shapeHash, state } = container;
    return { shapeHash, state, occupied: occupied && this.#host.patient() };
  }

  /** Nothing exists, and nothing is wanted: from here on it goes by the present shape. */
  renew(): void {
    this.#exchange(this.#createLane(this.#make()));
  }

  /** Takes over what an earlier run of the agent has left. */
  adopt(
    record: WorkerRecord | undefined,
    mark: FoundMark | undefined,
    infos: readonly WorkerInfo[],
  ): WorkerInfo | undefined {
    const own = infos.filter(({ containerId }) =>
      this.#context.claim(containerId, this.#host.desired().identity.uid),
    );
    const [first, ...others] = inOrderOfService(own, {
      serving: record?.container?.id,
      shapeHash: this.#host.desired().shapeHash,
    });
    const presentId = this.#present.container.id;
    if (first !== undefined && first.containerId !== presentId) {
      this.#context.unclaim(presentId, this.#host.desired().identity.uid);
      this.#present = this.#createLane(this.#makeOf(first, record));
    }
    if (record !== undefined) {
      this.restore(record);
    }
    this.#present.container.ready =
      first !== undefined && wasReady(first, record, this.#host.desired().shapeHash);
    if (first !== undefined) {
      this.#occupy(this.#present, record, mark);
    }
    this.adoptBeside(record, mark, others);
    return first;
  }

  /** The same of containers beside the present one. Those that are known are let be. */
  adoptBeside(
    record: WorkerRecord | undefined,
    mark: FoundMark | undefined,
    infos: readonly WorkerInfo[],
  ): void {
    for (const info of infos) {
      if (
        this.find(info.containerId) !== undefined ||
        !this.#context.claim(info.containerId, this.#host.desired().identity.uid)
      ) {
        continue;
      }
      const lane = this.#createLane(this.#makeOf(info, record));
      this.#others.push(lane);
      if (info.task.kind === 'Running' && this.#host.desired().warmUpPayload !== undefined) {
        lane.container.unusable = 'a call to warm it up may be in it since the agent ended';
      }
      this.#occupy(lane, record, mark);
      this.#takeOver(info);
    }
  }

  /** A call that an earlier run of the agent has left goes on in its container. */
  #occupy(lane: ActionRunner, record: WorkerRecord | undefined, mark: FoundMark | undefined): void {
    const { container } = lane;
    const found = callLeftIn(container.id, mark);
    if (found !== undefined) {
      const { id, shapeHash, timeoutSeconds } = container.make;
      const isTold = id === record?.container?.id || shapeHash === this.#host.desired().shapeHash;
      // Another shape may have had a longer timeout than the resource asks for now.
      const boundMs = callBoundMs(isTold ? timeoutSeconds : longestTimeoutSeconds);
      lane.occupy(leftCall(found, this.#context.clock.now(), boundMs));
    }
  }

  /** What the record says of the container that served. */
  restore(record: WorkerRecord): void {
    const { container, setbacks } = this.#present;
    setbacks.restore(record.crashes);
    if (record.container === undefined || record.container.id === container.id) {
      container.startedAt = record.startedAt;
      container.pausedAt = record.pausedAt;
      container.warm = record.warmContainer === container.id;
    }
  }

  /** Goes on without a container that cannot be removed, and that is nobody's from here on. */
  setAside(lane: ActionRunner): void {
    lane.end();
    lane.container.mark.remove(lane.container.id);
    lane.container.disconnect();
    if (lane === this.#present) {
      this.#present = this.#createLane(this.#make());
      this.#host.exchanged(this.#present);
    } else {
      this.#others = this.#others.filter((other) => other !== lane);
    }
  }

  /** Gives back what those hold that do not exist. */
  freeOthers(): void {
    for (const { acting, container } of this.#others) {
      if (acting === undefined && container.known && container.info === undefined) {
        this.#context.capacity.free(container.id);
      }
    }
  }

  /** Nothing is left of the worker. */
  clear(): void {
    for (const lane of this.all) {
      this.#drop(lane);
    }
    this.#others = [];
    this.#context.replacements.give(this.#host.desired().identity.uid);
  }

  /** Ends what is being done, and waits for the end of it. */
  async stop(): Promise<void> {
    const lanes = this.all;
    for (const lane of lanes) {
      lane.abort();
      if (lane.acting?.kind === 'WarmUp') {
        // It may take as long as any call, and goes on in the worker.
        lane.container.abortCall('the agent is stopping');
      }
    }
    await Promise.all(lanes.map((lane) => lane.ended()));
    for (const { container } of lanes) {
      container.disconnect();
    }
    this.#context.replacements.give(this.#host.desired().identity.uid);
  }

  noRoom(): string {
    const { allocated, limits } = this.#context.capacity;
    const { ephemeralStorageMiB, memoryMiB } = this.#host.desired();
    return `no room for ${memoryMiB} MiB of memory and ${ephemeralStorageMiB} MiB of /tmp: ${allocated.memoryMiB} of ${limits.memoryMiB} MiB and ${allocated.workers} of ${limits.workers} workers are taken`;
  }

  /** How the present container is to be replaced, where it is of an earlier shape. */
  #manner(goal: Goal): Manner {
    const { capacity, replacements } = this.#context;
    const { identity, networkMode } = this.#host.desired();
    const wantedMiB = takenMiB(this.#host.desired());
    this.#noRoomBeside = undefined;
    const { container } = this.#present;
    if (!isAlive(goal) || container.shapeHash === goal.shapeHash) {
      if (this.#others.length === 0) {
        replacements.give(identity.uid);
      }
      if (!container.occupied || !this.#host.waiting() || networkMode === 'Host') {
        return 'Later';
      }
      if (capacity.fits(this.#make().id, wantedMiB)) {
        return 'Beside';
      }
      this.#noRoomBeside = this.noRoom();
      return 'Later';
    }
    const successor = this.#successor(goal.shapeHash);
    const state = successor?.container.state.kind;
    if (state !== undefined && (state !== 'Missing' || successor?.acting !== undefined)) {
      return 'Beside';
    }
    if (successor !== undefined && successor.setbacks.remainingMs > 0) {
      // Others may try meanwhile.
      replacements.give(identity.uid);
      return 'Later';
    }
    const replaced = { namespace: identity.namespace, resting: goal.kind === 'Paused' };
    if (!replacements.take(identity.uid, replaced, () => this.#host.kick())) {
      return 'Later';
    }
    if (networkMode !== 'Host' && capacity.fits(successor?.container.id ?? this.#make().id, wantedMiB)) {
      return 'Beside';
    }
    if (this.#others.some((other) => other !== successor)) {
      // What they hold is about to be given back.
      return 'Later';
    }
    if (capacity.fits(container.id, wantedMiB)) {
      return 'InPlace';
    }
    replacements.give(identity.uid);
    this.#noRoomBeside = this.noRoom();
    return 'Later';
  }

  #successor(shapeHash: string): ActionRunner | undefined {
    return this.#others.find(({ container }) => container.shapeHash === shapeHash && !container.occupied);
  }

  #apply(rearrangement: Rearrangement): void {
    switch (rearrangement.kind) {
      case 'Begin':
        this.#others.push(this.#createLane(this.#make()));
        return;
      case 'Renew':
        this.renew();
        return;
      case 'Exchange': {
        const [lane] = this.#others.splice(rearrangement.index, 1);
        if (lane !== undefined) {
          this.#exchange(lane);
        }
        return;
      }
      case 'Drop': {
        const [lane] = this.#others.splice(rearrangement.index, 1);
        if (lane !== undefined) {
          this.#drop(lane);
        }
        return;
      }
      default:
        unreachable(rearrangement);
    }
  }

  /** From here on calls go to the container of that lane. */
  #exchange(lane: ActionRunner): void {
    const { container } = lane;
    this.#logger.info(
      { from: this.#present.container.id, to: container.id },
      'a container takes the place of another',
    );
    this.#others.push(this.#present);
    this.#present = lane;
    if (container.call !== undefined) {
      this.#mark.begin(container.id, container.call);
    }
    this.#host.exchanged(lane);
    // Between two calls nobody else would see to what was replaced.
    queueMicrotask(() => this.#host.kick());
  }

  #drop(lane: ActionRunner): void {
    const { container } = lane;
    lane.end();
    container.disconnect();
    this.#context.capacity.free(container.id);
    this.#context.unclaim(container.id, this.#host.desired().identity.uid);
  }

  #takeOver(info: WorkerInfo): void {
    // How one ended is read by a look of its own.
    if (info.task.kind !== 'Stopped') {
      this.find(info.containerId)?.observe(info);
    }
  }

  /** A container as the resource wants it now, that is none of those there are. */
  #make(): ContainerMake {
    const { ephemeralStorageMiB, identity, memoryMiB, shapeHash, timeoutSeconds } = this.#host.desired();
    const taken = new Set(this.#present === undefined ? [] : this.all.map(({ container }) => container.id));
    let generation = 0;
    let id = containerIdOf(identity, shapeHash, generation);
    while (taken.has(id)) {
      generation += 1;
      id = containerIdOf(identity, shapeHash, generation);
    }
    return { id, shapeHash, memoryMiB, ephemeralStorageMiB, timeoutSeconds };
  }

  /** A container as a record has it. */
  #makeOfRecord(container: StoredMake): ContainerMake {
    return { ephemeralStorageMiB: this.#host.desired().ephemeralStorageMiB, ...container };
  }

  /** A container as it was found. */
  #makeOf(info: WorkerInfo, record: WorkerRecord | undefined): ContainerMake {
    const { containerId: id, shapeHash } = info;
    if (record?.container?.id === id) {
      return this.#makeOfRecord(record.container);
    }
    const { ephemeralStorageMiB, memoryMiB, timeoutSeconds } = this.#host.desired();
    return { id, shapeHash, memoryMiB, ephemeralStorageMiB, timeoutSeconds };
  }

  #createLane(wanted: ContainerMake): ActionRunner {
    const { identity } = this.#host.desired();
    let make = wanted;
    for (let generation = 1; !this.#context.claim(make.id, identity.uid); generation += 1) {
      make = { ...make, id: containerIdOf(identity, make.shapeHash, generation) };
    }
    const container = new WorkerContainer(make, this.#mark, this.#context);
    const logger = this.#logger.child({ container: make.id });
    return new ActionRunner(container, this.#context, this.#host.lane, logger);
  }
}

/** The call that may be in that container, as a mark tells of it; undefined for none. */
function callLeftIn(containerId: string, mark: FoundMark | undefined): Partial<MarkedCall> | undefined {
  // A mark that was being written names no container.
  return mark?.busy === true && (mark.containerId === containerId || mark.containerId === '')
    ? mark.call
    : mark?.left.find((each) => each.containerId === containerId)?.call;
}
