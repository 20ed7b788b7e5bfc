import type { DesiredWorker } from '../../src/agent/model/desired-worker.ts';
import type { WorkerRecord } from '../../src/agent/model/worker-record.ts';
import type { WorkerStart } from '../../src/agent/step/adopt.ts';
import { adopted } from '../../src/agent/step/begin.ts';
import { decide } from '../../src/agent/step/decide.ts';
import type { Effect } from '../../src/agent/step/effects.ts';
import type { WorkerEvent } from '../../src/agent/step/events.ts';
import { recordOf } from '../../src/agent/step/projection.ts';
import { reduce } from '../../src/agent/step/reduce.ts';
import type { Moment, NodeFacts, WorkerState } from '../../src/agent/step/state.ts';
import type { WorkerInfo } from '../../src/runtime/contract/runtime.ts';
import { desiredFixture } from './fleet-lab.ts';

/** A node with room for everything, whose runtime answers. */
export const roomyNode: NodeFacts = {
  runtimeDown: false,
  tmpOnDisk: false,
  allocated: { memoryMiB: 0, workers: 0 },
  limits: { memoryMiB: 10_000, workers: 100 },
  fits: () => true,
  mayFitLater: () => false,
  mayReplace: () => true,
  holdsShare: () => true,
  mayClaim: () => true,
  initOf: () => undefined,
};

/** One worker as its state alone, stepped by a test. Nothing is done of what it asks for but what the test does. */
export class WorkerSteps {
  /** Monotonic milliseconds. */
  now = 1_000_000;
  wall = Date.parse('2026-11-01T00:00:00Z');
  node: NodeFacts;
  state: WorkerState;
  /** All that it asked for, in order. */
  readonly effects: Effect[] = [];
  /** The records that it asked to be saved, in order. */
  readonly records: WorkerRecord[] = [];
  /** When it wants to decide again, in monotonic milliseconds. */
  wakeAt = Number.POSITIVE_INFINITY;
  /** Called with each effect, and the state that asks for it. */
  onEffect: (effect: Effect) => void = () => undefined;

  /** @param start `listed`: whether its containers are known, none by default */
  constructor(
    { listed = true, ...start }: Partial<WorkerStart> & { readonly listed?: boolean } = {},
    node: NodeFacts = roomyNode,
  ) {
    this.node = node;
    const { effects, state } = adopted(
      { desired: desiredFixture(), ...(listed ? { containers: [] } : {}), ...start },
      false,
      { calls: 100, bytes: 1_000_000 },
      this.at,
    );
    this.state = state;
    this.#take(effects);
  }

  get at(): Moment {
    return { now: this.now, wall: this.wall, node: this.node };
  }

  get desired(): DesiredWorker {
    return this.state.desired;
  }

  /** Takes an event, as a worker does; what it asked for then. */
  step(event: WorkerEvent): readonly Effect[] {
    const from = this.effects.length;
    const reduced = reduce(this.state, event, this.at);
    this.state = reduced.state;
    this.#take(reduced.effects);
    const decision = decide(this.state, this.at);
    this.state = decision.state;
    this.wakeAt = decision.wakeAt;
    this.#take(decision.effects);
    return this.effects.slice(from);
  }

  /** Lets time go by, and the worker decide again whenever it wants to in it. */
  advance(ms: number): void {
    const end = this.now + ms;
    for (let turns = 0; this.wakeAt <= end && turns < 1_000; turns += 1) {
      this.#move(this.wakeAt);
      this.step({ kind: 'Ticked' });
    }
    this.#move(end);
  }

  #move(to: number): void {
    this.wall += Math.max(0, to - this.now);
    this.now = Math.max(this.now, to);
  }

  #take(effects: readonly Effect[]): void {
    for (const effect of effects) {
      this.effects.push(effect);
      if (effect.kind === 'Save') {
        this.records.push(recordOf(this.state, this.at, []));
      }
      this.onEffect(effect);
    }
  }
}

/** A container of `desired` as the runtime would tell of it. */
export function infoOf(
  containerId: string,
  desired: DesiredWorker,
  task: WorkerInfo['task'],
  shapeHash = desired.shapeHash,
): WorkerInfo {
  return {
    containerId,
    identity: desired.identity,
    epoch: desired.epoch,
    shapeHash,
    image: `${desired.image}@sha256:0`,
    task,
    runtimeInterface: desired.runtimeInterface,
    address: { ip: '10.234.0.2', port: desired.port },
    createdAt: new Date('2026-10-31T00:00:00Z'),
  };
}
