import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NodeLiveness } from '../../../../src/controller/scheduling/liveness.ts';

/** Readings at moments of a clock of its own; each node has a count of renewals. */
class Scene {
  readonly liveness = new NodeLiveness();
  readonly renewals = new Map<string, number>();
  now = 1000;

  constructor(...nodes: string[]) {
    for (const node of nodes) {
      this.renewals.set(node, 1);
    }
    this.read();
  }

  read(): readonly string[] {
    return this.liveness.observe({
      at: this.now,
      nodes: [...this.renewals.keys()],
      stamps: new Map([...this.renewals].filter(([, count]) => count > 0).map(([node, count]) => [node, `${count}`])),
    });
  }

  /** Reads every 5 s for so long; `renewing` nodes renew every 10 s. */
  pass(seconds: number, ...renewing: string[]): string[] {
    const changed: string[] = [];
    for (let elapsed = 5; elapsed <= seconds; elapsed += 5) {
      this.now += 5000;
      if (elapsed % 10 === 0) {
        this.renew(...renewing);
      }
      changed.push(...this.read());
    }
    return changed;
  }

  renew(...nodes: string[]): void {
    for (const node of nodes) {
      this.renewals.set(node, (this.renewals.get(node) ?? 0) + 1);
    }
  }

  of(node: string) {
    return this.liveness.of(node);
  }
}

describe('a node', () => {
  it('is fresh while it renews', () => {
    const scene = new Scene('a', 'b');
    expect(scene.pass(300, 'a', 'b')).toEqual([]);
    expect(scene.of('a')).toBe('fresh');
  });

  it('is quiet after 20 s and lost after 40 s of readings without a renewal', () => {
    const scene = new Scene('a', 'b');
    expect(scene.pass(15, 'b')).toEqual([]);
    expect(scene.pass(5, 'b')).toEqual(['a']);
    expect(scene.of('a')).toBe('quiet');
    expect(scene.pass(15, 'b')).toEqual([]);
    expect(scene.pass(10, 'b')).toEqual(['a']);
    expect(scene.of('a')).toBe('lost');
    expect(scene.of('b')).toBe('fresh');
  });

  it('stays lost until it renews, and is fresh at once then', () => {
    const scene = new Scene('a', 'b');
    scene.pass(600, 'b');
    expect(scene.of('a')).toBe('lost');
    scene.renew('a');
    scene.now += 5000;
    expect(scene.read()).toEqual(['a']);
    expect(scene.of('a')).toBe('fresh');
  });

  it('whose Lease was never there is lost as well, counted from when it was first seen', () => {
    const scene = new Scene('b');
    scene.renewals.set('a', 0);
    scene.pass(30, 'b');
    expect(scene.of('a')).toBe('quiet');
    scene.pass(20, 'b');
    expect(scene.of('a')).toBe('lost');
  });

  it('is not lost by a time in which the API server could not be read', () => {
    const scene = new Scene('a', 'b');
    scene.pass(10, 'a', 'b');
    scene.now += 60_000;
    expect(scene.read()).toEqual([]);
    expect(scene.pass(300, 'a', 'b')).toEqual([]);
  });

  it('is not lost when no node renews: it is the API server or ourselves', () => {
    const scene = new Scene('a', 'b', 'c');
    scene.pass(600);
    expect(['a', 'b', 'c'].map((node) => scene.of(node))).toEqual(['quiet', 'quiet', 'quiet']);
  });

  it('gets its time when the others come back before it', () => {
    const scene = new Scene('a', 'b');
    scene.pass(600);
    scene.pass(10, 'b');
    expect(scene.of('a')).toBe('quiet');
    scene.pass(40, 'b');
    expect(scene.of('a')).toBe('lost');
  });

  it('that is the only one is lost by its own silence, for there is nowhere to move its workers', () => {
    const scene = new Scene('a');
    scene.pass(45);
    expect(scene.of('a')).toBe('lost');
  });

  it('that is not known yet counts as fresh', () => {
    expect(new Scene('a').of('z')).toBe('fresh');
  });
});

describe('whatever the times between readings', () => {
  const gaps = fc.array(fc.integer({ min: 0, max: 300_000 }), { minLength: 1, maxLength: 60 });

  it('a node that renews between each two is never lost, nor quiet', () => {
    fc.assert(
      fc.property(gaps, (list) => {
        const scene = new Scene('a', 'b');
        for (const gap of list) {
          scene.now += gap;
          scene.renew('a');
          scene.read();
          expect(scene.of('a')).toBe('fresh');
        }
      }),
    );
  });

  it('no two readings lose a node, and never fewer than four after its last renewal', () => {
    fc.assert(
      fc.property(gaps, (list) => {
        const scene = new Scene('a', 'b');
        list.forEach((gap, index) => {
          scene.now += gap;
          scene.renew('b');
          scene.read();
          if (index < 3) {
            expect(scene.of('a')).not.toBe('lost');
          }
        });
      }),
    );
  });

  it('with nobody renewing, nobody is lost', () => {
    fc.assert(
      fc.property(gaps, (list) => {
        const scene = new Scene('a', 'b', 'c');
        for (const gap of list) {
          scene.now += gap;
          scene.read();
        }
        expect(['a', 'b', 'c'].map((node) => scene.of(node))).not.toContain('lost');
      }),
    );
  });
});
