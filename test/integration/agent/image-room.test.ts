import { randomBytes } from 'node:crypto';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { testImage, workerFiles } from '../../support/test-image.ts';
import { waitFor } from '../../support/wait-for.ts';

const mebibyte = 2 ** 20;
const diskMiB = 120;
const collecting = ['--image-gc-high', '90', '--image-gc-low', '80', '--image-gc-min-age', '0'];

describe('a node with a small disk for its images, and the real agent', () => {
  let lab: AgentLab;
  let count = 0;

  beforeAll(async () => {
    lab = await startAgentLab({ diskMiB });
    await lab.startAgent(collecting);
    await lab.untilServing();
  });
  afterAll(async () => {
    await lab?.close();
  });

  /** An image that takes about twice its ballast: as it was fetched and unpacked. */
  const image = async (ballastMiB: number): Promise<string> => {
    count += 1;
    const ballast = { path: '/opt/ballast', content: randomBytes(ballastMiB * mebibyte) };
    return lab.lab.registry.put(`room-${count}:1`, await testImage({ files: [...(await workerFiles()), ballast] }));
  };
  const used = async (name: string, reference: string): Promise<void> => {
    await lab.apply(name, { image: reference });
    await lab.waitForPhase(name, 'Running');
    await lab.remove(name);
  };
  const images = async (): Promise<readonly string[]> =>
    (await lab.lab.ctr('images', 'list', '-q')).split('\n').filter((line) => line !== '');
  const usedPercent = async (): Promise<number> => {
    const { blocks, bavail } = await statfs(join(lab.lab.folder, 'root'));
    return 100 - (100 * bavail) / blocks;
  };

  it('makes room for an image that did not fit, and starts its worker', async () => {
    const [first, second, big] = [await image(10), await image(10), await image(32)];
    await used('first', first);
    await used('second', second);
    // Below the threshold, and yet too much for the one that comes.
    expect(await usedPercent()).toBeLessThan(90);
    await lab.apply('big', { image: big });
    const failed = await lab.waitForWorker('big', 'to find the disk full', ({ status }) =>
      (status?.conditions ?? []).some(({ reason }) => reason === 'DiskFull'),
    );
    expect(failed.status?.phase).toBe('Failed');
    await lab.waitForPhase('big', 'Running');
    expect(await images()).toEqual([big]);
  });

  it('removes what nobody wants once the threshold is passed, and stops at the low one', async () => {
    const small = await image(6);
    await used('small', small);
    await used('next', await image(6));
    // An agent looks when it starts, and then once a minute.
    await lab.stopAgent();
    await lab.startAgent(collecting);
    await waitFor('the oldest to go', async () => !(await images()).includes(small), {
      timeoutMs: 90_000,
      everyMs: 500,
    });
    // containerd does not list it any more some time before its room is free.
    await waitFor('its room', async () => (await usedPercent()) < 80);
    expect((await images()).length).toBeGreaterThan(1);
    expect((await lab.worker('big')).status?.phase).toBe('Running');
  });
});
