import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { runAgent } from '../../../src/agent/main.ts';
import type { Spawner } from '../../../src/common/exec/spawner.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { listenOn } from '../../../src/common/net/listen.ts';
import { agentFlags } from '../../../src/options/agent.ts';
import { freePort } from '../../support/free-port.ts';
import { kubeconfigFor } from '../../support/kubeconfig.ts';
import { optionsOf } from '../../support/options.ts';

it.each([
  {
    phase: 'its certificate cannot be kept',
    code: 'EISDIR',
    prepare: async (folder: string) => {
      await mkdir(join(folder, 'server.pem'), { recursive: true });
    },
  },
  {
    phase: 'another program has its health port',
    code: 'AddressInUse',
    prepare: async (_folder: string, healthPort: number) => {
      const other = createServer();
      await listenOn(other, { host: '127.0.0.1', port: healthPort });
      onTestFinished(() => void other.close());
    },
  },
])('an agent that cannot start since $phase leaves nothing half-made', async ({ code, prepare }) => {
  const folder = await mkdtemp(join(tmpdir(), 'esb-agent-main-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const [port, healthPort] = [await freePort(), await freePort()];
  await prepare(folder, healthPort);
  const stop = vi.fn<() => Promise<void>>();
  const spawner = { stop } as unknown as Spawner;
  const config = optionsOf(agentFlags, [
    ...['--node-name', 'n1', '--runtime-type', 'docker', '--docker-socket', join(folder, 'none.sock')],
    ...['--state-dir', folder, '--run-dir', join(folder, 'run'), '--listen', `127.0.0.1:${port}`],
    ...['--health', `127.0.0.1:${healthPort}`, '--kubeconfig', kubeconfigFor('http://127.0.0.1:9')],
  ]);
  const context = { signal: new AbortController().signal, logger: silentLogger() };
  const error: unknown = await runAgent(config, context, spawner).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code });
  expect(stop).toHaveBeenCalledOnce();
  const next = createServer();
  await listenOn(next, { host: '127.0.0.1', port });
  next.close();
});
