import { describe, expect, it } from 'vitest';
import {
  type DemandInput,
  type DemandView,
  decideDemand,
  demandOf,
  type Homeless,
} from '../../../../src/controller/reservation/demand.ts';

const homeless = (memoryMiB: number, changes: Partial<Homeless> = {}): Homeless => ({
  memoryMiB,
  milliCPU: 10,
  nodeSelector: {},
  tolerations: [],
  ...changes,
});
/** A node of 1,000 MiB and one core. */
const whole = { memoryMiB: 1_000, milliCPU: 1_000 };
const sizes = (workers: readonly Homeless[], pieceMiB: number) =>
  demandOf(workers, { memoryMiB: pieceMiB, milliCPU: 1_000 }).map(({ memoryMiB }) => memoryMiB);

describe('the demand of workers without room', () => {
  it('is their memory, in pieces of the size of a node', () => {
    expect(sizes([], 1_000)).toEqual([]);
    expect(sizes([homeless(192), homeless(192)], 1_000)).toEqual([384]);
    expect(sizes([homeless(600), homeless(500), homeless(300), homeless(400)], 1_000)).toEqual([1_000, 800]);
  });

  it('has a piece of its own for a worker that is larger', () => {
    expect(sizes([homeless(3_000), homeless(192)], 1_000)).toEqual([3_000, 192]);
  });

  it('has no piece with more CPU than a node has, but for a worker that asks for more alone', () => {
    const busy = [
      homeless(100, { milliCPU: 600 }),
      homeless(100, { milliCPU: 500 }),
      homeless(50, { milliCPU: 2_000 }),
    ];
    expect(demandOf(busy, whole).map(({ milliCPU }) => milliCPU)).toEqual([600, 500, 2_000]);
    expect(demandOf(busy.slice(1, 2).concat(homeless(200)), whole)).toMatchObject([{ memoryMiB: 300, milliCPU: 510 }]);
  });

  it('is told for a few nodes at a time', () => {
    expect(sizes(Array(1_000).fill(homeless(600)) as Homeless[], 1_000)).toHaveLength(5);
  });

  it('is the same in whatever order the workers are, and a piece of each kind comes before the second of any', () => {
    const kinds = Array.from({ length: 30 }, (_, kind) => homeless(900, { nodeSelector: { kind: String(kind % 15) } }));
    const pieces = demandOf(kinds, whole);
    const told = pieces.slice(0, 20);
    expect(new Set(told.map(({ group }) => group)).size).toBe(15);
    expect(demandOf(kinds.toReversed(), whole)).toEqual(pieces);
  });

  it('is told apart for workers that may be on other nodes, in whatever order their labels are', () => {
    const gpu = (nodeSelector: Readonly<Record<string, string>>) => homeless(192, { nodeSelector });
    const pieces = demandOf([gpu({ gpu: 'a', zone: 'b' }), gpu({ zone: 'b', gpu: 'a' }), homeless(192)], whole);
    expect(pieces.map(({ index }) => index)).toEqual([0, 0]);
    expect(new Set(pieces.map(({ memoryMiB }) => memoryMiB))).toEqual(new Set([192, 384]));
    expect(new Set(pieces.map(({ group }) => group)).size).toBe(2);
  });
});

describe('demand Pods', () => {
  const pieces = demandOf([homeless(900), homeless(800)], whole);
  const [first, second] = pieces;
  const group = first?.group ?? '';
  const pod = (index: number, changes: Partial<DemandView> = {}): DemandView => ({
    name: `esb-demand-${group}-${index}`,
    group,
    index,
    state: { kind: 'waiting' },
    nodeName: undefined,
    sinceMs: 0,
    ...changes,
  });
  const actions = (changes: Partial<DemandInput>) =>
    decideDemand({ pieces, pods: [], progressOf: () => 'coming', mayAsk: () => true, ...changes });

  it('are made for each piece, and left alone while the same workers wait', () => {
    expect(actions({})).toEqual([
      { kind: 'create', piece: first },
      { kind: 'create', piece: second },
    ]);
    expect(actions({ pods: [pod(0), pod(1)] })).toEqual([]);
  });

  it('go once fewer workers wait, or none', () => {
    const pods = [pod(0), pod(1)];
    expect(actions({ pods, pieces: pieces.slice(0, 1) })).toEqual([{ kind: 'remove', name: pod(1).name }]);
    expect(actions({ pods, pieces: [] })).toHaveLength(2);
    expect(actions({ pods: [pod(0, { state: { kind: 'leaving' } }), pod(1)], pieces: [] })).toHaveLength(1);
  });

  it('make way for workers once the scheduler has found a node whose agent is ready', () => {
    const pods = [pod(0, { nodeName: 'node-9' }), pod(1)];
    expect(actions({ pods, progressOf: () => 'ready' })).toEqual([
      { kind: 'offer', name: pod(0).name, group, nodeName: 'node-9' },
    ]);
  });

  it('stay on a new node until its agent is ready, so that the autoscaler does not take it back, for ten minutes', () => {
    const bound = (sinceMs: number) => [pod(0, { nodeName: 'node-9', sinceMs }), pod(1)];
    expect(actions({ pods: bound(599_000) })).toEqual([]);
    expect(actions({ pods: bound(600_000) })).toEqual([{ kind: 'remove', name: pod(0).name }]);
  });

  it('are few at a time, and none is lacking for workers that are not asked for now', () => {
    const many = demandOf(
      Array.from({ length: 30 }, (_, kind) => homeless(900, { nodeSelector: { kind: String(kind) } })),
      whole,
    );
    expect(actions({ pieces: many })).toEqual(many.slice(0, 20).map((piece) => ({ kind: 'create', piece })));
    const paused = many.slice(0, 15).map((piece) => piece.group);
    const asked = actions({ pieces: many, mayAsk: (one) => !paused.includes(one) });
    expect(asked).toEqual(many.slice(15).map((piece) => ({ kind: 'create', piece })));
    const pods = many.slice(12).map((piece) => ({ ...pod(0), group: piece.group, name: piece.group }));
    expect(actions({ pieces: many, pods })).toEqual(many.slice(0, 2).map((piece) => ({ kind: 'create', piece })));
  });

  it('are not made again at once where the node that was found did not help', () => {
    expect(actions({ mayAsk: () => false })).toEqual([]);
  });

  it('that have ended are made again', () => {
    const pods = [pod(0, { state: { kind: 'ended', refusal: 'Evicted' } }), pod(1)];
    expect(actions({ pods })).toEqual([{ kind: 'remove', name: pod(0).name }]);
  });
});
