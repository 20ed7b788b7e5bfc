import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../../src/common/clock.ts';
import { Freezer } from '../../../../src/runtime/containerd/freezer.ts';
import { manualClock } from '../../../support/manual-clock.ts';

let root: string;
let freezer: Freezer;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'esb-freezer-'));
  onTestFinished(() => rm(root, { recursive: true }));
  freezer = new Freezer({ folders: (id) => ({ v1: join(root, 'freezer', id), v2: join(root, id) }) });
});

async function write(path: string, text: string): Promise<void> {
  await mkdir(join(root, path, '..'), { recursive: true });
  await writeFile(join(root, path), text);
}

const read = (path: string): Promise<string> => readFile(join(root, path), 'utf8');

describe('the freezer of cgroups version 1', () => {
  it.each([
    ['THAWED\n', 'Thawed'],
    ['FREEZING\n', 'Frozen'],
    ['FROZEN\n', 'Frozen'],
  ])('says of %j that it is %s', async (text, state) => {
    await write('freezer/w/freezer.state', text);
    expect(freezer.state('w')).toBe(state);
  });

  it.each(['FREEZING\n', 'FROZEN\n'])('thaws %j and reads that it is so', async (text) => {
    await write('freezer/w/freezer.state', text);
    expect(freezer.thaw('w')).toBe('Thawed');
    expect(await read('freezer/w/freezer.state')).toContain('THAWED');
    expect(freezer.thaw('w')).toBe('NotFrozen');
  });

  it('freezes, and waits until it is frozen', async () => {
    await write('freezer/w/freezer.state', 'THAWED\n');
    await freezer.freeze('w');
    expect(freezer.state('w')).toBe('Frozen');
  });

  it('is the one that counts where version 2 is mounted beside it', async () => {
    await write('freezer/w/freezer.state', 'FROZEN\n');
    await write('w/cgroup.freeze', '0\n');
    await write('w/cgroup.events', 'populated 1\nfrozen 0\n');
    expect(freezer.state('w')).toBe('Frozen');
  });
});

describe('the freezer of cgroups version 2', () => {
  it.each([
    ['0', 'populated 1\nfrozen 0\n', 'Thawed'],
    // Asked for and not there yet, or left armed by a call that gave up.
    ['1', 'populated 1\nfrozen 0\n', 'Frozen'],
    ['1', 'populated 1\nfrozen 1\n', 'Frozen'],
    // A cgroup above is frozen.
    ['0', 'populated 1\nfrozen 1\n', 'Frozen'],
  ])('with %s in cgroup.freeze and %j in cgroup.events is %s', async (freeze, events, state) => {
    await write('w/cgroup.freeze', `${freeze}\n`);
    await write('w/cgroup.events', events);
    expect(freezer.state('w')).toBe(state);
  });

  it('takes back a freeze that is armed and has not come', { tags: ['P1'] }, async () => {
    await write('w/cgroup.freeze', '1\n');
    await write('w/cgroup.events', 'populated 1\nfrozen 0\n');
    expect(freezer.thaw('w')).toBe('Thawed');
    expect(await read('w/cgroup.freeze')).toMatch(/^0/);
  });

  it('does not say that it thawed what the kernel still holds', async () => {
    await write('w/cgroup.freeze', '1\n');
    await write('w/cgroup.events', 'populated 1\nfrozen 1\n');
    expect(freezer.thaw('w')).toBe('StillFrozen');
  });

  it('is frozen once the events say so, not once it is asked for', async () => {
    await write('w/cgroup.freeze', '0\n');
    await write('w/cgroup.events', 'populated 1\nfrozen 0\n');
    const frozen = freezer.freeze('w');
    const early = await Promise.race([frozen.then(() => 'frozen'), soon()]);
    expect(early).toBe('waiting');
    await write('w/cgroup.events', 'populated 1\nfrozen 1\n');
    await frozen;
  });

  it('takes a freeze back that does not come', async () => {
    await write('w/cgroup.freeze', '0\n');
    await write('w/cgroup.events', 'populated 1\nfrozen 0\n');
    const clock = manualClock();
    const slow = new Freezer({
      folders: (id) => ({ v1: join(root, 'freezer', id), v2: join(root, id) }),
      clock,
    });
    const outcome = expect(slow.freeze('w')).rejects.toMatchObject({ code: 'TaskStuck' });
    await clock.advance(3_100);
    await outcome;
    expect(await read('w/cgroup.freeze')).toMatch(/^0/);
  });
});

describe('a worker without a cgroup', () => {
  it('is neither frozen nor thawed', async () => {
    expect(freezer.state('w')).toBe('Missing');
    expect(freezer.thaw('w')).toBe('Missing');
    await expect(freezer.freeze('w')).rejects.toMatchObject({ code: 'NotFound' });
  });
});

function soon(): Promise<string> {
  return new Promise((resolve) => {
    systemClock.setTimer(() => resolve('waiting'), 20);
  });
}
