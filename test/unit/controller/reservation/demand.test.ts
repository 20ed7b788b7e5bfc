import { describe, expect, it } from 'vitest';
import {
  type AgedDemand,
  type DemandInput,
  decideDemand,
  demandOf,
} from '../../../../src/controller/reservation/demand.ts';
import type { DemandPiece } from '../../../../src/controller/reservation/hold-pod.ts';
import type { Homeless } from '../../../../src/controller/scheduling/homeless.ts';

const homeless = (memoryMiB: number, changes: Partial<Homeless> = {}): Homeless => ({
  memoryMiB,
  milliCPU: 10,
  diskMiB: 0,
  nodeSelector: {},
  tolerations: [],
  unfitArchitectures: [],
  ...changes,
});
/** A node of 1,000 MiB, one core and 100 MiB of disk. */
const whole = () => ({ memoryMiB: 1_000, milliCPU: 1_000, diskMiB: 100 });
const sizes = (workers: readonly Homeless[], pieceMiB: number) =>
  demandOf(workers, () => ({ ...whole(), memoryMiB: pieceMiB })).map(({ memoryMiB }) => memoryMiB);

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

  it('has no piece with more disk than a node has for /tmp of workers', () => {
    const pieces = demandOf([homeless(10, { diskMiB: 60 }), homeless(10, { diskMiB: 60 })], whole);
    expect(pieces.map(({ diskMiB }) => diskMiB)).toEqual([60, 60]);
  });

  it('is told for as many nodes as the workers need', () => {
    expect(sizes(Array(200).fill(homeless(600)) as Homeless[], 1_000)).toHaveLength(200);
  });

  it('has a piece for each of a few workers where no node is like those that they wait for', () => {
    const workers = Array(200).fill(homeless(600)) as Homeless[];
    expect(demandOf(workers, () => undefined).map(({ memoryMiB }) => memoryMiB)).toEqual([600, 600, 600, 600, 600]);
  });

  it('is the same in whatever order the workers are', () => {
    const kinds = Array.from({ length: 30 }, (_, kind) => homeless(900 - kind));
    expect(demandOf(kinds.toReversed(), whole)).toEqual(demandOf(kinds, whole));
  });

  it('is told apart for workers whose images are made for other processors', () => {
    const pieces = demandOf([homeless(192), homeless(192, { unfitArchitectures: ['amd64'] })], whole);
    expect(pieces.map(({ unfitArchitectures }) => unfitArchitectures)).toEqual([[], ['amd64']]);
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
  const pod = (index: number, changes: Partial<AgedDemand> = {}): AgedDemand => ({
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
    expect(actions({ pods: bound(600_000) })).toEqual([
      { kind: 'giveUp', name: pod(0).name, group, nodeName: 'node-9' },
    ]);
  });

  describe('of more groups than there may be Pods', () => {
    const many = demandOf(
      Array.from({ length: 600 }, (_, kind) =>
        [0, 1].map(() => homeless(900, { nodeSelector: { kind: `${kind}` } })),
      ).flat(),
      whole,
    );
    const firsts = many.filter(({ index }) => index === 0).toSorted((a, b) => (a.group < b.group ? -1 : 1));
    const podOf = (piece: DemandPiece, sinceMs = 0) => ({
      ...pod(piece.index, { sinceMs }),
      group: piece.group,
      name: `${piece.group} ${piece.index}`,
    });
    const creates = (pieces: readonly DemandPiece[]) => pieces.map((piece) => ({ kind: 'create', piece }));

    it('are 500, the first Pod of each group before the second of any', () => {
      expect(actions({ pieces: many })).toEqual(creates(firsts.slice(0, 500)));
      const few = many.filter(({ group: one }) => firsts.slice(0, 300).some((first) => first.group === one));
      const made = actions({ pieces: few }).flatMap((action) => (action.kind === 'create' ? [action.piece.index] : []));
      expect([made.filter((index) => index === 0).length, made.length]).toEqual([300, 500]);
    });

    it('are none for groups that are not asked for now, and the others have their places', () => {
      const paused = new Set(firsts.slice(0, 550).map((piece) => piece.group));
      const asked = actions({ pieces: firsts, mayAsk: (one) => !paused.has(one) });
      expect(asked).toEqual(creates(firsts.slice(550)));
    });

    it('make way for a first Pod where a group has many', () => {
      const large = Array.from({ length: 500 }, (_, index) => ({ ...many[0], index }) as DemandPiece);
      const pods = large.map((piece) => podOf(piece));
      const other = firsts.find((piece) => piece.group !== large[0]?.group) as DemandPiece;
      expect(actions({ pieces: [...large, other], pods })).toEqual([{ kind: 'remove', name: pods[499]?.name }]);
      expect(actions({ pieces: [...large, other], pods: pods.slice(0, 499) })).toEqual(creates([other]));
    });

    it('stay while others wait, and are given up after ten minutes without a node', () => {
      const last = firsts.slice(100);
      expect(actions({ pieces: firsts, pods: last.map((piece) => podOf(piece)) })).toEqual([]);
      const given = actions({ pieces: firsts, pods: last.map((piece, at) => podOf(piece, at === 0 ? 600_000 : 0)) });
      expect(given).toMatchObject([{ kind: 'giveUp', group: last[0]?.group }]);
      expect(actions({ pieces: last, pods: last.map((piece) => podOf(piece, 600_000)) })).toEqual([]);
    });
  });

  it('are not made again at once where the node that was found did not help', () => {
    expect(actions({ mayAsk: () => false })).toEqual([]);
  });

  it('that have ended are made again', () => {
    const pods = [pod(0, { state: { kind: 'ended', refusal: 'Evicted' } }), pod(1)];
    expect(actions({ pods })).toEqual([{ kind: 'remove', name: pod(0).name }]);
  });
});
