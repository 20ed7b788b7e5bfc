import { describe, expect, it } from 'vitest';
import type { DoneFault } from '../../chaos/faults.ts';
import { allowedHang } from '../../chaos/hung-shims.ts';
import type { Fault } from '../../chaos/step.ts';

const done = (fault: Fault, from: number, to: number): DoneFault => ({ fault, from, to });
const hang = (from: number, to: number): { readonly node: string; readonly done: DoneFault } => ({
  node: 'node-1',
  done: done({ kind: 'hang', worker: 'chaos-01' }, from, to),
});
const outage = (node: string): Fault => ({ kind: 'outage', node, forMs: 60_000 });

describe('a shim that was stopped for good', () => {
  it('may be there for two minutes, whatever was done to other parts and to the other node', () => {
    const faults = [
      done({ kind: 'kill', target: { kind: 'agent', node: 'node-2' } }, 1_000, 1_000),
      done({ kind: 'stop', target: { kind: 'apiserver' }, forMs: 9_000 }, 1_000, 10_000),
      done({ kind: 'stop', target: { kind: 'shim', worker: 'chaos-02' }, forMs: 9_000 }, 1_000, 10_000),
      done(outage('node-2'), 0, 60_000),
    ];
    expect(allowedHang(hang(0, 100_000), faults)).toBe(120_000);
  });

  it('may be there for longer by what its agent and its containerd were away, and the patience that begins anew', () => {
    const faults = [
      done({ kind: 'kill', target: { kind: 'agent', node: 'node-1' } }, 1_000, 1_000),
      done(outage('node-1'), 5_000, 65_000),
      // Long over, and not begun yet.
      done(outage('node-1'), -95_000, -35_000),
      done(outage('node-1'), 200_001, 260_000),
    ];
    expect(allowedHang(hang(0, 200_000), faults)).toBe(120_000 + 30_000 + 60_000 + 30_000);
  });
});
