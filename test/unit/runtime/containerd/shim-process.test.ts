import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { seesSameFolder } from '../../../../src/runtime/containerd/shim-process.ts';

/** A `/proc` in which process 1 has the root of this one, 2 a root of its own, 3 one without the folder, and 4 none. */
function machine() {
  const folder = mkdtempSync(join(tmpdir(), 'esb-view-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const proc = join(folder, 'proc');
  const sockets = join(folder, 'run/containerd');
  mkdirSync(sockets, { recursive: true });
  for (const pid of ['1', '2', '3', '4']) {
    mkdirSync(join(proc, pid), { recursive: true });
  }
  symlinkSync('/', join(proc, '1/root'));
  mkdirSync(join(proc, '2/root', sockets), { recursive: true });
  mkdirSync(join(proc, '3/root'));
  return { proc, sockets };
}

describe('what another process finds at a path', () => {
  it.each([
    [1, true, 'is the same where it has the same mounts'],
    [2, false, 'is another folder of that name in a container'],
    [3, false, 'is nothing in a container without it'],
    [4, true, 'counts as the same where it cannot be told'],
    [5, true, 'counts as the same once it has ended'],
  ])('of process %i is that of ours: %s; it %s', (pid, same) => {
    const { proc, sockets } = machine();
    expect(seesSameFolder(proc, pid, sockets)).toBe(same);
  });

  it('counts as the same while the folder is not there at all', () => {
    const { proc, sockets } = machine();
    rmSync(sockets, { recursive: true });
    expect(seesSameFolder(proc, 2, sockets)).toBe(true);
  });
});
