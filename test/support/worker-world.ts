import type { DesiredWorker } from '../../src/agent/model/desired-worker.ts';
import { type Action, isAlive } from '../../src/agent/model/plan.ts';
import type { Effect } from '../../src/agent/step/effects.ts';
import type { ActionOutcome, CallOutcome, WorkerEvent } from '../../src/agent/step/events.ts';
import { findContainer, goalAt, type WorkerState } from '../../src/agent/step/state.ts';
import { foreignCode } from '../../src/common/error-codes.ts';
import { EsbError } from '../../src/common/errors.ts';
import type { WorkerInfo } from '../../src/runtime/contract/runtime.ts';
import { infoOf, type WorkerSteps } from './worker-steps.ts';
import { type InitChange, WorldInits } from './world-inits.ts';

interface Sent {
  readonly id: number;
  readonly containerId: string;
  /** Monotonic milliseconds until which it may take. */
  readonly until: number;
  /** Whether the first byte is on its way; before that the call may still come back unsent. */
  begun: boolean;
}

type Of<K extends Effect['kind']> = Extract<Effect, { kind: K }>;

/**
 * World outside of one worker: its containers as they are, actions under way, and the callers. Does the effects of the
 * worker when a test says so, well or badly, and records every broken rule.
 */
export class WorkerWorld {
  readonly worker: WorkerSteps;
  readonly violations: string[] = [];
  /** Running processes. */
  readonly tasks = new Map<string, 'Running' | 'Paused' | 'Stopped'>();
  readonly shapes = new Map<string, string>();
  readonly inits: WorldInits;
  readonly running = new Map<string, Action>();
  readonly settling = new Set<string>();
  readonly looks: Of<'Look'>[] = [];
  readonly watches: Of<'Watch'>[] = [];
  /** Calls in containers, the oldest first. */
  sent: Sent[] = [];
  readonly results = new Map<number, string>();
  readonly accepted = new Set<number>();
  /** Calls of which a byte may have been sent. */
  readonly begun = new Set<number>();
  #calls = 0;

  /** @param foundCall a call of an agent before that the inits know */
  constructor(worker: WorkerSteps, tasks: readonly WorkerInfo[] = [], foundCall?: string) {
    this.worker = worker;
    this.inits = new WorldInits(this.#isLambda ? (worker.desired.perWorker ?? 1) : 1);
    for (const { containerId, runtimeInterface, shapeHash, task } of tasks) {
      if (runtimeInterface === 'Lambda') {
        this.inits.found(containerId, foundCall);
      }
      this.tasks.set(containerId, task.kind as 'Running');
      this.shapes.set(containerId, shapeHash);
    }
    for (const effect of worker.effects) {
      this.#take(effect);
    }
    worker.onEffect = (effect) => this.#take(effect);
  }

  get state(): WorkerState {
    return this.worker.state;
  }

  invoke(gone = false): number {
    this.#calls += 1;
    const id = this.#calls;
    const { now } = this.worker;
    this.accepted.add(id);
    const { epoch } = this.worker.desired;
    const call = { id, requestId: `call-${id}`, epoch, bytes: 2, arrivedAt: now };
    this.worker.step({ kind: 'Invoked', call, gone });
    return id;
  }

  /**
   * A call in the worker ends in that way.
   *
   * @param at which one; the oldest by default
   * @param own by the fault of the node, where it was not sent or is lost; else an extension goes on after it
   */
  endCall(kind: 'Answered' | 'Unknown' | 'TimedOut' | 'CutOff' | 'NotSent', own = false, at = 0): void {
    const [sent] = this.sent.splice(at % Math.max(1, this.sent.length), 1);
    if (sent === undefined) {
      return;
    }
    this.#tell(this.inits.called(sent.containerId, false));
    const { now } = this.worker;
    if (kind !== 'NotSent') {
      this.begun.add(sent.id);
    }
    const load = { load: 'Loaded', warmed: true, stamp: '' } as const;
    const outcome: CallOutcome =
      kind === 'NotSent'
        ? { kind, message: 'refused', own, gone: false }
        : kind === 'Unknown'
          ? { kind, message: 'reset', fault: own, ...load }
          : { kind, sentAt: now, answeredAt: now, ...load };
    this.worker.step({ kind: 'Returned', containerId: sent.containerId, id: sent.id, outcome });
    if (!own && !this.#isCalled(sent.containerId)) {
      this.#tell(this.inits.called(sent.containerId, true));
    }
  }

  /** The init of a container is in another state. */
  changeInit(at: number, change: InitChange): void {
    this.#tell(this.inits.change(at, change));
  }

  #tell(event: WorkerEvent | undefined): void {
    if (event !== undefined) {
      this.worker.step(event);
    }
  }

  /** The action on one container is over, as it should be or not. */
  endAction(at: number, fault: 'None' | 'NotBegun' | 'Failed' | 'FailedAfter' | 'Down' | 'Silent'): void {
    const [containerId, action] = [...this.running][at % Math.max(1, this.running.size)] ?? [];
    if (containerId === undefined || action === undefined) {
      return;
    }
    if (fault === 'NotBegun' && !['Pause', 'Ensure', 'Destroy'].includes(action.kind)) {
      return;
    }
    const fails = fault !== 'None' && fault !== 'FailedAfter';
    if (!fails) {
      this.#do(containerId, action);
    }
    this.running.delete(containerId);
    const outcome = fault === 'None' ? this.#outcome(containerId, action) : this.#failure(containerId, fault);
    this.worker.step({ kind: 'Acted', containerId, action, outcome });
  }

  endSettle(settled: boolean): void {
    const [containerId] = this.settling;
    if (containerId !== undefined) {
      this.settling.delete(containerId);
      const runs = this.tasks.get(containerId) === 'Running';
      this.worker.step({ kind: 'Settled', containerId, outcome: { settled: settled && runs, runs } });
    }
  }

  endLook(works: boolean): void {
    const look = this.looks.shift();
    if (look !== undefined) {
      const { containerId, purpose } = look;
      const turn = findContainer(this.state, containerId)?.turn ?? -1;
      const seen = works ? { info: this.info(containerId), lost: false, output: '' } : undefined;
      this.worker.step({ kind: 'Looked', containerId, turn, purpose, seen });
    }
  }

  endLeft(seen: boolean): void {
    const watch = this.watches.shift();
    if (watch !== undefined) {
      const { by, call, containerId } = watch;
      if (by === 'Init' && seen) {
        this.inits.found(containerId, undefined);
        this.#tell(this.inits.change(0, 'Connect'));
        this.#tell(this.inits.told(containerId));
        return;
      }
      this.worker.step({ kind: 'LeftCallEnded', containerId, call, seen });
    }
  }

  /** A process ends by itself; with it the call that is in it. */
  exit(at: number): void {
    const alive = [...this.tasks].filter(([, task]) => task !== 'Stopped');
    const [containerId] = alive[at % Math.max(1, alive.length)] ?? [];
    if (containerId !== undefined) {
      this.tasks.set(containerId, 'Stopped');
      this.#forgetLeft(containerId);
      this.#tell(this.#isLambda ? this.inits.end(containerId) : undefined);
      this.worker.step({ kind: 'Hinted', containerId, event: 'Exited' });
    }
  }

  apply(change: Partial<DesiredWorker>, generations: number): void {
    const { desired } = this.worker;
    this.worker.step({
      kind: 'Applied',
      desired: { ...desired, ...change, generation: desired.generation + generations },
      ownStamp: false,
    });
  }

  /** With every fault gone, brings all that is under way to its end until nothing more comes of it. */
  settle(): void {
    for (let turn = 0; turn < 400; turn += 1) {
      const isBusy = this.running.size > 0 || this.settling.size > 0 || this.looks.length > 0 || this.sent.length > 0;
      if (!isBusy && turn > 200) {
        return;
      }
      this.endAction(0, 'None');
      this.endSettle(true);
      this.endLook(true);
      this.endLeft(true);
      this.endCall('Answered');
      for (const event of this.sent.length === 0 ? this.inits.heal() : []) {
        this.#tell(event);
      }
      if (!isBusy) {
        this.worker.advance(5_000);
      }
    }
  }

  info(containerId: string): WorkerInfo | undefined {
    const task = this.tasks.get(containerId);
    const shapeHash = this.shapes.get(containerId) ?? this.worker.desired.shapeHash;
    return task === undefined
      ? undefined
      : infoOf(
          containerId,
          this.worker.desired,
          task === 'Stopped' ? { kind: task, exitCode: 1, oomKilled: false } : { kind: task, pid: 1 },
          shapeHash,
        );
  }

  #outcome(containerId: string, action: Action): ActionOutcome {
    const info = this.info(containerId);
    if (action.kind === 'Inspect') {
      return { kind: 'Inspected', seen: { info, lost: false, output: '' } };
    }
    if (action.kind === 'Ensure' && info !== undefined) {
      return { kind: 'Ensured', info, found: false };
    }
    if (action.kind === 'WarmUp') {
      const { now } = this.worker;
      const call = {
        kind: 'Answered',
        sentAt: now,
        answeredAt: now,
        load: 'Loaded',
        warmed: true,
        stamp: '',
      } as const;
      return { kind: 'WarmedUp', call };
    }
    return { kind: 'Done' };
  }

  #failure(containerId: string, fault: 'NotBegun' | 'Failed' | 'FailedAfter' | 'Down' | 'Silent'): ActionOutcome {
    if (fault === 'NotBegun') {
      return { kind: 'NotBegun' };
    }
    const codes = {
      Failed: foreignCode('SomeFault'),
      FailedAfter: 'DeadlineExceeded',
      Down: 'RuntimeUnavailable',
      Silent: 'TaskUnanswering',
    } as const;
    const task = this.tasks.get(containerId);
    return {
      kind: 'Failed',
      error: new EsbError('it failed', { code: codes[fault], retryable: true }),
      kernel: task === 'Running' || task === 'Paused' ? task : 'Gone',
      lost: false,
      shortage: false,
    };
  }

  #do(containerId: string, action: Action): void {
    switch (action.kind) {
      case 'Ensure':
        if (this.tasks.get(containerId) !== 'Running') {
          this.shapes.set(containerId, findContainer(this.state, containerId)?.make.shapeHash ?? '');
        }
        this.tasks.set(containerId, 'Running');
        this.#tell(this.#isLambda ? this.inits.begin(containerId) : undefined);
        return;
      case 'Pause':
      case 'Resume':
        if (this.tasks.get(containerId) !== 'Stopped') {
          this.tasks.set(containerId, action.kind === 'Pause' ? 'Paused' : 'Running');
        }
        return;
      case 'Destroy':
        this.tasks.delete(containerId);
        this.#forgetLeft(containerId);
        this.#tell(this.#isLambda ? this.inits.end(containerId) : undefined);
        return;
      case 'Inspect':
      case 'WarmUp':
        return;
      default:
        action satisfies never;
    }
  }

  #isCalled(containerId: string): boolean {
    return this.sent.some((sent) => sent.containerId === containerId);
  }

  get #isLambda(): boolean {
    return this.worker.desired.runtimeInterface === 'Lambda';
  }

  #note(fault: string | undefined): void {
    if (fault !== undefined) {
      this.violations.push(fault);
    }
  }

  #forgetLeft(containerId: string): void {
    const at = this.watches.findIndex((watch) => watch.containerId === containerId);
    if (at >= 0) {
      this.watches.splice(at, 1);
    }
  }

  #take(effect: Effect): void {
    if (effect.kind === 'Send') {
      this.#send(effect);
    } else if (effect.kind === 'Run') {
      this.#run(effect);
    } else if (effect.kind === 'Settle') {
      this.#mustBeFree(effect.containerId, 'settled');
      this.#note(this.inits.faultOfFreeze(effect.containerId));
      this.settling.add(effect.containerId);
    } else if (effect.kind === 'Look') {
      this.looks.push(effect);
    } else if (effect.kind === 'Watch') {
      this.watches.push(effect);
    } else if (effect.kind === 'Unwatch') {
      this.#forgetLeft(effect.containerId);
    } else if (effect.kind === 'SetAside') {
      // A container that cannot be removed is the node's from here on.
      this.tasks.delete(effect.containerId);
    } else if (effect.kind === 'Answer') {
      this.#answer(effect);
    }
  }

  #send({ call, containerId }: Of<'Send'>): void {
    const calls = this.sent.filter((sent) => sent.containerId === containerId).length;
    const found = this.watches.some((watch) => watch.containerId === containerId) ? 1 : 0;
    if (calls + found >= this.inits.placesOf(containerId)) {
      this.violations.push('more calls at once than there are places');
    }
    if (this.begun.has(call.id)) {
      this.violations.push('a call was sent twice');
    }
    if (this.results.has(call.id)) {
      this.violations.push('a call was sent after its caller was told');
    }
    if (this.running.has(containerId) || this.settling.has(containerId)) {
      this.violations.push('a call was sent into a container that is being acted on');
    }
    if (this.state.listing.kind === 'Unlisted' || this.state.life !== 'Serving') {
      this.violations.push('a call was sent by a worker that is not at work');
    }
    this.#note(this.inits.faultOfCall(containerId));
    const { now } = this.worker;
    this.sent.push({ id: call.id, containerId, until: now + 20_000, begun: false });
  }

  #run({ action, containerId }: Of<'Run'>): void {
    const { kind } = action;
    if (this.running.has(containerId) || this.settling.has(containerId)) {
      this.violations.push(`${kind} began while something else was being done`);
    }
    if (this.state.listing.kind === 'Unlisted') {
      this.violations.push(`${kind} began before it was known what may be adopted`);
    }
    if (this.state.life !== 'Serving') {
      this.violations.push(`${kind} began while the agent stops`);
    }
    if (kind === 'Pause' || kind === 'Destroy' || kind === 'Ensure') {
      this.#mustBeFree(containerId, kind);
    }
    if (kind === 'Pause') {
      this.#note(this.inits.faultOfFreeze(containerId));
    }
    const container = findContainer(this.state, containerId);
    const goal = goalAt(this.state, this.worker.now);
    if (kind === 'Destroy') {
      const isWanted = isAlive(goal) && container?.make.shapeHash === goal.shapeHash;
      const { info } = container?.sight ?? {};
      const isAlone = this.state.others.length === 0;
      if (isWanted && isAlone && container?.unusable === undefined && info?.task.kind === 'Running') {
        this.violations.push('a container was destroyed that is as it should be');
      }
      if (action.why === 'Replaced' && this.worker.records.at(-1)?.container?.id === containerId) {
        this.violations.push('a container was replaced before the record said which one serves');
      }
    }
    this.running.set(containerId, action);
  }

  /** No call is in a container, unless its process is gone or the worker's grace is over. */
  #mustBeFree(containerId: string, what: string): void {
    const { grace } = this.state;
    const isOver = grace !== undefined && this.worker.now >= grace.until;
    const runs = this.tasks.get(containerId) === 'Running' || this.tasks.get(containerId) === 'Paused';
    const isLost = findContainer(this.state, containerId)?.sight.shim === 'Lost';
    if (!runs || isOver || isLost) {
      return;
    }
    if (this.#isCalled(containerId)) {
      this.violations.push(`${what} with a call in the container`);
    }
    if (this.watches.some((watch) => watch.containerId === containerId)) {
      this.violations.push(`${what} with a call in the container that was left`);
    }
    const isWaitedFor = findContainer(this.state, containerId)?.unusable === undefined;
    if (isWaitedFor && this.inits.hasFound(containerId)) {
      this.violations.push(`${what} with a call in the container that its init knows`);
    }
  }

  #answer({ id, result }: Of<'Answer'>): void {
    if (this.results.has(id)) {
      this.violations.push('a caller was told twice');
    }
    if (result.kind === 'Refused' && (this.begun.has(id) || this.sent.some((sent) => sent.id === id))) {
      this.violations.push('a call was refused that was sent');
    }
    this.results.set(id, result.kind);
  }
}
