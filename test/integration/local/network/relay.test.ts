import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { probeHealth } from '../../../../local/supervisor/health-probe.ts';
import { run } from '../../../support/command.ts';
import { waitFor } from '../../../support/wait-for.ts';

it('the relay makes a loopback service of the host reachable on the loopback of a namespace', async () => {
  const namespace = `esb-t-${randomBytes(4).toString('hex')}`;
  await run('ip', ['netns', 'add', namespace]);
  onTestFinished(async () => {
    await run('ip', ['netns', 'delete', namespace]);
  });
  const netns = `/run/netns/${namespace}`;
  await run('nsenter', [`--net=${netns}`, 'ip', 'link', 'set', 'lo', 'up']);
  const folder = await mkdtemp(join(tmpdir(), 'esb-relay-'));
  onTestFinished(() => rm(folder, { recursive: true }));

  const server = createServer((_, response) => response.end('from the host'));
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;

  const socket = join(folder, 'health.sock');
  const script = join(import.meta.dirname, '../../../../local/network/relay-process.ts');
  const relay = spawn(process.execPath, [script, namespace, socket, String(port)], { stdio: 'inherit' });
  onTestFinished(() => {
    relay.kill('SIGKILL');
  });
  await waitFor('the relay', async () => (await probeHealth({ kind: 'socket', path: socket }, 1_000)) === 'healthy');
  const fetchInside = `fetch('http://127.0.0.1:${port}/').then(async (answer) => console.log(await answer.text()))`;
  const { stdout } = await run('nsenter', [`--net=${netns}`, process.execPath, '-e', fetchInside]);
  expect(stdout.trim()).toBe('from the host');
});
