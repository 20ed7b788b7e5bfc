import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { forWorkers, refreshResolvConf } from '../../../../src/agent/node/resolv-conf.ts';

describe('the resolv.conf of workers', () => {
  it('has what the machine has, without servers of the loopback and comments', () => {
    const text =
      '# made by hand\nnameserver 127.0.0.53\nnameserver ::1\n  nameserver 192.0.2.1\n; more\nsearch example.org\n';
    expect(forWorkers(text, 'esb-system')).toBe('nameserver 192.0.2.1\nsearch example.org\n');
  });

  it('does not search the namespace of the agent, as its Pod does', () => {
    const text =
      'search esb-system.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n';
    expect(forWorkers(text, 'esb-system')).toBe(
      'search svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n',
    );
    expect(forWorkers('search esb-system.svc.cluster.local\nnameserver 10.96.0.10\n', 'esb-system')).toBe(
      'nameserver 10.96.0.10\n',
    );
    expect(forWorkers('search esb.svc.example.org\n', 'esb-system')).toBe('search esb.svc.example.org\n');
  });

  describe('as a file', () => {
    let folder: string;
    const path = (name: string): string => join(folder, name);

    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'esb-resolv-'));
    });
    afterEach(async () => {
      await rm(folder, { recursive: true });
    });

    it('comes from the first that names a server which workers can reach, and is the same file when that changes', async () => {
      await writeFile(path('stub'), 'nameserver 127.0.0.53\n');
      await writeFile(path('real'), 'nameserver 192.0.2.1\n');
      const sources = [path('stub'), path('missing'), path('real')];
      await refreshResolvConf(path('workers/resolv.conf'), 'esb-system', sources);
      expect(await readFile(path('workers/resolv.conf'), 'utf8')).toBe('nameserver 192.0.2.1\n');
      const { ino } = await stat(path('workers/resolv.conf'));
      await writeFile(path('real'), 'nameserver 192.0.2.2\n');
      await refreshResolvConf(path('workers/resolv.conf'), 'esb-system', sources);
      expect(await readFile(path('workers/resolv.conf'), 'utf8')).toBe('nameserver 192.0.2.2\n');
      expect((await stat(path('workers/resolv.conf'))).ino).toBe(ino);
      await refreshResolvConf(path('workers/resolv.conf'), 'esb-system', [path('missing')]);
      expect(await readFile(path('workers/resolv.conf'), 'utf8')).toBe('\n');
    });

    it('is never empty for who reads it while it changes', async () => {
      const workers = path('workers/resolv.conf');
      const texts = ['nameserver 192.0.2.1\nnameserver 192.0.2.2\n', 'nameserver 192.0.2.3\n'];
      await writeFile(path('real'), texts[0] ?? '');
      await refreshResolvConf(workers, 'esb-system', [path('real')]);
      let done = false;
      const seen = new Set<string>();
      const reader = (async () => {
        while (!done) {
          seen.add(await readFile(workers, 'utf8'));
        }
      })();
      for (let turn = 1; turn <= 200; turn += 1) {
        await writeFile(path('real'), texts[turn % 2] ?? '');
        await refreshResolvConf(workers, 'esb-system', [path('real')]);
      }
      done = true;
      await reader;
      expect([...seen].filter((text) => !text.startsWith('nameserver 192.0.2.'))).toEqual([]);
    });
  });
});
