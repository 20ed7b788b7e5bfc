import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { WorkerConnection } from '../../src/agent/invoke/emulator-client.ts';
import type { NodeFleet } from '../../src/agent/worker/node-fleet.ts';
import { createFleet } from '../../src/agent/worker/worker-manager.ts';
import { type Clock, systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { listenOn } from '../../src/common/net/listen.ts';
import { FakeRuntime } from './fake-runtime.ts';

/** A fleet whose workers all have one real emulator, which answers as the listener does. Both end with the test. */
export async function emulatorFleet(listener: RequestListener, clock: Clock = systemClock): Promise<NodeFleet> {
  const folder = mkdtempSync(join(tmpdir(), 'esb-emulated-'));
  const emulator = createServer(listener);
  const port = await listenOn(emulator, { host: '127.0.0.1', port: 0 });
  const fleet = createFleet({
    runtime: new FakeRuntime(),
    clock,
    logger: silentLogger(),
    stateDir: join(folder, 'state'),
    runDir: join(folder, 'run'),
    capacity: { memoryMiB: 1_000, workers: 10 },
    secretReader: { read: () => Promise.resolve(undefined) },
    connect: (address) => {
      const way = new WorkerConnection({ ip: '127.0.0.1', port }, systemClock);
      return {
        address,
        call: (request) => way.call(request),
        abort: (message) => way.abort(message),
        close: () => way.close(),
      };
    },
  });
  onTestFinished(async () => {
    await fleet.stop(0);
    emulator.close();
    emulator.closeAllConnections();
    rmSync(folder, { recursive: true, force: true });
  });
  await fleet.adopt();
  return fleet;
}
