import { beforeEach, describe, expect, it } from 'vitest';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('a fleet with a worker that takes several calls at once', () => {
  let lab: FleetLab;
  const inIt = (): readonly string[] => lab.inits.calls.map(({ request }) => request.requestId);
  const invoke = (count: number) =>
    Array.from({ length: count }, (_, index) => lab.invoke({ requestId: `call-${index}` }));

  beforeEach(async () => {
    lab = new FleetLab();
    lab.inits.perWorker = 4;
    await lab.fleet.adopt();
    lab.fleet.apply(desiredFixture({ runtimeInterface: 'Lambda', perWorker: 4 }));
    await settle();
    lab.inits.tell(lab.container(), { places: 4, held: 0 });
    await settle();
  });

  it('has as many in the worker as it takes, each with its own answer', async () => {
    const calls = invoke(6);
    await settle();
    expect(inIt()).toEqual(['call-0', 'call-1', 'call-2', 'call-3']);
    lab.inits.calls[1]?.answer('"one"');
    await settle();
    expect(await calls[1]).toMatchObject({ kind: 'Answered' });
    expect(inIt()).toEqual(['call-0', 'call-2', 'call-3', 'call-4']);
    await lab.clock.advance(20);
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ inFlight: 5, perWorker: 4, places: 4 });
    expect(lab.inits.violations).toEqual([]);
  });

  it('tells gateways of fewer places while calls hold some whose time is over', async () => {
    lab.inits.tell(lab.container(), { held: 1 });
    await lab.clock.advance(20);
    expect(lab.fleet.view('uid-of-hello')).toMatchObject({ places: 3 });
  });

  it('sends a call again that no runtime took, beside the others', async () => {
    const calls = invoke(2);
    await settle();
    const end = { outcome: 'NotStarted', size: 0, durationUs: 0 } as const;
    lab.inits.calls[0]?.end({ kind: 'Ended', end });
    await settle();
    await lab.clock.advance(10);
    await settle();
    expect(inIt()).toEqual(['call-1', 'call-0']);
    lab.inits.answerAll();
    await settle();
    expect(await Promise.all(calls)).toMatchObject([{ kind: 'Answered' }, { kind: 'Answered' }]);
    expect(lab.phase()).toBe('Running');
  });

  it('leaves those in the worker to the next agent, and refuses the others', async () => {
    const calls = invoke(6);
    await settle();
    await lab.fleet.stop(0);
    const ends = await Promise.all(calls);
    expect(ends.map((end) => (end.kind === 'Answered' ? '' : 'reason' in end ? end.reason : ''))).toEqual([
      ...Array(4).fill('AgentStopped'),
      ...Array(2).fill('Unavailable'),
    ]);
  });

  it('has calls in two containers at most, however often its shape changes', async () => {
    const running = (): readonly string[] =>
      [...lab.runtime.containers.keys()].filter((id) => lab.runtime.taskOf(id) === 'Running');
    const change = async (shape: number): Promise<number> => {
      const spec = { perWorker: 4, timeoutSeconds: 900, shapeHash: `v1-${shape}`, generation: shape };
      lab.fleet.apply(desiredFixture({ runtimeInterface: 'Lambda', ...spec }));
      await settle();
      await lab.clock.advance(100);
      void lab.invoke({ requestId: `call-${shape}` });
      await settle();
      return running().length;
    };
    void lab.invoke({ requestId: 'call-1' });
    await settle();
    const counts: number[] = [];
    for (let shape = 2; shape < 8; shape += 1) {
      counts.push(await change(shape));
    }
    expect(Math.max(...counts)).toBe(2);
    expect(lab.inits.violations).toEqual([]);
    // A record is written before a container goes.
    const last = lab.container('hello', 'v1-7');
    await waitFor('the last shape alone', async () => {
      lab.inits.answerAll();
      await settle();
      await lab.clock.advance(2_000);
      return running().length === 1 && running().includes(last);
    });
  });

  describe('whose container is of no more use with calls in it', () => {
    const running = (): readonly string[] =>
      [...lab.runtime.containers.keys()].filter((id) => lab.runtime.taskOf(id) === 'Running');
    /** Ends the use of the container by `how`. Milliseconds until another one runs; it then serves alone. */
    const replaced = async (how: (containerId: string) => void): Promise<number> => {
      const [id = ''] = running();
      how(id);
      let ms = 0;
      const other = (): string | undefined => running().find((each) => each !== id);
      for (await settle(); other() === undefined && ms < 60_000; ms += 500) {
        await lab.clock.advance(500);
        await settle();
      }
      lab.inits.tell(other() ?? '', { places: 4, held: 0 });
      // A record is written before a container goes.
      await waitFor('the other alone', async () => {
        await settle();
        await lab.clock.advance(10);
        return !running().includes(id);
      });
      return ms;
    };
    const wear = (id: string): void => lab.inits.tell(id, { places: 4, held: 2 });
    const end = (id: string): void => {
      void lab.invoke();
      lab.inits.fail(id, { errorType: 'Runtime.Unknown', message: 'a flood', bound: '60 connections' });
      lab.inits.calls.at(-1)?.end({ kind: 'Unknown', message: 'the worker ended' });
    };

    it.each([
      ['calls hold half of its places', wear],
      ['its init has ended it', end],
    ])('is replaced at once where %s, and later and later where that repeats', async (_, how) => {
      expect(await replaced(how)).toBe(0);
      const second = await replaced(how);
      expect(second).toBeGreaterThan(9_000);
      expect(second).toBeLessThan(12_000);
      expect(await replaced(how)).toBeGreaterThan(19_000);
    });

    it('is replaced at once again after it did well for long', async () => {
      expect(await replaced(wear)).toBe(0);
      await lab.clock.advance(600_000);
      expect(await replaced(wear)).toBe(0);
    });
  });

  it('lets as many wait as it takes, while it starts', async () => {
    const cold = new FleetLab();
    cold.inits.initial = { phase: 'Starting', idle: false, initMs: 0, restarts: 0 };
    await cold.fleet.adopt();
    cold.fleet.apply(desiredFixture({ runtimeInterface: 'Lambda', perWorker: 1_600 }));
    await settle();
    const refused: string[] = [];
    for (let call = 0; call < 1_601; call += 1) {
      void cold.invoke().then((end) => refused.push('reason' in end ? end.reason : end.kind));
    }
    await settle();
    expect(refused).toEqual(['QueueFull']);
  });
});
