import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type EarlierLife,
  NodeLiveness,
  type ReadNode,
  type StayReason,
} from '../../../../src/controller/nodes/liveness.ts';
import { readNodeFixture } from '../../../support/worker-fixture.ts';

/** Readings at moments of a clock of its own; each node has a count of renewals. */
class Scene {
  readonly liveness: NodeLiveness;
  readonly renewals = new Map<string, number>();
  readonly more = new Map<string, Partial<ReadNode>>();
  late: ReadonlySet<string> = new Set();
  now = 1000;

  constructor(nodes: readonly string[], earlier?: ReadonlyMap<string, EarlierLife>, late: readonly string[] = []) {
    this.liveness = new NodeLiveness(earlier);
    this.late = new Set(late);
    for (const node of nodes) {
      this.renewals.set(node, 1);
    }
    this.read();
  }

  read(): readonly string[] {
    return this.liveness.observe({
      at: this.now,
      nodes: [...this.renewals.keys()].map((name) => readNodeFixture(name, this.more.get(name))),
      stamps: new Map([...this.renewals].filter(([, count]) => count > 0).map(([node, count]) => [node, `${count}`])),
      late: this.late,
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

  lives(...nodes: string[]) {
    return nodes.map((node) => {
      const life = this.liveness.life(node);
      return life.kind === 'unreachable' ? life.because : life.kind;
    });
  }

  /** Nodes that are lost. */
  lost(): readonly string[] {
    return [...this.renewals.keys()].filter((node) => this.of(node) === 'lost');
  }
}

const names = (count: number, prefix = 'n') => Array.from({ length: count }, (_, index) => `${prefix}${index}`);

describe('a node', () => {
  it('is fresh while it renews', () => {
    const scene = new Scene(['a', 'b']);
    expect(scene.pass(300, 'a', 'b')).toEqual([]);
    expect(scene.of('a')).toBe('fresh');
  });

  it('is quiet after 20 s and lost after 40 s of readings without a renewal', () => {
    const scene = new Scene(['a', 'b']);
    expect(scene.pass(15, 'b')).toEqual([]);
    expect(scene.pass(5, 'b')).toEqual(['a']);
    expect(scene.of('a')).toBe('quiet');
    expect(scene.pass(15, 'b')).toEqual([]);
    expect(scene.pass(10, 'b')).toEqual(['a']);
    expect(scene.of('a')).toBe('lost');
    expect(scene.of('b')).toBe('fresh');
  });

  it('stays lost until it renews, and is fresh at once then', () => {
    const scene = new Scene(['a', 'b']);
    scene.pass(600, 'b');
    expect(scene.of('a')).toBe('lost');
    scene.renew('a');
    scene.now += 5000;
    expect(scene.read()).toEqual(['a']);
    expect(scene.of('a')).toBe('fresh');
  });

  it('whose Lease was never there is lost as well, counted from when it was first seen', () => {
    const scene = new Scene(['b']);
    scene.renewals.set('a', 0);
    scene.pass(30, 'b');
    expect(scene.of('a')).toBe('quiet');
    scene.pass(20, 'b');
    expect(scene.of('a')).toBe('lost');
  });

  it('is not lost by a time in which the API server could not be read', () => {
    const scene = new Scene(['a', 'b']);
    scene.pass(10, 'a', 'b');
    scene.now += 60_000;
    expect(scene.read()).toEqual([]);
    expect(scene.pass(300, 'a', 'b')).toEqual([]);
  });

  it('is not lost when no node renews: it is the API server or ourselves', () => {
    const scene = new Scene(['a', 'b', 'c']);
    scene.pass(35);
    expect(scene.lives('a', 'b', 'c')).toEqual(['quiet', 'quiet', 'quiet']);
    scene.pass(600);
    expect(scene.lives('a', 'b', 'c')).toEqual(['NoNodeHeard', 'NoNodeHeard', 'NoNodeHeard']);
  });

  it('gets its time when the others come back before it', () => {
    const scene = new Scene(['a', 'b']);
    scene.pass(600);
    scene.pass(10, 'b');
    expect(scene.of('a')).toBe('unreachable');
    scene.pass(40, 'b');
    expect(scene.of('a')).toBe('lost');
  });

  it('that is the only one is unreachable by its own silence, and keeps its workers', () => {
    const scene = new Scene(['a']);
    scene.pass(600);
    expect(scene.lives('a')).toEqual(['ManyUnreachable']);
  });

  it('that is not known yet counts as fresh', () => {
    expect(new Scene(['a']).of('z')).toBe('fresh');
  });
});

describe('a node whose agent is being started', () => {
  it('is unreachable for five minutes, and lost only then', () => {
    const scene = new Scene(['a', 'b']);
    scene.more.set('a', { agentStarting: true });
    scene.pass(45, 'b');
    expect(scene.lives('a')).toEqual(['AgentStarting']);
    scene.pass(250, 'b');
    expect(scene.lives('a')).toEqual(['AgentStarting']);
    scene.pass(20, 'b');
    expect(scene.of('a')).toBe('lost');
  });

  it('is lost soon after the start has failed', () => {
    const scene = new Scene(['a', 'b']);
    scene.more.set('a', { agentStarting: true });
    scene.pass(100, 'b');
    scene.more.clear();
    scene.pass(5, 'b');
    expect(scene.of('a')).toBe('lost');
  });
});

describe('many nodes that are silent at once', () => {
  const all = names(10);

  it('are lost one in ten seconds while most of the zone is heard', () => {
    const scene = new Scene(all);
    const heard = all.slice(4);
    const counts: number[] = [];
    for (let second = 0; second < 90; second += 10) {
      scene.pass(10, ...heard);
      counts.push(scene.lost().length);
    }
    expect(counts).toEqual([0, 0, 0, 1, 2, 3, 4, 4, 4]);
  });

  it('are not lost while most of a small zone is silent, and are as soon as the half is back', () => {
    const scene = new Scene(all);
    scene.pass(600, ...all.slice(6));
    expect(scene.lost()).toEqual([]);
    expect(scene.lives('n0')).toEqual(['ManyUnreachable']);
    scene.pass(60, ...all.slice(5));
    expect(scene.lost().length).toBeGreaterThan(0);
  });

  it('are not lost either where the first of them was silent some seconds before the others', () => {
    const scene = new Scene(all);
    for (let second = 0; second < 600; second += 5) {
      scene.now += 5_000;
      scene.renew(...(second === 0 ? all.slice(1) : all.slice(7)));
      scene.read();
    }
    expect(scene.lost()).toEqual([]);
  });

  it('are left at the usual rate where their zone is silent and another is heard', () => {
    const scene = new Scene(all);
    for (const name of all.slice(0, 4)) {
      scene.more.set(name, { zone: 'b' });
    }
    scene.pass(80, ...all.slice(4));
    expect(scene.lost()).toEqual(all.slice(0, 4));
  });

  it('are lost at once where their workers leave in any case, and count for nothing', () => {
    const scene = new Scene(all);
    for (const name of all.slice(0, 8)) {
      scene.more.set(name, { isLeft: true });
    }
    scene.pass(45, 'n9');
    expect(scene.lost()).toEqual(all.slice(0, 9));
  });
});

describe('a controller that begins to lead', () => {
  const lost: EarlierLife = { life: { kind: 'lost', isConfirmed: false }, forMs: 5_000 };
  const unreachable = (because: StayReason, forMs = 0): EarlierLife => ({
    life: { kind: 'unreachable', because },
    forMs,
  });

  it('knows which nodes were lost, before it has read anything and after', () => {
    const earlier = new Map([['a', lost]]);
    expect(new NodeLiveness(earlier).of('a')).toBe('lost');
    const scene = new Scene(['a', 'b'], earlier);
    expect(scene.of('a')).toBe('lost');
    scene.pass(300, 'b');
    expect(scene.of('a')).toBe('lost');
  });

  it('lets a node that was lost twenty seconds to come back, before its workers move', () => {
    const scene = new Scene(['a', 'b'], new Map([['a', lost]]));
    expect(scene.pass(15, 'b')).toEqual([]);
    expect(scene.liveness.life('a')).toEqual({ kind: 'lost', isConfirmed: false });
    expect(scene.pass(5, 'b')).toEqual(['a']);
    expect(scene.liveness.life('a')).toEqual({ kind: 'lost', isConfirmed: true });
    expect(scene.pass(60, 'b')).toEqual([]);
  });

  it('hears a node that has come back by its next renewal', () => {
    const scene = new Scene(['a', 'b'], new Map([['a', lost]]));
    expect(scene.pass(10, 'a', 'b')).toEqual(['a']);
    expect(scene.of('a')).toBe('fresh');
  });

  it('goes on where the leader before has left off, and gives each node twenty seconds to come back', () => {
    const scene = new Scene(['a', 'b'], new Map([['a', unreachable('RateLimited', 600_000)]]));
    scene.pass(15, 'b');
    expect(scene.lives('a')).toEqual(['RateLimited']);
    scene.pass(10, 'b');
    expect(scene.of('a')).toBe('lost');
  });

  it('does not begin anew to wait for an agent that is being started', () => {
    const scene = new Scene(['a', 'b'], new Map([['a', unreachable('AgentStarting', 200_000)]]));
    scene.more.set('a', { agentStarting: true });
    scene.pass(70, 'b');
    expect(scene.lives('a')).toEqual(['AgentStarting']);
    scene.pass(20, 'b');
    expect(scene.of('a')).toBe('lost');
  });

  it('prefers, until each was heard, nodes that have renewed their Lease lately', () => {
    const scene = new Scene(['a', 'b'], undefined, ['a']);
    expect(scene.lives('a', 'b')).toEqual(['quiet', 'fresh']);
    scene.pass(10, 'a', 'b');
    expect(scene.lives('a', 'b')).toEqual(['fresh', 'fresh']);
  });
});

describe('whatever the times between readings', () => {
  const gaps = fc.array(fc.integer({ min: 0, max: 300_000 }), { minLength: 1, maxLength: 60 });

  it('a node that renews between each two is never lost, nor quiet', () => {
    fc.assert(
      fc.property(gaps, (list) => {
        const scene = new Scene(['a', 'b']);
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
        const scene = new Scene(['a', 'b']);
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
        const scene = new Scene(['a', 'b', 'c']);
        for (const gap of list) {
          scene.now += gap;
          scene.read();
        }
        expect(['a', 'b', 'c'].map((node) => scene.of(node))).not.toContain('lost');
      }),
    );
  });
});
