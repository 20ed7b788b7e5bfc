import { describe, expect, it } from 'vitest';
import { patienceMs } from '../../../../src/agent/sync/patience.ts';
import { viewFixture } from '../../../support/fake-fleet.ts';

const creating = viewFixture({ phase: 'Creating', transient: true });
const absent = viewFixture({ phase: 'Absent' });
const refused = { Ready: { status: 'False', reason: 'ImageNotFound', message: '' } } as const;

describe('patienceMs', () => {
  it('has a transient phase last for a second, longer beside others in one, and ten seconds at most', () => {
    expect([1, 5, 10, 50, 1_000].map((passing) => patienceMs(creating, {}, passing))).toEqual([
      1_000, 1_000, 2_000, 10_000, 10_000,
    ]);
  });

  it('has a worker rest Absent for a while only where nothing was told of it and others start', () => {
    expect(patienceMs(absent, {}, 0)).toBe(0);
    expect(patienceMs(absent, {}, 10)).toBe(2_000);
    expect(patienceMs(absent, { phase: 'Running' }, 10)).toBe(0);
    expect(patienceMs(viewFixture({ phase: 'Absent', conditions: refused }), {}, 10)).toBe(0);
    expect(patienceMs(viewFixture(), {}, 10)).toBe(0);
  });

  it('has a worker that a call started say so later beside others that start', () => {
    const running = viewFixture({ phase: 'Running', inFlight: 1 });
    expect([0, 1, 10, 50].map((passing) => patienceMs(running, {}, passing))).toEqual([0, 200, 2_000, 10_000]);
    expect(patienceMs(running, { phase: 'Creating' }, 10)).toBe(2_000);
    expect(patienceMs(running, { phase: 'Paused' }, 10)).toBe(0);
    expect(patienceMs(viewFixture({ phase: 'Failed', inFlight: 1 }), {}, 10)).toBe(0);
  });

  it('has a worker say at once that it runs after all, or again', () => {
    const running = viewFixture({ phase: 'Running', inFlight: 1 });
    expect(patienceMs(running, { phase: 'Failed' }, 50)).toBe(0);
    expect(patienceMs(running, { phase: 'Unknown' }, 50)).toBe(0);
  });

  it('has a worker with a share of reserved concurrency wait for no other', () => {
    const share = { epoch: 1, calls: 1 };
    expect(patienceMs({ ...creating, share }, {}, 50)).toBe(1_000);
    expect(patienceMs({ ...absent, share }, {}, 50)).toBe(0);
    expect(patienceMs({ ...viewFixture({ inFlight: 1 }), share }, {}, 50)).toBe(0);
  });
});
