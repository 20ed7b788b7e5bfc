import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createServer as createSocketServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { probeHealth } from '../../../../local/supervisor/health-probe.ts';

async function serving(status: number, text: string): Promise<string> {
  const server = createServer((_, response) => {
    response.writeHead(status);
    response.end(text);
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/`;
}

describe('a health probe', () => {
  it('takes 200 for healthy', async () => {
    expect(await probeHealth({ kind: 'http', url: await serving(200, 'ok') }, 5_000)).toBe('healthy');
  });

  it('passes on what a part says of itself', async () => {
    const url = await serving(503, 'NoLease: the API server does not answer');
    expect(await probeHealth({ kind: 'http', url }, 5_000)).toBe(
      'failing: 503 NoLease: the API server does not answer',
    );
  });

  it('passes on the message alone of a status of Kubernetes', async () => {
    const status = {
      kind: 'Status',
      code: 403,
      message: 'forbidden: cannot get path "/readyz"',
      reason: 'Forbidden',
    };
    const url = await serving(403, JSON.stringify(status));
    expect(await probeHealth({ kind: 'http', url }, 5_000)).toBe('failing: 403 forbidden: cannot get path "/readyz"');
    expect(await probeHealth({ kind: 'http', url: await serving(500, '{"other": 1}') }, 5_000)).toBe(
      'failing: 500 {"other": 1}',
    );
  });

  it('takes a socket that nobody listens on for failing', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'esb-probe-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const path = join(folder, 's.sock');
    expect(await probeHealth({ kind: 'socket', path }, 5_000)).toMatch(/^failing: .*ENOENT/);
    const server = createSocketServer((socket) => socket.destroy());
    const listening = Promise.withResolvers<void>();
    server.listen(path, () => listening.resolve());
    await listening.promise;
    onTestFinished(() => {
      server.close();
    });
    expect(await probeHealth({ kind: 'socket', path }, 5_000)).toBe('healthy');
  });
});
