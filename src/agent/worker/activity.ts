import type { Clock } from '../../common/clock.ts';
import { unreachable } from '../../common/errors.ts';
import type { WorkerInfo } from '../../runtime/contract/runtime.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import { mayWake } from '../model/goal.ts';
import { IdleClock, type Rest } from '../model/idle-policy.ts';
import { IssuedStamps, type StampSource } from '../model/invocation-stamp.ts';
import type { WorkerRecord } from '../model/worker-record.ts';

/** Stamps that are told from those of others after a restart of the agent. */
const keptStamps = 16;

/** When a worker was active last, by whom, and where that leaves it. */
export class WorkerActivity {
  readonly #idle: IdleClock;
  readonly #issued: IssuedStamps;
  readonly #source: StampSource;
  #observed: string | undefined;
  /**
   * It was found frozen, and nobody has called it or told of its resource since. The record may be a moment older than
   * the freeze, so what it says is no reason to wake it.
   */
  #foundPaused = false;

  constructor(clock: Clock, source: StampSource, desired: DesiredWorker, record: WorkerRecord | undefined) {
    this.#idle = new IdleClock(clock);
    this.#source = source;
    this.#issued = new IssuedStamps(record?.stamps, keptStamps);
    this.#observed = record?.observedInvocationTime ?? desired.observedInvocationTime;
  }

  /** The foreign stamp that was acted on last. */
  get observedStamp(): string | undefined {
    return this.#observed;
  }

  get keptStamps(): readonly string[] {
    return this.#issued.latest(keptStamps);
  }

  /** Where it rests now. */
  rest(desired: DesiredWorker): Rest {
    const { state } = this.#idle.rest(desired);
    return this.#foundPaused && state === 'Running' ? 'Paused' : state;
  }

  /** Milliseconds until it rests elsewhere by itself. */
  changesInMs(desired: DesiredWorker): number {
    return this.#idle.rest(desired).changesInMs ?? Number.POSITIVE_INFINITY;
  }

  /** It was active just now. */
  touch(): void {
    this.#foundPaused = false;
    this.#idle.touch();
  }

  /** Its resource was told of. */
  told(before: DesiredWorker, after: DesiredWorker): void {
    this.#foundPaused = false;
    if (after.generation !== before.generation) {
      this.#idle.renew(before, after);
    }
  }

  /** As if its idle policy had brought it there. */
  assume(desired: DesiredWorker, rest: Rest): void {
    this.#idle.assume(desired, rest);
  }

  /** A new stamp of its own. */
  stamp(): string {
    const stamp = this.#source.next();
    this.#issued.add(stamp);
    return stamp;
  }

  /** The last stamp that an earlier run of the agent has issued. */
  issued(stamp: string): void {
    this.#issued.found(stamp);
  }

  /** Whether there is a stamp to be acknowledged; one that is not our own wakes the worker. */
  wakeOnForeignStamp(desired: DesiredWorker): boolean {
    const { lastInvocationTime, observedInvocationTime } = desired;
    if (lastInvocationTime === undefined || lastInvocationTime === this.#observed) {
      return false;
    }
    this.#observed = lastInvocationTime;
    if (lastInvocationTime === observedInvocationTime || this.#issued.has(lastInvocationTime)) {
      return false;
    }
    if (mayWake(desired.wakePolicy, this.rest(desired))) {
      this.touch();
    }
    return true;
  }

  /**
   * Sets the idle clock so that nothing idle is woken or started, and nothing busy is frozen at once.
   *
   * @param confirmed whether the resource has been told of by the API, not by a record alone
   */
  adopt(
    desired: DesiredWorker,
    record: WorkerRecord | undefined,
    info: WorkerInfo | undefined,
    confirmed: boolean,
  ): void {
    const kind = info?.task.kind;
    switch (kind) {
      case 'Running':
        this.#idle.assume(desired, 'Running');
        return;
      case 'Paused':
        this.#foundPaused = !confirmed;
        this.#idle.assume(desired, 'Paused');
        return;
      case 'Missing':
      case 'Created':
      case 'Stopped':
      case 'Unanswering':
      case undefined:
        // Nothing runs. One that rested goes to where it rested; everything else is an ordinary start.
        if (record !== undefined && record.rest !== 'Running') {
          this.#idle.assume(desired, record.rest);
        }
        return;
      default:
        unreachable(kind);
    }
  }
}
