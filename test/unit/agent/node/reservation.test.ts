import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { RESERVATION_FILE, Reservation } from '../../../../src/agent/node/reservation.ts';
import { NodeCapacity } from '../../../../src/agent/worker/node-capacity.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { waitFor } from '../../../support/wait-for.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

/** A node of 1,536 MiB; `kept` is what an earlier run was told. */
async function scene(kept?: string) {
  const folder = await mkdtemp(join(tmpdir(), 'esb-reservation-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, RESERVATION_FILE);
  if (kept !== undefined) {
    await writeFile(file, kept);
  }
  let freed = 0;
  let changes = 0;
  const fleet = new NodeCapacity({ memoryMiB: 1_536, workers: 10 }, () => freed++);
  const reservation = new Reservation({ fleet, file, onChange: () => changes++, logger: silentLogger() });
  await reservation.load();
  const told = async (memoryMiB: number | undefined) => {
    const before = changes;
    reservation.note(nodeFixture({ status: memoryMiB === undefined ? {} : { reserved: { memoryMiB, milliCPU: 0 } } }));
    await waitFor('the file', () => changes > before);
  };
  return { fleet, file, told, reservation, freed: () => freed, changes: () => changes };
}

describe('the reservation of a node', () => {
  it('bounds what workers may have together, and wakes those that wait when there is more', async () => {
    const { fleet, told, freed } = await scene();
    expect(fleet.fits('a', 192)).toBe(true);
    await told(0);
    expect(fleet.limits).toEqual({ memoryMiB: 0, workers: 10 });
    expect(fleet.fits('a', 192)).toBe(false);
    expect(freed()).toBe(0);
    await told(512);
    expect(fleet.fits('a', 512)).toBe(true);
    expect(fleet.fits('a', 513)).toBe(false);
    expect(freed()).toBe(1);
  });

  it('takes nothing from workers that are there', async () => {
    const { fleet, told } = await scene();
    fleet.hold('a', 512);
    await told(256);
    expect(fleet.allocated.memoryMiB).toBe(512);
    expect(fleet.fits('a', 512)).toBe(true);
    expect(fleet.fits('b', 64)).toBe(false);
  });

  it('is no more than the capacity, and the capacity where there is none', async () => {
    const { fleet, told } = await scene();
    await told(4_096);
    expect(fleet.limits.memoryMiB).toBe(1_536);
    await told(256);
    await told(undefined);
    expect(fleet.limits.memoryMiB).toBe(1_536);
  });

  it('holds from the start of an agent that the API server cannot tell', async () => {
    const { file, told } = await scene();
    await told(512);
    const { fleet } = await scene(await readFile(file, 'utf8'));
    expect(fleet.limits.memoryMiB).toBe(512);
    await told(undefined);
    await expect(readFile(file)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is taken in once', async () => {
    const { told, reservation, changes } = await scene();
    await told(512);
    reservation.note(nodeFixture({ status: { reserved: { memoryMiB: 512, milliCPU: 0 } } }));
    expect(changes()).toBe(1);
  });

  it('is kept no more once the agent leaves the node', async () => {
    const { file, told, reservation, fleet } = await scene();
    await told(512);
    await reservation.end();
    await rm(file);
    reservation.note(nodeFixture({ status: { reserved: { memoryMiB: 256, milliCPU: 0 } } }));
    await reservation.end();
    await expect(readFile(file)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(fleet.limits.memoryMiB).toBe(512);
  });

  it('that was kept as nonsense bounds nothing until the controller tells', async () => {
    const { fleet, told } = await scene('{"memoryMiB": "a lot"}');
    expect(fleet.limits.memoryMiB).toBe(1_536);
    await told(512);
    expect(fleet.limits.memoryMiB).toBe(512);
  });
});
