import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Candidate, type PlacementRequest, place } from '../../../../src/controller/scheduling/place.ts';

const candidate = (name: string, changes: Partial<Candidate> = {}): Candidate => ({
  name,
  labels: {},
  ready: true,
  fresh: true,
  taints: 'free',
  capacity: { memoryMiB: 1024, milliCPU: 100_000, workers: 10 },
  used: { memoryMiB: 0, milliCPU: 0, workers: 0 },
  assigned: 0,
  assignedMiB: 0,
  sameFunction: 0,
  hasImage: false,
  ...changes,
});

const request = (changes: Partial<PlacementRequest> = {}): PlacementRequest => ({
  strategy: 'spread',
  memoryMiB: 128,
  milliCPU: 10,
  tmpMiB: 0,
  takesRoom: true,
  ...changes,
});

const chosen = (candidates: readonly Candidate[], changes?: Partial<PlacementRequest>) => {
  const placement = place(request(changes), candidates);
  return placement.kind === 'placed' ? placement.nodeName : placement.reason;
};

describe('place', () => {
  it('counts /tmp as memory, but on nodes that have a disk for it', () => {
    const disk = { capacityMiB: 1_000, usedMiB: 600 };
    const [memory, onDisk] = [candidate('a'), candidate('b', { disk })];
    expect(chosen([memory], { memoryMiB: 900, tmpMiB: 200 })).toBe('NoneFits');
    expect(chosen([memory, onDisk], { memoryMiB: 900, tmpMiB: 200 })).toBe('b');
    expect(chosen([onDisk], { tmpMiB: 401 })).toBe('NoneFits');
    expect(chosen([onDisk], { tmpMiB: 401, takesRoom: false })).toBe('b');
    expect(place(request({ tmpMiB: 401 }), [onDisk])).toMatchObject({
      message: 'no node will do: all without 401 MiB of disk to spare for /tmp',
    });
    expect(place(request({ tmpMiB: 1_001, takesRoom: false }), [onDisk, memory])).toMatchObject({
      message: 'no node will do: most smaller than 1129 MiB, most with a disk too small for 1001 MiB of /tmp',
    });
  });

  it('spreads the workers of one function, even away from the node that has the image', () => {
    const nodes = [candidate('a', { sameFunction: 1, hasImage: true, assigned: 1 }), candidate('b')];
    expect(chosen(nodes)).toBe('b');
  });

  it('prefers the node that has the image where nothing else differs', () => {
    expect(chosen([candidate('a'), candidate('b', { hasImage: true })])).toBe('b');
  });

  it('prefers the node that has the image to one with more room', () => {
    const fuller = candidate('b', { hasImage: true, used: { memoryMiB: 896, milliCPU: 0, workers: 7 }, assigned: 7 });
    expect(chosen([candidate('a'), fuller])).toBe('b');
  });

  it('prefers the node with more room', () => {
    expect(chosen([candidate('a', { used: { memoryMiB: 512, milliCPU: 0, workers: 1 } }), candidate('b')])).toBe('b');
    expect(chosen([candidate('a', { used: { memoryMiB: 0, milliCPU: 0, workers: 9 } }), candidate('b')])).toBe('b');
  });

  it('puts a worker where the CPU that it asks for is free, and counts none where an agent says nothing of CPU', () => {
    const cores = (milliCPU: number, used: number) =>
      ({
        capacity: { memoryMiB: 1024, milliCPU, workers: 10 },
        used: { memoryMiB: 0, milliCPU: used, workers: 0 },
      }) as const;
    const nodes = [candidate('a', cores(1_000, 700)), candidate('b', cores(400, 0))];
    expect(chosen(nodes, { milliCPU: 400 })).toBe('b');
    expect(chosen(nodes, { milliCPU: 500 })).toBe('NoneFits');
    expect(place(request({ milliCPU: 500 }), nodes)).toMatchObject({
      message: 'no node will do: most with less CPU than 500m, most without 500m of CPU to spare',
    });
    // One that rests Absent takes none until it is called.
    expect(chosen(nodes, { milliCPU: 500, takesRoom: false })).toBe('a');
    expect(chosen([...nodes, candidate('c')], { milliCPU: 500 })).toBe('c');
  });

  it('prefers the fullest node, by whichever of memory, CPU and number is fullest, or the emptiest', () => {
    const half = { capacity: { memoryMiB: 1024, milliCPU: 1_000, workers: 10 } };
    const busy = candidate('a', { ...half, used: { memoryMiB: 0, milliCPU: 800, workers: 0 } });
    const other = candidate('b', { ...half, used: { memoryMiB: 512, milliCPU: 0, workers: 5 } });
    expect(chosen([busy, other], { strategy: 'pack' })).toBe('a');
    expect(chosen([busy, other], { strategy: 'spread' })).toBe('b');
  });

  it('keeps a worker off processors that its image is not made for, and names them', () => {
    const nodes = [candidate('a', { architecture: 'arm64' }), candidate('b', { architecture: 'amd64' })];
    expect(chosen(nodes, { unfitArchitectures: ['arm64'] })).toBe('b');
    expect(chosen(nodes, { unfitArchitectures: ['amd64', 's390x'] })).toBe('a');
    expect(place(request({ unfitArchitectures: ['amd64', 'arm64'] }), nodes)).toMatchObject({
      reason: 'WrongArchitecture',
      message: 'no node will do: all with a processor that the image is not made for (amd64, arm64)',
    });
    // A node whose processor is unknown is not ruled out.
    expect(chosen([candidate('c')], { unfitArchitectures: ['amd64'] })).toBe('c');
  });

  it('spreads workers that take no room by their number', () => {
    expect(chosen([candidate('a', { assigned: 3 }), candidate('b', { assigned: 2 })], { takesRoom: false })).toBe('b');
  });

  describe('that packs', () => {
    const packed = (candidates: readonly Candidate[], changes?: Partial<PlacementRequest>) =>
      chosen(candidates, { strategy: 'pack', ...changes });

    it('prefers the fullest node that has room', () => {
      const half = candidate('b', { used: { memoryMiB: 512, milliCPU: 0, workers: 4 }, assigned: 4, assignedMiB: 512 });
      const full = candidate('c', {
        used: { memoryMiB: 1_000, milliCPU: 0, workers: 8 },
        assigned: 8,
        assignedMiB: 1_000,
      });
      expect(packed([candidate('a'), half, full])).toBe('b');
    });

    it('puts workers that rest where others are, as long as all of them could be there at once', () => {
      const some = candidate('b', { assigned: 3, assignedMiB: 384 });
      expect(packed([candidate('a'), some], { takesRoom: false })).toBe('b');
      const many = candidate('b', { assigned: 8, assignedMiB: 1_000 });
      expect(packed([candidate('a'), many], { takesRoom: false })).toBe('a');
      expect(packed([candidate('a', { assigned: 9, assignedMiB: 1_000 }), many], { takesRoom: false })).toBe('a');
    });

    it('spreads the workers of one function over the image and fullness, however many there are', () => {
      const more = {
        sameFunction: 10,
        assigned: 10,
        assignedMiB: 640,
        used: { memoryMiB: 640, milliCPU: 0, workers: 9 },
        hasImage: true,
      };
      expect(packed([candidate('a', more), candidate('b', { sameFunction: 9 })], { memoryMiB: 64 })).toBe('b');
    });

    it('spreads the workers of one function all the same', () => {
      const one = { sameFunction: 1, assigned: 1, assignedMiB: 128, used: { memoryMiB: 128, milliCPU: 0, workers: 1 } };
      expect(packed([candidate('a', one), candidate('b')])).toBe('b');
    });

    it('prefers the node that has the image to a fuller one', () => {
      const fuller = candidate('b', {
        used: { memoryMiB: 512, milliCPU: 0, workers: 4 },
        assigned: 4,
        assignedMiB: 512,
      });
      expect(packed([candidate('a', { hasImage: true }), fuller])).toBe('a');
    });
  });

  it('takes a silent node only when there is no other', () => {
    const silent = candidate('a', { fresh: false, hasImage: true });
    expect(chosen([silent, candidate('b', { used: { memoryMiB: 512, milliCPU: 0, workers: 5 } })])).toBe('b');
    expect(chosen([silent])).toBe('a');
  });

  it('honours labels, cordon, readiness and the pin', () => {
    const zoned = candidate('z', { labels: { zone: 'a' } });
    expect(chosen([candidate('a'), zoned], { nodeSelector: { zone: 'a' } })).toBe('z');
    expect(chosen([candidate('a', { closed: 'cordoned' }), zoned])).toBe('z');
    expect(chosen([candidate('a', { ready: false }), zoned])).toBe('z');
    expect(chosen([candidate('a'), zoned], { nodeName: 'z' })).toBe('z');
    expect(chosen([candidate('a'), zoned], { exclude: 'a' })).toBe('z');
  });

  it('keeps workers out of tainted and closed nodes, and of discouraged ones while there are others', () => {
    expect(chosen([candidate('a', { taints: 'barred' }), candidate('b', { assigned: 5 })])).toBe('b');
    expect(chosen([candidate('a', { taints: 'discouraged', hasImage: true }), candidate('b')])).toBe('b');
    expect(chosen([candidate('a', { taints: 'discouraged' })])).toBe('a');
    for (const closed of ['retired', 'draining', 'unheld'] as const) {
      expect(chosen([candidate('a', { closed }), candidate('b', { assigned: 5 })])).toBe('b');
    }
  });

  describe('with a spread over zones', () => {
    const spread = { topologyKey: 'zone', maxSkew: 1, whenUnsatisfiable: 'DoNotSchedule' } as const;
    const inZone = (name: string, zone: string, changes: Partial<Candidate> = {}) =>
      candidate(name, { labels: { zone }, ...changes });

    it('goes where it leaves no zone too far ahead, even to a fuller node', () => {
      const nodes = [
        inZone('a1', 'a', { sameFunction: 1 }),
        inZone('a2', 'a'),
        inZone('b1', 'b', { sameFunction: 0, assigned: 9, used: { memoryMiB: 800, milliCPU: 0, workers: 9 } }),
      ];
      expect(chosen(nodes, { spread })).toBe('b1');
      expect(chosen(nodes, { spread: { ...spread, maxSkew: 2 } })).toBe('a2');
    });

    it('waits while the zone that is behind has no room, and takes what is there where it may', () => {
      const nodes = [
        inZone('a1', 'a', { sameFunction: 1 }),
        inZone('b1', 'b', { used: { memoryMiB: 1024, milliCPU: 0, workers: 9 } }),
      ];
      expect(chosen(nodes, { spread })).toBe('SpreadUnmet');
      expect(chosen(nodes, { spread: { ...spread, whenUnsatisfiable: 'ScheduleAnyway' } })).toBe('a1');
    });

    it('does not measure by a zone that could not take a worker anyway', () => {
      const ahead = inZone('a1', 'a', { sameFunction: 3 });
      expect(chosen([ahead, inZone('b1', 'b', { ready: false })], { spread })).toBe('a1');
      expect(chosen([ahead, inZone('b1', 'b', { closed: 'cordoned' })], { spread })).toBe('a1');
      expect(chosen([ahead, inZone('b1', 'b', { taints: 'barred' })], { spread })).toBe('a1');
      expect(chosen([ahead, inZone('b1', 'b')], { spread })).toBe('b1');
    });

    it('does not count a worker where it leaves', () => {
      const nodes = [
        inZone('a1', 'a', { sameFunction: 1, closed: 'draining' }),
        inZone('a2', 'a'),
        inZone('b1', 'b', { sameFunction: 0, used: { memoryMiB: 1024, milliCPU: 0, workers: 9 } }),
      ];
      expect(chosen(nodes, { spread })).toBe('SpreadUnmet');
      expect(chosen(nodes, { spread, leaves: 'a1' })).toBe('a2');
    });

    it('leaves out nodes without the label, or takes them last', () => {
      const nodes = [candidate('none'), inZone('a1', 'a', { sameFunction: 4 })];
      expect(chosen(nodes, { spread })).toBe('a1');
      expect(chosen([candidate('none')], { spread })).toBe('SpreadUnmet');
      const anyway = { ...spread, whenUnsatisfiable: 'ScheduleAnyway' } as const;
      expect(chosen(nodes, { spread: anyway })).toBe('a1');
      expect(chosen([candidate('none')], { spread: anyway })).toBe('none');
    });

    it('goes to the zone with fewest where the rest is a wish', () => {
      const nodes = [inZone('a1', 'a', { sameFunction: 2 }), inZone('a2', 'a'), inZone('b1', 'b', { sameFunction: 1 })];
      expect(chosen(nodes, { spread: { ...spread, whenUnsatisfiable: 'ScheduleAnyway' } })).toBe('b1');
    });
  });

  it.each<[string, Candidate[], Partial<PlacementRequest>, string, string]>([
    ['there is no node', [], {}, 'NoNodes', 'no agent has registered'],
    ['none is ready', [candidate('a', { ready: false })], {}, 'NoneReady', 'all not ready'],
    ['all are cordoned', [candidate('a', { closed: 'cordoned' })], {}, 'AllCordoned', 'all cordoned'],
    ['all are tainted', [candidate('a', { taints: 'barred' })], {}, 'NoneTolerated', 'spec.tolerations'],
    ['all are retired', [candidate('a', { closed: 'retired' })], {}, 'AllCordoned', 'all retired'],
    ['all are drained', [candidate('a', { closed: 'draining' })], {}, 'AllCordoned', 'all being drained'],
    ['Pods have the memory', [candidate('a', { closed: 'unheld' })], {}, 'NoneHeld', 'reservation'],
    ['none has the labels', [candidate('a')], { nodeSelector: { zone: 'a' } }, 'NoneMatches', 'spec.nodeSelector'],
    [
      'all are full',
      [candidate('a', { used: { memoryMiB: 1000, milliCPU: 0, workers: 1 } })],
      {},
      'NoneFits',
      'without 128 MiB',
    ],
    [
      'no place is left',
      [candidate('a', { used: { memoryMiB: 0, milliCPU: 0, workers: 10 } })],
      {},
      'NoneFits',
      'to spare',
    ],
    ['all are too small', [candidate('a')], { memoryMiB: 2048, takesRoom: false }, 'NoneFits', 'smaller than 2048 MiB'],
    [
      'the pinned node is missing',
      [candidate('a')],
      { nodeName: 'b' },
      'PinnedNodeMissing',
      'no LambdaNode of that name',
    ],
    [
      'the pinned node is cordoned',
      [candidate('a', { closed: 'cordoned' })],
      { nodeName: 'a' },
      'PinnedNodeUnfit',
      'cordoned',
    ],
  ])('says so when %s', (_when, nodes, changes, reason, message) => {
    expect(place(request(changes), nodes)).toMatchObject({
      kind: 'refused',
      reason,
      message: expect.stringContaining(message) as string,
    });
  });

  it('says roughly what is in the way, and counts it for the Event alone', () => {
    const nodes = [
      candidate('a', { closed: 'cordoned' }),
      candidate('b', { ready: false }),
      candidate('c', { ready: false }),
      candidate('d', { used: { memoryMiB: 1024, milliCPU: 0, workers: 1 } }),
    ];
    expect(place(request(), nodes)).toMatchObject({
      reason: 'NoneFits',
      message: 'no node will do: most not ready, some cordoned, some without 128 MiB to spare',
      detail: 'none of 4 nodes will do: 2 not ready, 1 cordoned, 1 without 128 MiB to spare',
      leaving: false,
    });
    expect(place(request(), [candidate('a', { ready: false })])).toMatchObject({
      message: 'no node will do: all not ready',
    });
  });

  it('says the same while a few of many nodes come and go', () => {
    const full = { used: { memoryMiB: 1024, milliCPU: 0, workers: 1 } };
    const nodes = Array.from({ length: 100 }, (_, index) => candidate(`n${index}`, full));
    const message = 'no node will do: all or nearly all without 128 MiB to spare';
    expect(place(request(), nodes)).toMatchObject({ reason: 'NoneFits', message });
    const [first, second, ...others] = nodes;
    const fewer = [{ ...first, ready: false }, { ...second, closed: 'cordoned' }, ...others] as Candidate[];
    expect(place(request(), fewer)).toMatchObject({ reason: 'NoneFits', message });
    expect(place(request(), others)).toMatchObject({ reason: 'NoneFits', message });
  });

  it('always names what gives the reason', () => {
    const away = Array.from({ length: 20 }, (_, index) => candidate(`n${index}`, { ready: false }));
    const full = candidate('full', { used: { memoryMiB: 1024, milliCPU: 0, workers: 1 } });
    expect(place(request(), [...away, full])).toMatchObject({
      reason: 'NoneFits',
      message: 'no node will do: all or nearly all not ready, few without 128 MiB to spare',
    });
  });

  it('tells whether ESB has no node or leaves each of them', () => {
    const retired = candidate('a', { closed: 'retired', ready: false });
    expect(place(request(), [])).toMatchObject({ leaving: true });
    expect(place(request(), [retired])).toMatchObject({ leaving: true });
    expect(place(request({ nodeName: 'a' }), [retired])).toMatchObject({ leaving: true });
    expect(place(request(), [retired, candidate('b', { ready: false })])).toMatchObject({ leaving: false });
  });
});

const disks = [undefined, { capacityMiB: 512, usedMiB: 0 }, { capacityMiB: 512, usedMiB: 480 }];

const candidates = fc
  .uniqueArray(
    fc.record({
      name: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      labels: fc.constantFrom({}, { zone: 'x' }, { zone: 'y' }),
      ready: fc.boolean(),
      fresh: fc.boolean(),
      closed: fc.constantFrom(
        undefined,
        'cordoned' as const,
        'retired' as const,
        'draining' as const,
        'unheld' as const,
      ),
      taints: fc.constantFrom('free' as const, 'free' as const, 'discouraged' as const, 'barred' as const),
      capacity: fc.record({
        memoryMiB: fc.integer({ min: 0, max: 1024 }),
        milliCPU: fc.integer({ min: 0, max: 400 }),
        workers: fc.integer({ min: 0, max: 5 }),
      }),
      used: fc.record({
        memoryMiB: fc.integer({ min: 0, max: 1200 }),
        milliCPU: fc.integer({ min: 0, max: 500 }),
        workers: fc.integer({ min: 0, max: 6 }),
      }),
      assigned: fc.integer({ min: 0, max: 9 }),
      assignedMiB: fc.integer({ min: 0, max: 2_000 }),
      sameFunction: fc.integer({ min: 0, max: 3 }),
      hasImage: fc.boolean(),
      disk: fc.constantFrom(...disks),
    }),
    { selector: (one) => one.name },
  )
  .map((list): readonly Candidate[] => list.map(({ disk, ...one }) => (disk === undefined ? one : { ...one, disk })));

const requests: fc.Arbitrary<PlacementRequest> = fc.record(
  {
    strategy: fc.constantFrom('pack', 'spread'),
    memoryMiB: fc.integer({ min: 6, max: 1024 }),
    milliCPU: fc.integer({ min: 0, max: 300 }),
    tmpMiB: fc.constantFrom(0, 64, 512),
    takesRoom: fc.boolean(),
    nodeName: fc.constantFrom('a', 'b', undefined),
    nodeSelector: fc.constantFrom({}, { zone: 'x' }),
    exclude: fc.constantFrom('a', undefined),
  },
  { requiredKeys: ['strategy', 'memoryMiB', 'tmpMiB', 'milliCPU', 'takesRoom'] },
);

const memoryOn = (one: Candidate, { memoryMiB, tmpMiB }: PlacementRequest): number =>
  one.disk === undefined ? memoryMiB + tmpMiB : memoryMiB;

const isFit = (one: Candidate, wish: PlacementRequest): boolean =>
  one.ready &&
  one.closed === undefined &&
  one.taints !== 'barred' &&
  one.name !== wish.exclude &&
  (wish.nodeName === undefined || one.name === wish.nodeName) &&
  Object.entries(wish.nodeSelector ?? {}).every(([name, value]) => one.labels[name] === value) &&
  one.capacity.workers > 0 &&
  memoryOn(one, wish) <= one.capacity.memoryMiB &&
  (one.disk === undefined || wish.tmpMiB <= one.disk.capacityMiB) &&
  wish.milliCPU + (wish.takesRoom ? one.used.milliCPU : 0) <= one.capacity.milliCPU &&
  (!wish.takesRoom ||
    (one.used.workers < one.capacity.workers &&
      one.used.memoryMiB + memoryOn(one, wish) <= one.capacity.memoryMiB &&
      (one.disk === undefined || one.disk.usedMiB + wish.tmpMiB <= one.disk.capacityMiB)));

describe('place, whatever the nodes', () => {
  it('finds a node exactly when one fits, and never one that does not', () => {
    fc.assert(
      fc.property(candidates, requests, (nodes, wish) => {
        const fitting = nodes.filter((one) => isFit(one, wish)).map((one) => one.name);
        const placement = place(wish, nodes);
        if (placement.kind === 'placed') {
          expect(fitting).toContain(placement.nodeName);
        } else {
          expect(fitting).toEqual([]);
          expect(placement.message).not.toBe('');
        }
      }),
    );
  });

  it('gives the same answer in whatever order they come', () => {
    fc.assert(
      fc.property(candidates, requests, (nodes, wish) => {
        expect(place(wish, nodes.toReversed())).toEqual(place(wish, nodes));
      }),
    );
  });
});
