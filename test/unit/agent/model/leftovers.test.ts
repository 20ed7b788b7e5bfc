import { describe, expect, it } from 'vitest';
import { audit, type HostState, type KnownState, Sightings } from '../../../../src/agent/model/leftovers.ts';
import type { NodeInventory, TraceKind } from '../../../../src/runtime/contract/inventory.ts';
import { containerNamed } from '../../../support/container-name.ts';

const traceKinds: readonly TraceKind[] = [
  'task',
  'container',
  'snapshot',
  'lease',
  'cgroup',
  'shim',
  'shim_socket',
  'runc_state',
  'mount',
];

function host(change: Partial<HostState> = {}, inventory: Partial<NodeInventory> = {}): HostState {
  return {
    inventory: {
      containers: new Set(),
      uids: new Set(),
      busy: new Set(),
      traces: [],
      writers: new Set(),
      ...inventory,
    },
    marks: [],
    records: [],
    ports: [],
    ...change,
  };
}

const known = (change: Partial<KnownState> = {}): KnownState => ({
  uids: new Set(),
  interfaces: new Set(),
  ...change,
});

describe('the audit of a node', () => {
  it.each(traceKinds)('finds a %s of a container that has no record', (kind) => {
    const traces = [{ kind, containerId: containerNamed('gone') }];
    expect(audit(host({}, { traces }), known())).toEqual([{ kind, name: containerNamed('gone'), owner: 'Container' }]);
  });

  it.each(traceKinds)('takes no notice of a %s of a container that has one, or is being worked on', (kind) => {
    const traces = [
      { kind, containerId: containerNamed('there') },
      { kind, containerId: containerNamed('making') },
    ];
    const containers = new Set([containerNamed('there')]);
    const busy = new Set([containerNamed('making')]);
    expect(audit(host({}, { traces, containers, busy }), known())).toEqual([]);
  });

  it('finds marks and records of workers that nobody knows', () => {
    expect(
      audit(
        host({ marks: ['actor', 'waiting', 'gone'], records: ['actor', 'gone'] }, { uids: new Set(['waiting']) }),
        known({ uids: new Set(['actor']) }),
      ),
    ).toEqual([
      { kind: 'mark', name: 'gone', owner: 'Worker' },
      { kind: 'record', name: 'gone', owner: 'Worker' },
    ]);
  });

  it('finds interfaces on the bridge that no result of CNI tells of', () => {
    expect(audit(host({ ports: ['vethaa', 'vethbb'] }), known({ interfaces: new Set(['vethaa']) }))).toEqual([
      { kind: 'veth', name: 'vethbb', owner: 'Network' },
    ]);
  });
});

describe('what was seen before', () => {
  const leftover = { kind: 'cgroup', name: containerNamed('a'), owner: 'Container' } as const;

  it('is due at the second look, when that comes late enough', () => {
    const sightings = new Sightings(() => 60_000);
    expect(sightings.due([leftover], 0)).toEqual([]);
    expect(sightings.due([leftover], 59_999)).toEqual([]);
    expect(sightings.due([leftover], 60_000)).toEqual([leftover]);
  });

  it('is due at no single look, however late', () => {
    expect(new Sightings(() => 0).due([leftover], 1e9)).toEqual([]);
  });

  it('counts anew when it was gone in between', () => {
    const sightings = new Sightings(() => 60_000);
    sightings.due([leftover], 0);
    sightings.due([], 100_000);
    expect(sightings.due([leftover], 200_000)).toEqual([]);
  });

  it('stays due until it is gone', () => {
    const sightings = new Sightings(() => 60_000);
    sightings.due([leftover], 0);
    expect(sightings.due([leftover], 60_000)).toEqual([leftover]);
    expect(sightings.due([leftover], 60_001)).toEqual([leftover]);
  });

  it('is told apart by kind and name', () => {
    const sightings = new Sightings(() => 10);
    sightings.due([leftover], 0);
    expect(
      sightings.due(
        [
          { ...leftover, kind: 'mount' },
          { ...leftover, name: containerNamed('b') },
        ],
        20,
      ),
    ).toEqual([]);
  });
});
