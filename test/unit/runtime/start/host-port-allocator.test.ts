import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  HostPortAllocator,
  type HostPortAllocatorOptions,
  parseHostPortRange,
} from '../../../../src/runtime/start/host-port-allocator.ts';

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'esb-ports-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

function book(path: string, options: Partial<HostPortAllocatorOptions> = {}): HostPortAllocator {
  return new HostPortAllocator({
    folder: path,
    range: { first: 100, last: 107 },
    isFree: () => Promise.resolve(true),
    ...options,
  });
}

describe('the ports of the node', () => {
  it('are given out two by two, to each worker its own, and stay with it', async () => {
    const ports = book(await folder());
    const [one, two] = await Promise.all([ports.allocate('one'), ports.allocate('two')]);
    expect([one, two]).toEqual([
      { port: 100, runtimePort: 101 },
      { port: 102, runtimePort: 103 },
    ]);
    expect(await ports.allocate('one')).toEqual(one);
  });

  it('are remembered by the next agent', async () => {
    const path = await folder();
    await book(path).allocate('one');
    await writeFile(join(path, 'two.json.1.tmp'), '{"po');
    const later = book(path);
    expect(await later.allocate('two')).toEqual({ port: 102, runtimePort: 103 });
    expect(await later.allocate('one')).toEqual({ port: 100, runtimePort: 101 });
    expect((await readdir(path)).toSorted()).toEqual(['one.json', 'two.json']);
  });

  it('are given back at the end, and rest before somebody else gets them', async () => {
    const path = await folder();
    const ports = book(path);
    await ports.allocate('one');
    await ports.release('one');
    await ports.release('never');
    expect(await readdir(path)).toEqual([]);
    const later = [await ports.allocate('two'), await ports.allocate('three'), await ports.allocate('four')];
    expect(later.map(({ port }) => port)).toEqual([102, 104, 106]);
    expect(await ports.allocate('five')).toEqual({ port: 100, runtimePort: 101 });
  });

  it('run out with a word on what to do, and come back', async () => {
    const ports = book(await folder());
    for (const name of ['one', 'two', 'three', 'four']) {
      await ports.allocate(name);
    }
    await expect(ports.allocate('five')).rejects.toMatchObject({
      code: 'AddressesExhausted',
      retryable: true,
      message: expect.stringContaining('--host-ports'),
    });
    await ports.release('three');
    expect(await ports.allocate('five')).toEqual({ port: 104, runtimePort: 105 });
  });

  it('that somebody on the node uses are left alone', async () => {
    const used = new Set([101, 104]);
    const ports = book(await folder(), { isFree: (port) => Promise.resolve(!used.has(port)) });
    expect(await ports.allocate('one')).toEqual({ port: 102, runtimePort: 103 });
    expect(await ports.allocate('two')).toEqual({ port: 106, runtimePort: 107 });
    // Taken while the worker was away.
    used.add(102);
    used.delete(101);
    expect(await ports.allocate('one')).toEqual({ port: 100, runtimePort: 101 });
  });

  it.each(['127.0.0.1', '0.0.0.0', '::'])('are looked at for real: %s', async (host) => {
    const server = createServer().listen(0, host);
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const address = server.address();
    const taken = typeof address === 'object' && address !== null ? address.port : 0;
    const ports = new HostPortAllocator({
      folder: await folder(),
      range: { first: taken, last: taken + 1 },
    });
    await expect(ports.allocate('one')).rejects.toMatchObject({ code: 'AddressesExhausted' });
  });

  it('of workers that are gone twice in a row are given back', async () => {
    const path = await folder();
    const ports = book(path);
    await ports.allocate('lives');
    await ports.allocate('gone');
    await ports.allocate('comes');
    expect(await ports.prune(new Set(['lives']))).toEqual([]);
    expect(await ports.prune(new Set(['lives', 'comes']))).toEqual(['gone']);
    expect((await readdir(path)).toSorted()).toEqual(['comes.json', 'lives.json']);
  });
});

describe('a range of ports', () => {
  it('is read', () => {
    expect(parseHostPortRange('25000-26999')).toEqual({ first: 25_000, last: 26_999 });
  });

  it.each(['', '25000', '25000-', '2-1', '0-10', '65535-65536', '7-7'])('%j is none', (text) => {
    expect(() => parseHostPortRange(text)).toThrow(/is not a range of at least 2 ports/);
  });
});
