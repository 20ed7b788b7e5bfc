import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { NodeFleet } from '../../../src/agent/worker/node-fleet.ts';
import { createFleet } from '../../../src/agent/worker/worker-manager.ts';
import type { NodeNetwork } from '../../../src/cni/contract.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import type { ContainerdClient } from '../../../src/containerd/containerd-client.ts';
import { createContainerdRuntime } from '../../../src/runtime/containerd/runtime.ts';
import { run } from '../../support/command.ts';
import { type FakeContainerd, fakeContainerd, notFound } from '../../support/fake-containerd.ts';
import { FakeEmulators } from '../../support/fake-emulator.ts';
import { desiredFixture } from '../../support/fleet-lab.ts';
import { namespaces, readySlots, reservations } from '../../support/network-footprint.ts';
import { createNetworkLab, type NetworkLab } from '../../support/network-lab.ts';
import { type TestImage, testImage } from '../../support/test-image.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Workers that the node had when it went down. `ESB_REBOOT_WORKERS=500` for the full size. */
const count = Number(process.env.ESB_REBOOT_WORKERS ?? 30);
const slots = 2;
const states = ['Running', 'Paused'] as const;
const waiting = { timeoutMs: 400_000, everyMs: 200 };
const workers = Array.from({ length: count }, (_, index) =>
  desiredFixture({
    name: `worker-${index}`,
    restingState: states[index % states.length] ?? 'Running',
    memoryMiB: 16,
    imagePullPolicy: 'Never',
    image: 'registry.example/worker:1',
  }),
);

/** A containerd in memory that has one image. */
function withImage(fake: FakeContainerd, image: TestImage): ContainerdClient {
  const stored = {
    name: 'registry.example/worker:1',
    target: { mediaType: image.manifest.mediaType, digest: image.manifest.digest, size: '1' },
    labels: {},
    updatedAt: new Date(0),
  };
  return {
    ...fake.client,
    images: {
      get: () => Promise.resolve(stored),
      list: () => Promise.resolve([stored]),
      delete: () => Promise.resolve(),
    },
    content: {
      read: (digest) => {
        const found = [image.manifest, ...image.blobs].find((blob) => blob.digest === digest);
        return found === undefined ? Promise.reject(notFound(digest)) : Promise.resolve(found.content);
      },
    },
    snapshots: {
      ...fake.client.snapshots,
      stat: (key) => Promise.resolve({ name: key, parent: '', kind: 'COMMITTED' }),
    },
  };
}

/** An agent's own parts on the lab's node, until they are stopped. */
interface Agent {
  readonly network: NodeNetwork;
  readonly fleet: NodeFleet;
  stop(): Promise<void>;
}

async function startAgent(lab: NetworkLab, folder: string, client: ContainerdClient): Promise<Agent> {
  const logger = silentLogger();
  const network = lab.network({ slots });
  const runtime = createContainerdRuntime({
    containerd: { socketPath: join(folder, 'none.sock'), client },
    network,
    logs: { folder: join(folder, 'logs') },
    etc: { hostsFolder: join(folder, 'hosts') },
    readiness: { connect: () => Promise.resolve(true) },
    logger,
  });
  await runtime.start();
  const fleet = createFleet({
    runtime,
    clock: systemClock,
    logger,
    stateDir: folder,
    runDir: join(folder, 'run'),
    capacity: { memoryMiB: 1_000_000, workers: 1_000 },
    secretReader: { read: () => Promise.resolve(undefined) },
    connect: new FakeEmulators().connect,
  });
  await fleet.adopt();
  return {
    network,
    fleet,
    async stop() {
      await fleet.stop(0);
      await runtime.stop();
    },
  };
}

describe(`a fleet of ${count} workers whose node goes down`, () => {
  it('is back from records and containers alone, each worker in its state at an address of its own', {
    timeout: 900_000,
  }, async () => {
    const lab = await createNetworkLab();
    const folder = await mkdtemp(join(tmpdir(), 'esb-fleet-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const fake = fakeContainerd();
    const client = withImage(fake, await testImage());
    const atRest = (agent: Agent): boolean =>
      workers.every(({ identity, restingState }) => {
        return agent.fleet.view(identity.uid)?.phase === restingState;
      });
    const addresses = (agent: Agent): readonly string[] =>
      workers.flatMap(({ identity }) => agent.fleet.view(identity.uid)?.address?.ip ?? []);

    const before = await startAgent(lab, folder, client);
    for (const worker of workers) {
      before.fleet.apply(worker);
    }
    await waitFor('every worker to rest', () => atRest(before), waiting);
    await waitFor('the slots', async () => (await readySlots(lab.stateDir)).length === slots, waiting);
    expect(new Set(addresses(before)).size).toBe(count);
    await before.stop();

    // Tasks live in memory; records of containers, of workers and of addresses on the disk.
    fake.tasks.clear();
    await writeFile(join(folder, 'gone'), (await namespaces(lab)).map((name) => `netns delete ${name}\n`).join(''));
    await run('ip', ['-force', '-batch', join(folder, 'gone')]);
    await lab.onNode('ip', ['link', 'delete', 'esb0']);
    await lab.onNode('nft', ['flush', 'ruleset']);
    await rm(join(folder, 'run'), { recursive: true, force: true });
    expect(await reservations(lab)).toHaveLength(count + slots);

    const began = performance.now();
    const after = await startAgent(lab, folder, client);
    onTestFinished(() => after.stop());
    await waitFor('every worker to be back', () => atRest(after) && fake.tasks.size === count, waiting);
    process.stdout.write(`${count} workers back in ${Math.round(performance.now() - began)} ms\n`);
    const present = addresses(after);
    expect(new Set(present).size).toBe(count);
    for (const { identity, restingState } of workers) {
      const containerId = after.fleet.view(identity.uid)?.containerId ?? '';
      expect(fake.tasks.get(containerId)?.status).toBe(restingState.toUpperCase());
      expect((await after.network.get(containerId))?.ip).toBe(after.fleet.view(identity.uid)?.address?.ip);
    }
    await waitFor(
      'what was before to be cleared',
      async () =>
        (await reservations(lab)).length === count + slots && (await readySlots(lab.stateDir)).length === slots,
      waiting,
    );
    expect(await reservations(lab)).toEqual(expect.arrayContaining([...present]));
    expect(await namespaces(lab)).toHaveLength(count + slots);
    expect([fake.containers.size, fake.leases.size]).toEqual([count, 0]);
  });
});
