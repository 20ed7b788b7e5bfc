import { describe, expect, it } from 'vitest';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';

/** A node of two workers, of which one is there, that rests Absent, and room for no other is reserved. */
async function scene() {
  const lab = await FleetLab.with(desiredFixture({ restingState: 'Absent' }), {
    capacity: { memoryMiB: 300, workers: 10 },
  });
  lab.fleet.reserve(100);
  return lab;
}

describe('a call to a worker that has no room in what is reserved', () => {
  it('waits for the reservation to grow, and is answered then', async () => {
    const lab = await scene();
    const answer = lab.invoke();
    await settle();
    expect(lab.ready()).toMatchObject({ status: 'False', reason: 'NodeFull' });
    await lab.clock.advance(2_000);
    lab.fleet.reserve(300);
    await lab.clock.advance(1_000);
    lab.emulators.answerAll();
    expect(await answer).toMatchObject({ kind: 'Answered' });
  });

  it('is refused where the reservation has not grown for eight seconds', async () => {
    const lab = await scene();
    const answer = lab.invoke();
    await lab.clock.advance(8_000);
    expect(await answer).toMatchObject({ kind: 'Refused', reason: 'NodeFull' });
  });

  it('is refused at once where the node has no more to reserve', async () => {
    const lab = await FleetLab.with(desiredFixture({ restingState: 'Absent', memoryMiB: 400 }), {
      capacity: { memoryMiB: 300, workers: 10 },
    });
    lab.fleet.reserve(100);
    expect(await lab.invoke()).toMatchObject({ kind: 'Refused', reason: 'NodeFull' });
  });
});
