import { takenMiB } from '../../api/worker-resources.ts';
import type { Clock } from '../../common/clock.ts';
import { EsbError, unreachable } from '../../common/errors.ts';
import type { KernelState, RuntimeEvent, WorkerInfo } from '../../runtime/contract/runtime.ts';
import type { WorkerLink } from '../invoke/emulator-client.ts';
import type { MarkedCall } from '../invoke/in-flight-marker.ts';
import type { LeftCall } from '../invoke/left-call.ts';
import type { SharedMarker } from '../invoke/shared-marker.ts';
import type { ContainerMake } from '../model/container-spec.ts';
import type { Observed } from '../model/plan.ts';
import type { WorkerContext } from './context.ts';

/** Milliseconds for which a container that nothing is known of is shown as it was before. */
const unknownShownMs = 5_000;
const givenUp = 'its shim does not answer';

/** What is known of one container of a worker, and the way to it. */
export class WorkerContainer {
  readonly make: ContainerMake;
  readonly mark: SharedMarker;
  readonly #clock: Clock;
  readonly #connectTo: WorkerContext['connect'];
  /** What the runtime said last; undefined for no container. Means nothing unless `known`. */
  info: WorkerInfo | undefined;
  /** Whether its shim did not answer when it was last looked at. */
  unanswering = false;
  /** Whether that is shown to be its own fault: it is given up. */
  lost = false;
  /** Whether a log of a container that is no more may be left: its owner may want to read it until all of it goes. */
  traces = true;
  /** Why it must not get another call; undefined when it may. */
  unusable: string | undefined;
  /** Whether its port was seen open. */
  ready = false;
  /** Whether its function has been loaded and called since it was started. */
  warm = false;
  /** Whether the function is loaded: the next call need not wait for that. */
  loaded = false;
  /** The call that is in it, sent by this run of the agent. */
  call: MarkedCall | undefined;
  /** The call that an earlier run of the agent has left in it. */
  leftCall: LeftCall | undefined;
  /** Whether its last call was over before the function was loaded. */
  loadTimedOut = false;
  /** Whether its end has been counted. */
  exitCounted = false;
  /** Monotonic milliseconds. */
  startedMonotonic: number;
  startedAt: string | undefined;
  pausedAt: string | undefined;
  #connection: WorkerLink | undefined;
  #unknownSince: number | undefined;

  constructor(make: ContainerMake, mark: SharedMarker, context: Pick<WorkerContext, 'clock' | 'connect'>) {
    this.make = make;
    this.mark = mark;
    this.#clock = context.clock;
    this.#connectTo = context.connect;
    this.startedMonotonic = context.clock.monotonic();
    this.#unknownSince = this.startedMonotonic;
  }

  get known(): boolean {
    return this.#unknownSince === undefined;
  }

  set known(known: boolean) {
    this.#unknownSince = known ? undefined : (this.#unknownSince ?? this.#clock.monotonic());
  }

  /** When it is to be shown that nothing is known of it, in monotonic milliseconds. */
  get shownUnknownAt(): number {
    return (this.#unknownSince ?? Number.POSITIVE_INFINITY) + unknownShownMs;
  }

  /** Whether nothing has been known of it for too long to show it as it was before. */
  get isShownUnknown(): boolean {
    return this.#clock.monotonic() >= this.shownUnknownAt;
  }

  get id(): string {
    return this.make.id;
  }

  get shapeHash(): string {
    return this.make.shapeHash;
  }

  /** What it takes of the node while it exists, MiB. */
  get takenMiB(): number {
    return takenMiB(this.make);
  }

  get state(): Observed {
    if (!this.known) {
      const doubt = this.lost ? 'Lost' : 'Unanswering';
      return { kind: 'Unknown', ...(this.unanswering ? { doubt } : {}) };
    }
    const { info } = this;
    if (info === undefined) {
      return { kind: 'Missing', traces: this.traces };
    }
    const { task } = info;
    switch (task.kind) {
      case 'Missing':
      case 'Created':
        return { kind: 'Created' };
      case 'Stopped':
        return { kind: 'Stopped' };
      case 'Unanswering':
        return { kind: 'Unknown' };
      case 'Running':
      case 'Paused':
        return {
          kind: task.kind,
          usable: this.unusable === undefined && info.address !== undefined,
          ready: this.ready,
          warm: this.warm,
        };
      default:
        return unreachable(task);
    }
  }

  /** Whether it is known to have ended. */
  get hasEnded(): boolean {
    return this.known && (this.info === undefined || this.info.task.kind === 'Stopped');
  }

  /** Whether a call that an earlier run of the agent has left may still run in it. */
  get occupied(): boolean {
    return this.leftCall !== undefined && !this.hasEnded;
  }

  /** Whether an event says what is known already. */
  expects(event: RuntimeEvent['kind']): boolean {
    const { kind } = this.state;
    switch (event) {
      case 'Paused':
        return kind === 'Paused';
      case 'Resumed':
      case 'Created':
        return kind === 'Running';
      case 'Deleted':
        return kind === 'Missing';
      case 'Exited':
      case 'OutOfMemory':
        return kind === 'Missing' || kind === 'Stopped';
      case 'LimitReached':
      case 'Disconnected':
      case 'Reconnected':
        return false;
      default:
        return unreachable(event);
    }
  }

  /** The runtime says that this is how it is. */
  observe(info: WorkerInfo | undefined): void {
    if (info?.task.kind === 'Unanswering') {
      if (!this.goByKernel(info.task.kernel, info) && info.task.kernel !== 'Untold') {
        this.known = false;
      }
      return;
    }
    this.answered();
    this.known = true;
    this.info = info;
  }

  /** Its shim does not answer. */
  giveUp(): void {
    this.lost = true;
    this.known = false;
    this.unusable ??= givenUp;
  }

  /** Its shim answers, maybe again. */
  answered(): void {
    this.unanswering = false;
    this.lost = false;
    if (this.unusable === givenUp) {
      this.unusable = undefined;
    }
  }

  /**
   * The runtime does not tell of it, and the kernel does: what it is called by goes on.
   *
   * @param found what is known of it beside its task
   * @returns whether the kernel says enough
   */
  goByKernel(kernel: KernelState, found = this.info): boolean {
    // One that is given up takes no calls, whatever runs in it.
    if (this.lost || found === undefined || (kernel !== 'Running' && kernel !== 'Paused')) {
      return false;
    }
    this.info = { ...found, task: { kind: kernel, pid: this.#pid } };
    this.known = true;
    return true;
  }

  setTask(kind: 'Running' | 'Paused'): void {
    const { info } = this;
    if (info !== undefined && (info.task.kind === 'Running' || info.task.kind === 'Paused')) {
      this.info = { ...info, task: { kind, pid: info.task.pid } };
    }
  }

  /** It has just been started. */
  started(): void {
    this.#forget();
    this.ready = true;
    this.startedMonotonic = this.#clock.monotonic();
    this.startedAt = new Date(this.#clock.now()).toISOString();
  }

  /** It has just been removed. What was removed is proven to be gone by looking. */
  removed(): void {
    this.#forget();
    this.traces = false;
    this.startedAt = undefined;
    this.known = false;
  }

  /** The way to it, kept from call to call. */
  connect(): WorkerLink {
    const address = this.info?.address;
    if (address === undefined) {
      throw new EsbError('the address of the worker is not known', { code: 'Internal' });
    }
    if (
      this.#connection === undefined ||
      this.#connection.address.ip !== address.ip ||
      this.#connection.address.port !== address.port
    ) {
      this.#connection?.close();
      this.#connection = this.#connectTo(address, this.#pid);
    }
    return this.#connection;
  }

  /** Ends the call in it, if there is one. */
  abortCall(message: string): void {
    this.#connection?.abort(message);
  }

  disconnect(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  /** Its first process; 0 where the runtime has not told. */
  get #pid(): number {
    const task = this.info?.task;
    return task?.kind === 'Running' || task?.kind === 'Paused' ? task.pid : 0;
  }

  #forget(): void {
    this.mark.remove(this.id);
    this.disconnect();
    this.unusable = undefined;
    this.ready = false;
    this.warm = false;
    this.loaded = false;
    this.loadTimedOut = false;
    this.exitCounted = false;
    this.unanswering = false;
    this.lost = false;
    this.pausedAt = undefined;
    this.leftCall = undefined;
  }
}
