import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { WorkerAddress } from '../../../src/runtime/contract/runtime.ts';
import { run } from '../../support/command.ts';
import { ensureRequest, startLab } from '../../support/lab.ts';
import { startNetnsCaller } from '../../support/netns-caller.ts';
import { createNetworkLab } from '../../support/network-lab.ts';
import { testImage } from '../../support/test-image.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };

describe('a worker attached by the CNI plugins', () => {
  beforeAll(async () => {
    // Builds the worker where it is missing, outside of the time of a test.
    await testImage();
  });

  it('has its address before its first process runs, in all its lives', async () => {
    const lab = await startLab();
    onTestFinished(() => lab.close());
    const node = await createNetworkLab();
    const network = node.network();
    const caller = startNetnsCaller(node.netnsPath);
    onTestFinished(() => caller.close());
    const runtime = await lab.runtime({ network, connect: (address) => caller.connect(address) });
    const requests = ['one', 'two', 'three'].map((name) =>
      ensureRequest(lab, name, { env: [{ name: 'PRINT_ADDRESSES', value: '1' }] }),
    );
    const infos = await Promise.all(requests.map((request) => runtime.ensure(request)));
    expect(new Set(infos.map(({ address }) => address?.ip)).size).toBe(3);
    for (const { containerId, address } of infos) {
      const log = await waitFor('its first lines', async () => {
        const text = (await runtime.readLog(containerId, 1000)).toString();
        return text.includes('listening on') && text;
      });
      expect(log.split('\n')[0]).toContain(` ${address?.ip}/21`);
      expect(log.split('\n')[0]).toContain('127.0.0.1/8');
      expect((await network.get(containerId))?.ip).toBe(address?.ip);
      expect(await caller.call(address ?? nowhere, {})).toMatchObject({ counter: 1 });
      await runtime.pause(containerId);
    }
    for (const request of requests) {
      const again = await runtime.ensure(request);
      expect(await caller.call(again.address ?? nowhere, {})).toMatchObject({ counter: 2 });
      await runtime.destroy(request.containerId);
    }
    expect(await network.list()).toEqual([]);
    const namespaces = (await run('ip', ['netns', 'list'])).stdout;
    for (const { containerId } of requests) {
      expect(namespaces).not.toContain(containerId);
    }
    expect(await lab.leftovers()).toEqual([]);
  });
});
