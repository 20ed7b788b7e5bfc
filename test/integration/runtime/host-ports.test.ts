import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { ImageConfig } from '../../../src/oci/image-config.ts';
import type { WorkerShape } from '../../../src/runtime/contract/runtime.ts';
import { withHostPorts } from '../../../src/runtime/start/host-port.ts';
import { run } from '../../support/command.ts';
import { startOwnedProcess } from '../../support/owned-process.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';

const image: ImageConfig = {
  env: [],
  user: '',
  workingDir: '',
  entrypoint: [join(toolsFolder(), 'aws-lambda-rie')],
  cmd: [],
  diffIds: [],
  platform: { os: 'linux', architecture: 'amd64' },
};
const shape: WorkerShape = {
  image: { reference: 'r/x:1', pullPolicy: 'Never' },
  command: [],
  args: ['sleep', '60'],
  env: [],
  memoryMiB: 128,
  pids: 10,
  ephemeralStorageMiB: 16,
  readOnlyRootFilesystem: true,
  timeoutSeconds: 3,
  runtimeInterface: 'Emulator',
  startupTimeoutSeconds: 60,
  port: 8080,
  networkMode: 'Host',
  terminationGraceSeconds: 1,
};

it('two real emulators in one network do not meet once each is told its ports', async () => {
  const name = `esb-t-${randomBytes(4).toString('hex')}`;
  const folder = await mkdtemp(join(tmpdir(), 'esb-host-'));
  await run('ip', ['netns', 'add', name]);
  onTestFinished(async () => {
    await run('ip', ['netns', 'delete', name]);
    await rm(folder, { recursive: true, force: true });
  });
  await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  const start = async (args: readonly string[]): Promise<{ ended: () => boolean; output: () => string }> => {
    const process = await startOwnedProcess({
      program: 'nsenter',
      args: [`--net=/run/netns/${name}`, '--', ...args],
      logFile: join(folder, `${randomBytes(4).toString('hex')}.log`),
    });
    onTestFinished(() => process.kill());
    return process;
  };
  const listening = async (): Promise<string> =>
    (await run('nsenter', [`--net=/run/netns/${name}`, 'ss', '-Hltn'])).stdout;

  const emulators = await Promise.all(
    [25_000, 25_002].map(async (port) => {
      const { command, args } = withHostPorts(shape, image, { port, runtimePort: port + 1 });
      return await start([...command, ...args]);
    }),
  );
  for (const port of [25_000, 25_002]) {
    await waitFor(`port ${port}`, async () => (await listening()).includes(`127.0.0.1:${port}`));
  }
  await waitFor('both interfaces to the runtimes', async () => {
    const text = await listening();
    return text.includes('127.0.0.1:25001') && text.includes('127.0.0.1:25003');
  });
  expect(emulators.map((emulator) => emulator.ended())).toEqual([false, false]);
  expect(await listening()).not.toContain(':9001');
});
