import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { speakerOf } from '../../../src/api/function-settings.ts';
import { FleetView } from '../../../src/gateway/agents/fleet-view.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

function worker(name: string, createdAt: string, reserved?: number) {
  return workerFixture({
    name,
    metadata: { creationTimestamp: createdAt },
    spec: {
      functionName: 'f',
      ...(reserved === undefined ? {} : { concurrency: { reserved, queueDepth: 100 } }),
    },
  });
}

function settingsOf(workers: readonly ReturnType<typeof worker>[]) {
  return speakerOf(workers.map((resource) => ({ resource })))?.resource.spec;
}

describe('the settings of a function', () => {
  it('are those of its oldest worker, whatever the younger ones say', () => {
    const workers = [worker('a', '2026-11-02T00:00:00Z', 7), worker('b', '2026-11-01T00:00:00Z', 2)];
    expect(settingsOf(workers)?.concurrency?.reserved).toBe(2);
    expect(
      settingsOf([worker('a', '2026-11-02T00:00:00Z', 7), worker('b', '2026-11-01T00:00:00Z')])?.concurrency,
    ).toBeUndefined();
  });

  it('are those of the first by name among workers of one second', () => {
    const second = '2026-11-01T00:00:00Z';
    const workers = [worker('b', second, 2), worker('a', second, 1), worker('c', second, 3)];
    expect(settingsOf(workers)?.concurrency?.reserved).toBe(1);
  });

  it('do not depend on the order in which workers are seen', () => {
    const workers = fc.uniqueArray(
      fc.record({ name: fc.constantFrom('a', 'b', 'c', 'd', 'e'), second: fc.integer({ min: 0, max: 3 }) }),
      { selector: ({ name }) => name, minLength: 1 },
    );
    fc.assert(
      fc.property(workers, fc.nat(), (made, turn) => {
        const sources = made.map(({ name, second }, index) => worker(name, `2026-11-01T00:00:0${second}Z`, index + 1));
        const at = turn % sources.length;
        expect(settingsOf([...sources.slice(at), ...sources.slice(0, at)])).toBe(settingsOf(sources));
      }),
    );
  });

  it('change in the view with the resource, and with the end of the worker that spoke', () => {
    const view = new FleetView('default');
    const speaker = worker('a', '2026-11-01T00:00:00Z', 1);
    view.applyResource(worker('b', '2026-11-02T00:00:00Z', 2));
    view.applyResource(speaker);
    const reserved = (): number | undefined => view.function('f')?.settings.concurrency?.reserved;
    expect(reserved()).toBe(1);
    view.applyResource(worker('a', '2026-11-01T00:00:00Z', 5));
    expect(reserved()).toBe(5);
    view.removeResource(speaker.metadata.uid ?? '');
    expect(reserved()).toBe(2);
  });
});
