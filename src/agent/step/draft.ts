import { takenMiB } from '../../api/worker-resources.ts';
import type { Closing, InvocationResult, RefusalReason } from '../model/invocation.ts';
import type { Retries } from '../model/retry-schedule.ts';
import type { Container } from './container.ts';
import type { Effect, RecordChange } from './effects.ts';
import { type Call, findContainer, type Moment, type WorkerState } from './state.ts';

/** A state on its way to the next one, and what it asks to be done. Lives within one call of `reduce` or `decide`. */
export class Draft {
  state: WorkerState;
  readonly effects: Effect[] = [];
  readonly at: Moment;

  constructor(state: WorkerState, at: Moment) {
    this.state = state;
    this.at = at;
  }

  set(change: Partial<WorkerState>): void {
    this.state = { ...this.state, ...change };
  }

  emit(effect: Effect): void {
    this.effects.push(effect);
  }

  /** Puts a container in the place of the one of its id. */
  put(container: Container): void {
    const { others, present } = this.state;
    const { id } = container.make;
    if (present.make.id === id) {
      this.set({ present: container });
    } else {
      this.set({ others: others.map((other) => (other.make.id === id ? container : other)) });
    }
  }

  /** Changes the container of that id, where there is one. */
  change(containerId: string, change: (container: Container) => Container): void {
    const container = findContainer(this.state, containerId);
    if (container !== undefined) {
      const next = change(container);
      if (next !== container) {
        this.put(next);
      }
    }
  }

  changeAll(change: (container: Container) => Container): void {
    const { others, present } = this.state;
    this.set({ present: change(present), others: others.map(change) });
  }

  changeRetries(containerId: string, change: (retries: Retries) => Retries): void {
    this.change(containerId, (container) => ({ ...container, retries: change(container.retries) }));
  }

  /** The record is to be saved. */
  save(change: RecordChange = 'Any'): void {
    this.set({ unsaved: change === 'Any' || this.state.unsaved === 'Any' ? 'Any' : 'Rest' });
  }

  /** What has become of the worker is to be shown at once. */
  show(): void {
    if (this.state.quietUntil > this.at.now) {
      this.set({ quietUntil: Number.NEGATIVE_INFINITY });
    }
  }

  /** The worker was active just now. */
  touch(): void {
    this.set({ foundPaused: false, idle: { since: this.at.now, lifted: true } });
  }

  answer(id: number, result: InvocationResult): void {
    this.emit({ kind: 'Answer', id, result });
  }

  refuse(call: Pick<Call, 'id'>, [reason, message]: Closing): void {
    this.answer(call.id, { kind: 'Refused', reason, message });
  }

  /** Refuses the calls that wait and of which `condition` holds. */
  refuseWhere(condition: (call: Call) => boolean, reason: RefusalReason, message: string): void {
    const refused = this.state.waiting.filter(condition);
    if (refused.length > 0) {
      this.set({
        waiting: this.state.waiting.filter((call) => !condition(call)),
        waitingBytes: this.state.waitingBytes - refused.reduce((sum, { bytes }) => sum + bytes, 0),
      });
      for (const call of refused) {
        this.refuse(call, [reason, message]);
      }
    }
    if (reason !== 'Fenced' && reason !== 'Unavailable') {
      this.emit({ kind: 'Reject', reason, message });
    }
  }

  /** Why the node has no room for a container as the resource wants it. */
  noRoom(): string {
    const { allocated, limits } = this.at.node;
    const { ephemeralStorageMiB, memoryMiB } = this.state.desired;
    return `no room for ${memoryMiB} MiB of memory and ${ephemeralStorageMiB} MiB of /tmp: ${allocated.memoryMiB} of ${limits.memoryMiB} MiB and ${allocated.workers} of ${limits.workers} workers are taken`;
  }

  /** Whether a container as the resource wants it has room, those not counted that this step gives back. */
  fits(containerId: string): boolean {
    return this.at.node.fits(containerId, takenMiB(this.state.desired), this.given());
  }

  /** Containers whose share this step gives back. */
  given(): readonly string[] {
    return this.effects.flatMap((effect) =>
      effect.kind === 'Free' || effect.kind === 'Drop' ? [effect.containerId] : [],
    );
  }
}
