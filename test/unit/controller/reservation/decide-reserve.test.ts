import { describe, expect, it } from 'vitest';
import { decideReserve, type ReserveInput } from '../../../../src/controller/reservation/decide-reserve.ts';
import type { ReserveView } from '../../../../src/controller/reservation/hold-view.ts';

const reserve = (changes: Partial<ReserveView> = {}): ReserveView => ({
  name: 'esb-reserve-node-1',
  index: 0,
  state: { kind: 'held' },
  image: 'esb:1',
  memoryMiB: 512,
  milliCPU: 0,
  allocatedMiB: 512,
  allocatedMilliCPU: 0,
  lacksCPU: false,
  canResize: true,
  deferral: undefined,
  isPreempted: false,
  ...changes,
});
/** The second and third Pod of a node whose kubelet resizes none. */
const step = (index: number, changes: Partial<ReserveView> = {}): ReserveView =>
  reserve({
    name: `esb-reserve.${index}.node-1`,
    index,
    memoryMiB: 256,
    allocatedMiB: 256,
    canResize: false,
    ...changes,
  });
const decision = (changes: Partial<ReserveInput> = {}) =>
  decideReserve({
    exists: true,
    lost: false,
    retired: false,
    isEmpty: false,
    isDraining: false,
    image: 'esb:1',
    wantedMiB: 512,
    stepMiB: 256,
    wantedMilliCPU: 0,
    promisedMiB: 512,
    pods: [],
    endedForMs: Number.POSITIVE_INFINITY,
    replaceAfterMs: 10_000,
    lowerForMs: 0,
    lowerCPUForMs: 0,
    raisedForMs: 60_000,
    yieldsForMs: 0,
    ...changes,
  });
const nothing = { kind: 'nothing' };

describe('a node without a reservation', () => {
  it('gets one of the size that it wants, and may promise nothing until then', () => {
    expect(decision()).toEqual({ action: { kind: 'create', index: 0, memoryMiB: 512 }, promiseMiB: 0 });
    expect(decision({ wantedMiB: 0 })).toEqual({ action: nothing, promiseMiB: 0 });
  });

  it('gets none when it is lost, gone, retired or being drained', () => {
    for (const change of [{ lost: true }, { exists: false }, { retired: true }, { isDraining: true }]) {
      expect(decision(change).action).toEqual(nothing);
    }
  });
});

describe('a reservation that the kubelet has not looked at', () => {
  it('is no promise', () => {
    const pod = reserve({ state: { kind: 'waiting' }, allocatedMiB: 0, canResize: undefined });
    expect(decision({ pods: [pod] })).toEqual({ action: nothing, promiseMiB: 0 });
  });
});

describe('a reservation', () => {
  it('of the right size is left alone, also while the node is drained, and promised as a whole', () => {
    expect(decision({ pods: [reserve()] })).toEqual({ action: nothing, promiseMiB: 512 });
    expect(decision({ pods: [reserve()], isDraining: true, wantedMiB: 1_024 }).action).toEqual(nothing);
  });

  it('is resized at once where more is wanted, and promised as the kubelet allocates it', () => {
    const more = decision({ pods: [reserve()], wantedMiB: 768 });
    expect(more).toEqual({
      action: { kind: 'resize', name: 'esb-reserve-node-1', memoryMiB: 768 },
      promiseMiB: 512,
    });
    expect(decision({ pods: [reserve({ memoryMiB: 768 })], wantedMiB: 768 })).toEqual({
      action: nothing,
      promiseMiB: 512,
    });
  });

  it('whose resize is put off says why', () => {
    const deferral = 'Node did not have enough memory';
    const pods = [reserve({ memoryMiB: 768, deferral })];
    expect(decision({ pods, wantedMiB: 768 }).refusal).toBe(deferral);
    expect(decision({ pods, wantedMiB: 512 }).refusal).toBeUndefined();
  });

  it('is made smaller after a minute, once the agent promises no more than what is left', () => {
    const less = { pods: [reserve()], wantedMiB: 256 };
    expect(decision({ ...less, lowerForMs: 50_000 })).toEqual({
      action: nothing,
      promiseMiB: 512,
      againAfterMs: 10_000,
    });
    expect(decision({ ...less, lowerForMs: 60_000 })).toEqual({ action: nothing, promiseMiB: 256 });
    expect(decision({ ...less, lowerForMs: 60_000, promisedMiB: 256 })).toEqual({
      action: { kind: 'resize', name: 'esb-reserve-node-1', memoryMiB: 256 },
      promiseMiB: 256,
    });
    // A lost agent says nothing.
    expect(decision({ ...less, lowerForMs: 60_000, lost: true }).action.kind).toBe('resize');
  });

  it('that is being made smaller is promised as it will be', () => {
    const pods = [reserve({ memoryMiB: 256 })];
    expect(decision({ pods, wantedMiB: 256 })).toEqual({ action: nothing, promiseMiB: 256 });
    expect(decision({ pods, wantedMiB: 512 })).toMatchObject({ action: { kind: 'resize' }, promiseMiB: 256 });
  });

  it('goes where nothing is wanted any more', () => {
    const none = { pods: [reserve()], wantedMiB: 0, lowerForMs: 60_000 };
    expect(decision(none)).toEqual({ action: nothing, promiseMiB: 0 });
    expect(decision({ ...none, promisedMiB: 0 }).action.kind).toBe('remove');
  });

  it('goes at once with the last worker and with its node', () => {
    expect(decision({ pods: [reserve()], isEmpty: true })).toMatchObject({ action: { kind: 'remove' }, promiseMiB: 0 });
    expect(decision({ pods: [reserve()], exists: false }).action.kind).toBe('remove');
  });

  it('gets another image in its place before another size, which the policy would refuse', () => {
    const pods = [reserve({ image: 'esb:0' })];
    expect(decision({ pods, wantedMiB: 1_024 }).action).toEqual({
      kind: 'renewImage',
      name: 'esb-reserve-node-1',
      image: 'esb:1',
    });
  });

  it('that the kubelet has refused is made anew after a while', () => {
    const refusal = 'Node did not have enough resource: memory';
    const pods = [reserve({ state: { kind: 'ended', refusal }, allocatedMiB: 0, canResize: undefined })];
    expect(decision({ pods, endedForMs: 4_000 })).toEqual({
      action: nothing,
      promiseMiB: 0,
      refusal,
      againAfterMs: 6_000,
    });
    expect(decision({ pods, endedForMs: 10_000 })).toMatchObject({ action: { kind: 'remove' }, refusal });
  });

  it('that leaves is waited for', () => {
    expect(decision({ pods: [reserve({ state: { kind: 'leaving' }, allocatedMiB: 0 })] }).action).toEqual(nothing);
  });
});

describe('a reservation that its kubelet cannot resize', () => {
  const first = reserve({ canResize: false });

  it('grows by further Pods', () => {
    expect(decision({ pods: [first], wantedMiB: 768 }).action).toEqual({ kind: 'create', index: 1, memoryMiB: 256 });
    expect(decision({ pods: [first, step(2)], wantedMiB: 1_024 }).action).toEqual({
      kind: 'create',
      index: 1,
      memoryMiB: 256,
    });
    expect(decision({ pods: [first, step(1)], wantedMiB: 768 })).toEqual({ action: nothing, promiseMiB: 768 });
  });

  it('waits until it is known whether the kubelet can', () => {
    expect(decision({ pods: [reserve({ canResize: undefined })], wantedMiB: 768 }).action).toEqual(nothing);
  });

  it('grows by a step at a time, and waits for none of the Pods before', () => {
    const waiting = step(1, { state: { kind: 'waiting' }, allocatedMiB: 0, canResize: undefined });
    for (const pods of [[first], [first, waiting], [first, step(1), step(2, { state: { kind: 'leaving' } })]]) {
      expect(decision({ pods, wantedMiB: 2_048, wantedMilliCPU: 600 }).action).toMatchObject({
        kind: 'create',
        index: pods.length,
        memoryMiB: 256,
      });
    }
    expect(decision({ pods: [first, waiting], wantedMiB: 800 }).action).toMatchObject({ index: 2, memoryMiB: 32 });
    const refused = step(1, { state: { kind: 'ended', refusal: 'OutOfmemory' } });
    expect(decision({ pods: [first, refused], wantedMiB: 2_048, endedForMs: 0 }).action).toEqual(nothing);
  });

  it('grows by one Pod after the other for a minute after one has ended', () => {
    const waiting = step(1, { state: { kind: 'waiting' }, allocatedMiB: 0, canResize: undefined });
    const more = { pods: [first, waiting], wantedMiB: 2_048 };
    expect(decision({ ...more, endedForMs: 20_000 })).toMatchObject({ action: nothing, againAfterMs: 40_000 });
    expect(decision({ ...more, endedForMs: 59_999 }).action).toEqual(nothing);
    expect(decision({ ...more, endedForMs: 60_000 }).action).toMatchObject({ kind: 'create', index: 2 });
    expect(decision({ ...more, pods: [first, step(1)], endedForMs: 0 }).action).toMatchObject({ index: 2 });
  });

  it('begins with a step where the version of the kubelet says so, and shares out the CPU', () => {
    const old = { resizesNoPod: true, wantedMiB: 1_024, wantedMilliCPU: 400 } as const;
    expect(decision(old).action).toEqual({ kind: 'create', index: 0, memoryMiB: 256, milliCPU: 100 });
    const pods = [step(0, { state: { kind: 'waiting' }, canResize: undefined, milliCPU: 100 })];
    expect(decision({ ...old, pods }).action).toEqual({ kind: 'create', index: 1, memoryMiB: 256, milliCPU: 100 });
  });

  it('is promised without all that is to go, and loses that one Pod after the other', () => {
    const pods = [first, step(1), step(2), step(3)];
    const less = { pods, wantedMiB: 768, lowerForMs: 60_000 };
    expect(decision({ ...less, promisedMiB: 1_280 })).toEqual({ action: nothing, promiseMiB: 768 });
    expect(decision({ ...less, promisedMiB: 768 })).toMatchObject({ action: { kind: 'remove' }, promiseMiB: 768 });
    expect(decision({ ...less, pods: pods.slice(0, 3), promisedMiB: 768 }).action.kind).toBe('remove');
  });

  it('keeps the CPU that is wanted where it can: Pods without, or with CPU that is not, go first', () => {
    const pods = [100, 100, 0, 50].map((milliCPU, index) => step(index, { milliCPU, allocatedMilliCPU: milliCPU }));
    const less = { pods, lowerForMs: 60_000, promisedMiB: 0 };
    const goes = (wantedMiB: number, wantedMilliCPU: number) => {
      const { action } = decision({ ...less, wantedMiB, wantedMilliCPU });
      return action.kind === 'remove' ? action.name.slice('esb-reserve.'.length, -'.node-1'.length) : action;
    };
    expect(goes(768, 250)).toBe('2');
    expect(goes(768, 200)).toBe('3');
    expect(goes(768, 150)).toBe('0');
    expect(goes(512, 200)).toBe('3');
    expect(goes(768, 500)).toBe('2');
  });

  it('gives up first the Pods that the kubelet has not looked at, whatever CPU they ask for', () => {
    const waiting = step(3, { state: { kind: 'waiting' }, allocatedMiB: 0, canResize: undefined, milliCPU: 100 });
    const less = { pods: [step(1), step(2), waiting], lowerForMs: 60_000, promisedMiB: 512 };
    expect(decision({ ...less, wantedMiB: 512, wantedMilliCPU: 100 })).toMatchObject({
      action: { kind: 'remove', name: waiting.name },
      promiseMiB: 512,
    });
  });

  it('shrinks by whole Pods that are not wanted, and keeps what no Pod fits into', () => {
    const pods = [first, step(1), step(2)];
    const less = { pods, lowerForMs: 60_000 };
    expect(decision({ ...less, wantedMiB: 768, promisedMiB: 768 })).toMatchObject({
      action: { kind: 'remove', name: 'esb-reserve.1.node-1' },
      promiseMiB: 768,
    });
    expect(decision({ ...less, wantedMiB: 900, promisedMiB: 1_024 })).toEqual({ action: nothing, promiseMiB: 1_024 });
  });
});

describe('the CPU of a reservation', () => {
  const name = 'esb-reserve-node-1';
  const pods = [reserve({ milliCPU: 200, allocatedMilliCPU: 200 })];

  it('is asked for with the memory', () => {
    const wanted = { wantedMilliCPU: 300 };
    expect(decision(wanted).action).toEqual({ kind: 'create', index: 0, memoryMiB: 512, milliCPU: 300 });
    expect(decision({ ...wanted, pods, wantedMiB: 768 }).action).toEqual({
      kind: 'resize',
      name,
      memoryMiB: 768,
      milliCPU: 300,
    });
    const further = { ...wanted, pods: [reserve({ milliCPU: 200, canResize: false })], wantedMiB: 768 };
    expect(decision(further).action).toEqual({ kind: 'create', index: 1, memoryMiB: 256, milliCPU: 100 });
  });

  it('is asked for alone where only that changes and the kubelet resizes Pods, and leads no promise', () => {
    expect(decision({ pods, wantedMilliCPU: 300 })).toMatchObject({
      action: { kind: 'resize', name, memoryMiB: 512, milliCPU: 300 },
      promiseMiB: 512,
    });
    expect(decision({ pods, wantedMilliCPU: 300, isDraining: true }).action).toEqual(nothing);
    const fixed = [reserve({ milliCPU: 200, canResize: false })];
    expect(decision({ pods: fixed, wantedMilliCPU: 300 }).action).toEqual(nothing);
  });

  it('is given back after a minute, also where the memory stays, and with the memory where both go', () => {
    expect(decision({ pods, wantedMilliCPU: 100, lowerCPUForMs: 20_000 })).toMatchObject({
      action: nothing,
      againAfterMs: 40_000,
    });
    const less = { pods, wantedMilliCPU: 100, lowerCPUForMs: 60_000 };
    expect(decision(less).action).toEqual({ kind: 'resize', name, memoryMiB: 512, milliCPU: 100 });
    expect(decision({ ...less, wantedMiB: 256, promisedMiB: 256, lowerForMs: 60_000 }).action).toEqual({
      kind: 'resize',
      name,
      memoryMiB: 256,
      milliCPU: 100,
    });
  });

  it('stays where a controller that knows of none would leave it: nothing is written where nothing changes', () => {
    expect(decision({ pods, wantedMilliCPU: 200 }).action).toEqual(nothing);
    expect(decision({ pods: [reserve()] }).action).toEqual(nothing);
  });
});
