import { describe, expect, it } from 'vitest';
import { actionText, faultKinds, type Step } from '../../chaos/step.ts';
import { type WalkOptions, walk } from '../../chaos/walk.ts';

function steps(count: number, options: Partial<WalkOptions> = {}): Step[] {
  const all = walk({ seed: 7, workers: 50, faults: faultKinds, longestFaultMs: 60_000, pace: 1, ...options });
  return all.take(count).toArray();
}

describe('a walk', () => {
  it('is the same for the same seed and options, and begins as a longer one does', () => {
    expect(steps(500)).toEqual(steps(500));
    expect(steps(2_000).slice(0, 500)).toEqual(steps(500));
    expect(steps(500, { seed: 8 })).not.toEqual(steps(500));
  });

  it('does everything to every kind of part within 2,000 steps, whatever the seed', () => {
    const seen: string[] = [];
    for (const seed of [0, 1, 2, 3, 20_261_125]) {
      const texts = steps(2_000, { seed }).map(({ action }) => actionText(action));
      for (const what of [
        'create',
        'rest',
        'change',
        'delete',
        'call',
        'crash',
        ...['agent', 'containerd', 'shim', 'chaos-', 'gateway', 'controller', 'API server'].flatMap((part) => [
          `SIGKILL ${part}`,
          `SIGSTOP ${part}`,
        ]),
        'plugin bridge',
        'plugin host-local',
        'disk of node-',
        'clock ',
        'SIGKILL init of chaos-',
        'SIGKILL runtime of chaos-',
      ]) {
        expect(
          texts.filter((text) => text.startsWith(what)),
          `${what} by seed ${seed}`,
        ).not.toEqual([]);
      }
      expect(texts.some((text) => /^SIGKILL init of chaos-\d[02468] with its agent$/.test(text))).toBe(true);
      for (const how of ['fails for', 'fails-late for', 'hangs for', 'garbage for']) {
        expect(
          texts.some((text) => text.includes(how)),
          `${how} by seed ${seed}`,
        ).toBe(true);
      }
      seen.push(...texts);
    }
    // Too rare to be in each of them.
    for (const what of ['disk of node-1', 'disk of node-2', 'clock -7200 s', 'clock +7200 s']) {
      expect(seen.some((text) => text.startsWith(what))).toBe(true);
    }
  });

  it('creates what is not there, and changes, calls and deletes what is', () => {
    const there = new Set<string>();
    for (const { action } of steps(2_000)) {
      switch (action.kind) {
        case 'create':
          expect(there).not.toContain(action.worker);
          there.add(action.worker);
          break;
        case 'delete':
          expect(there).toContain(action.worker);
          there.delete(action.worker);
          break;
        case 'rest':
        case 'change':
        case 'call':
        case 'crash':
          expect(there).toContain(action.worker);
          break;
        case 'fault':
          break;
        default:
          action satisfies never;
      }
    }
    expect(there.size).toBeLessThanOrEqual(50);
  });

  it('does only the faults that it is told to, and none longer than that', () => {
    const only = steps(2_000, { faults: ['plugin'], longestFaultMs: 1_000 }).flatMap(({ action }) =>
      action.kind === 'fault' ? [action.fault] : [],
    );
    expect(only.length).toBeGreaterThan(50);
    expect(only.every((fault) => fault.kind === 'plugin' && fault.forMs <= 1_000)).toBe(true);
    expect(steps(2_000, { faults: [] }).some(({ action }) => action.kind === 'fault')).toBe(false);
  });

  it('stops a shim for good and containerd for 60 s within 300 steps, whatever the seed', () => {
    for (const seed of [0, 1, 91, 20_261_125]) {
      const texts = steps(300, { seed }).map(({ action }) => actionText(action));
      expect(texts.filter((text) => /^SIGSTOP shim of chaos-.. for good$/.test(text)).length).toBeGreaterThan(3);
      expect(texts.filter((text) => /^outage of containerd of node-. for 60000 ms$/.test(text))).toHaveLength(2);
    }
  });

  it('goes the same way at another pace', () => {
    const slow = steps(500, { pace: 3 });
    expect(slow.map(({ action }) => action)).toEqual(steps(500).map(({ action }) => action));
    expect(slow.map(({ waitMs }) => waitMs)).toEqual(steps(500).map(({ waitMs }) => waitMs * 3));
  });
});
