import { describe, expect, it } from 'vitest';
import { desiredFixture, FleetLab } from '../../../support/fleet-lab.ts';
import { settle } from '../../../support/manual-clock.ts';

/** A worker that was called once, and the changes of it that those who watch the node get from now on. */
async function watched(change: Parameters<typeof desiredFixture>[0] = {}): Promise<{ lab: FleetLab; told: string[] }> {
  const lab = await FleetLab.with(desiredFixture(change));
  const first = lab.invoke();
  await settle();
  lab.emulators.answerAll();
  await first;
  await lab.clock.advance(11_000);
  const told: string[] = [];
  lab.fleet.subscribe({
    changed: ({ inFlight, phase }) => void told.push(`${phase} ${inFlight}`),
    removed: () => void told.push('removed'),
  });
  return { lab, told };
}

const inFlight = (lab: FleetLab): number | undefined => lab.fleet.view('uid-of-hello')?.inFlight;

describe('those who watch a node', () => {
  it('get the number of calls 20 ms after it has changed, and not of each call', async () => {
    const { lab, told } = await watched();
    for (let each = 0; each < 5; each += 1) {
      const call = lab.invoke();
      expect(inFlight(lab), 'whoever looks sees all calls').toBe(1);
      lab.emulators.answerAll();
      await call;
    }
    const [long] = [lab.invoke(), lab.invoke()];
    await lab.clock.advance(19);
    expect(told).toEqual([]);
    await lab.clock.advance(1);
    expect(told).toEqual(['Running 2']);
    lab.emulators.answerAll();
    await long;
    await lab.clock.advance(20);
    expect(told).toEqual(['Running 2', 'Running 1']);
    await lab.clock.advance(1_000);
    expect(told).toHaveLength(2);
  });

  it('learn of the end of a call that one of them has seen in a first look', async () => {
    const { lab, told } = await watched();
    const call = lab.invoke();
    expect(inFlight(lab)).toBe(1);
    lab.emulators.answerAll();
    await call;
    await lab.clock.advance(20);
    expect(told).toEqual(['Running 0']);
  });

  it('learn of another phase at once, and then of the calls that wait', async () => {
    const { lab, told } = await watched();
    lab.fleet.apply(desiredFixture({ restingState: 'Paused', generation: 2 }));
    await settle();
    expect(told.filter((view) => !view.startsWith('Running'))).toEqual(['Pausing 0', 'Paused 0']);
    const call = lab.invoke();
    await lab.clock.advance(20);
    expect(told.at(-1)).toBe('Paused 1');
    lab.emulators.answerAll();
    await call;
  });

  it('learn nothing more of a worker once it is gone', async () => {
    const { lab, told } = await watched();
    lab.fleet.release('uid-of-hello');
    await lab.clock.advance(60_000);
    expect(told.at(-1)).toBe('removed');
    expect(inFlight(lab)).toBeUndefined();
  });
});
