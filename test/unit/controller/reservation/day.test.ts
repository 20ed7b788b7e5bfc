import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unreachable } from '../../../../src/common/errors.ts';
import {
  allocated,
  decideReserve,
  type ReserveDecision,
} from '../../../../src/controller/reservation/decide-reserve.ts';
import type { ReserveView } from '../../../../src/controller/reservation/hold-view.ts';
import { stepMiB, wantedMiB } from '../../../../src/controller/reservation/sizing.ts';

const CAPACITY_MIB = 11_468;
const STEP_MIB = stepMiB(CAPACITY_MIB);
/** Workers of the node: how many MiB each takes while it has a container. */
const sizes = [192, 192, 192, 640, 640, 1_088, 2_112, 3_136] as const;

/** One event: a worker is called or ends, and Pods of others take or leave memory of the node. */
type Happening =
  | { readonly kind: 'called'; readonly worker: number }
  | { readonly kind: 'removed'; readonly worker: number }
  | { readonly kind: 'others'; readonly memoryMiB: number }
  | { readonly kind: 'quiet'; readonly ms: number };

const allTurns = ['controller', 'kubelet', 'agent hears', 'agent starts'] as const;
type Turn = (typeof allTurns)[number];

/** `Old`: its version says that no Pod is resized. `Unable`: only a Pod shows that. */
type Kubelet = 'Able' | 'Unable' | 'Old';

/** A node with its kubelet and its agent, and the controller, each of which acts when it is its turn. */
class Day {
  readonly #kubelet: Kubelet;
  /** Workers with a container. */
  readonly awake = new Set<number>();
  /** Workers that were called, and found no room. */
  readonly waiting = new Set<number>();
  othersMiB = 0;
  writes = 0;
  #pods: ReserveView[] = [];
  #reservedMiB = 0;
  #promisedMiB = 0;
  #now = 0;
  #raisedAt = 0;
  #lowerSince: number | undefined;

  constructor(kubelet: Kubelet) {
    this.#kubelet = kubelet;
  }

  get usedMiB(): number {
    return [...this.awake].reduce((sum, worker) => sum + (sizes[worker] ?? 0), 0);
  }

  get requestedMiB(): number {
    return this.#pods.reduce((sum, { memoryMiB }) => sum + memoryMiB, 0);
  }

  get allocatedMiB(): number {
    return allocated(this.#pods);
  }

  /** MiB that the kubelet counts, also of a Pod that it has not made smaller yet. */
  get countedMiB(): number {
    return this.#pods.reduce((sum, { allocatedMiB }) => sum + allocatedMiB, 0);
  }

  /** MiB for the workers of the node, and for those that wait for room there. */
  get wantedMiB(): number {
    const sum = (workers: Iterable<number>) => [...workers].reduce((total, one) => total + (sizes[one] ?? 0), 0);
    const resting = sizes.filter((_, worker) => !this.awake.has(worker) && !this.waiting.has(worker));
    return wantedMiB({
      usedMiB: sum(this.awake),
      waitingMiB: sum(this.waiting),
      isCallable: true,
      largestMiB: Math.max(0, ...resting),
      capacityMiB: CAPACITY_MIB,
    });
  }

  happen(happening: Happening): void {
    switch (happening.kind) {
      case 'called':
        if (!this.awake.has(happening.worker)) {
          this.waiting.add(happening.worker);
        }
        break;
      case 'removed':
        this.awake.delete(happening.worker);
        this.waiting.delete(happening.worker);
        break;
      case 'others':
        // The kubelet admits what fits beside the reservation.
        this.othersMiB = Math.min(happening.memoryMiB, CAPACITY_MIB - this.countedMiB);
        break;
      case 'quiet':
        this.#now += happening.ms;
        break;
      default:
        unreachable(happening);
    }
  }

  /** One step of one of the three; the order is not theirs to choose. An agent may hear late. */
  act(who: Turn): void {
    switch (who) {
      case 'controller':
        this.#control();
        break;
      case 'kubelet':
        this.#allocate();
        break;
      case 'agent hears':
        this.#promisedMiB = this.#reservedMiB;
        break;
      case 'agent starts':
        this.#runWorkers();
        break;
      default:
        unreachable(who);
    }
  }

  settle(): void {
    for (let round = 0; round < 40; round++) {
      this.act('controller');
      this.act('kubelet');
      this.act('agent hears');
      this.act('agent starts');
      this.#now += 5_000;
    }
  }

  #control(): void {
    const { wantedMiB: wanted } = this;
    this.#lowerSince = this.requestedMiB > wanted ? (this.#lowerSince ?? this.#now) : undefined;
    const { action, promiseMiB } = decideReserve({
      raisedForMs: this.#now - this.#raisedAt,
      yieldsForMs: 0,
      exists: true,
      lost: false,
      retired: false,
      isEmpty: false,
      isDraining: false,
      image: 'esb:1',
      wantedMiB: wanted,
      stepMiB: STEP_MIB,
      ...(this.#kubelet === 'Old' ? { resizesNoPod: true } : {}),
      wantedMilliCPU: 0,
      lowerCPUForMs: 0,
      promisedMiB: this.#promisedMiB,
      pods: this.#pods,
      endedForMs: Number.POSITIVE_INFINITY,
      replaceAfterMs: 10_000,
      lowerForMs: this.#lowerSince === undefined ? 0 : this.#now - this.#lowerSince,
    });
    this.#raisedAt = promiseMiB > this.#reservedMiB ? this.#now : this.#raisedAt;
    this.#reservedMiB = promiseMiB;
    this.#carryOut(action);
  }

  #carryOut(action: ReserveDecision['action']): void {
    switch (action.kind) {
      case 'create':
        this.#pods.push({
          name: `pod-${action.index}`,
          index: action.index,
          state: { kind: 'waiting' },
          image: 'esb:1',
          memoryMiB: action.memoryMiB,
          milliCPU: 0,
          allocatedMiB: 0,
          allocatedMilliCPU: 0,
          lacksCPU: false,
          canResize: undefined,
          deferral: undefined,
          isPreempted: false,
        });
        break;
      case 'resize':
        this.#pods = this.#pods.map((pod) =>
          pod.name === action.name ? { ...pod, memoryMiB: action.memoryMiB } : pod,
        );
        break;
      case 'remove':
        this.#pods = this.#pods.filter(({ name }) => name !== action.name);
        break;
      case 'nothing':
      case 'renewImage':
        return;
      default:
        unreachable(action);
    }
    this.writes++;
  }

  #allocate(): void {
    for (const [index, pod] of this.#pods.entries()) {
      const besideMiB = this.countedMiB - pod.allocatedMiB + this.othersMiB;
      const fits = besideMiB + pod.memoryMiB <= CAPACITY_MIB;
      if (pod.state.kind === 'waiting') {
        this.#pods[index] = fits
          ? { ...pod, state: { kind: 'held' }, allocatedMiB: pod.memoryMiB, canResize: this.#kubelet === 'Able' }
          : { ...pod, state: { kind: 'ended', refusal: 'OutOfmemory' } };
      } else if (pod.state.kind === 'held' && fits) {
        this.#pods[index] = { ...pod, allocatedMiB: pod.memoryMiB, deferral: undefined };
      } else if (pod.state.kind === 'held') {
        this.#pods[index] = { ...pod, deferral: 'Deferred' };
      }
    }
  }

  #runWorkers(): void {
    for (const worker of this.waiting) {
      if (this.usedMiB + (sizes[worker] ?? 0) <= this.#promisedMiB) {
        this.waiting.delete(worker);
        this.awake.add(worker);
      }
    }
  }
}

const workers = fc.nat(sizes.length - 1);
const happenings: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 4, arbitrary: workers.map((worker) => ({ kind: 'called', worker }) as const) },
  { weight: 3, arbitrary: workers.map((worker) => ({ kind: 'removed', worker }) as const) },
  { weight: 1, arbitrary: fc.nat(8_000).map((memoryMiB) => ({ kind: 'others', memoryMiB }) as const) },
  { weight: 3, arbitrary: fc.nat(90_000).map((ms) => ({ kind: 'quiet', ms }) as const) },
);
const turns = fc.array(fc.constantFrom(...allTurns), { maxLength: 6 });

describe.each([
  ['resizes Pods', 'Able'],
  ['resizes none', 'Unable'],
  ['is too old to resize Pods', 'Old'],
] as const)('a day of a node whose kubelet %s', (_what, kubelet) => {
  it('has no worker at any time that the kubelet has not allocated memory for', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(happenings, turns), { maxLength: 100, size: 'max' }), (events) => {
        const day = new Day(kubelet);
        for (const [happening, order] of events) {
          day.happen(happening);
          for (const who of order) {
            day.act(who);
            expect(day.usedMiB).toBeLessThanOrEqual(day.allocatedMiB);
            expect(day.countedMiB + day.othersMiB).toBeLessThanOrEqual(CAPACITY_MIB);
          }
        }
      }),
      { numRuns: 250 },
    );
  });

  it('asks, once things are quiet, for what its workers take and one step, or the largest worker, beyond that', () => {
    fc.assert(
      fc.property(fc.array(happenings, { maxLength: 40 }), (events) => {
        const day = new Day(kubelet);
        for (const happening of events) {
          day.happen(happening);
          for (const who of allTurns) {
            day.act(who);
          }
        }
        day.happen({ kind: 'others', memoryMiB: 0 });
        day.settle();
        // Pods that cannot be resized go as a whole; the first one is as large as what was wanted at once.
        const slack = { Able: 0, Unable: Math.max(...sizes), Old: STEP_MIB }[kubelet];
        expect(day.requestedMiB).toBeGreaterThanOrEqual(day.wantedMiB);
        expect(day.requestedMiB).toBeLessThanOrEqual(day.wantedMiB + slack);
        expect(day.allocatedMiB).toBe(day.requestedMiB);
        if (day.wantedMiB < CAPACITY_MIB) {
          expect(day.waiting.size).toBe(0);
        }
      }),
      { numRuns: 200 },
    );
  });
});

it.each([
  ['resizes Pods', 'Able', 25],
  ['is too old to resize Pods', 'Old', 40],
] as const)(
  'a scripted day of 20 points asks within a step and the headroom, in few writes, where the kubelet %s',
  (_what, kubelet, writes) => {
    const day = new Day(kubelet);
    const script: readonly Happening[] = [
      ...[0, 1, 2, 3, 4, 5, 6, 7].map((worker) => ({ kind: 'called', worker }) as const),
      ...[7, 6, 5, 4].map((worker) => ({ kind: 'removed', worker }) as const),
      ...[4, 6].map((worker) => ({ kind: 'called', worker }) as const),
      ...[0, 1, 2, 3, 4, 6].map((worker) => ({ kind: 'removed', worker }) as const),
    ];
    expect(script).toHaveLength(20);
    for (const happening of script) {
      day.happen(happening);
      day.settle();
      expect(day.waiting.size).toBe(0);
      const resting = sizes.filter((_, worker) => !day.awake.has(worker));
      const headroom = Math.max(STEP_MIB, ...resting);
      expect(day.requestedMiB).toBeGreaterThanOrEqual(Math.min(CAPACITY_MIB, day.usedMiB + headroom));
      expect(day.requestedMiB).toBeLessThan(day.usedMiB + headroom + STEP_MIB);
    }
    expect(day.writes).toBeLessThanOrEqual(writes);
  },
);
