import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Clock } from '../../../../src/common/clock.ts';
import { OutputProbe } from '../../../../src/runtime/logs/output-probe.ts';

const pid = 7;

/** A clock on which an hour goes by in no time. */
function hurriedClock(onTimer: () => void): Clock {
  let now = 0;
  return {
    now: () => now,
    monotonic: () => now,
    setTimer(callback, delayMs) {
      now += delayMs;
      const timer = setTimeout(() => {
        onTimer();
        callback();
      }, 0);
      return { cancel: () => clearTimeout(timer) };
    },
  };
}

/** A process with two pipes, and a shim that copies those of them into the log that it is told to. */
class World {
  readonly folder = mkdtempSync(join(tmpdir(), 'esb-output-'));
  readonly probe: OutputProbe;
  readonly pipes = new Map<number, number>();
  copied: readonly number[] = [1, 2];
  log = '';
  /** Further output in the log from look to look. */
  flood = '';

  constructor() {
    onTestFinished(() => {
      for (const pipe of this.pipes.values()) {
        closeSync(pipe);
      }
      rmSync(this.folder, { recursive: true, force: true });
    });
    const process = join(this.folder, String(pid));
    mkdirSync(join(process, 'fd'), { recursive: true });
    writeFileSync(join(process, 'cgroup'), '0::/esb/hello-1\n');
    for (const descriptor of [1, 2]) {
      const name = `pipe:[${descriptor}]`;
      const path = join(process, 'fd', name);
      execFileSync('mkfifo', [path]);
      symlinkSync(name, join(process, 'fd', String(descriptor)));
      this.pipes.set(descriptor, openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
    }
    this.probe = new OutputProbe({
      procFolder: this.folder,
      clock: hurriedClock(() => this.#copy()),
      logs: {
        size: () => Promise.resolve(this.log.length),
        read: (_, offset, maxBytes) =>
          Promise.resolve(Buffer.from(this.log.slice(offset, offset + maxBytes))),
      },
    });
  }

  fill(descriptor: number): void {
    try {
      for (;;) {
        writeSync(this.pipes.get(descriptor) ?? -1, '.');
      }
    } catch {
      // The disk is full.
    }
  }

  #copy(): void {
    this.log += this.flood;
    for (const descriptor of this.copied) {
      const buffer = Buffer.alloc(4096);
      try {
        this.log += buffer.subarray(0, readSync(this.pipes.get(descriptor) ?? -1, buffer)).toString();
      } catch {
        // The disk is empty.
      }
    }
  }
}

describe('the output of a worker', () => {
  it('is not lost when a line of each stream comes to the log', async () => {
    const world = new World();
    world.log = 'what was written before\n';
    expect(await world.probe.isLost('hello-1', pid)).toBe(false);
    expect(world.log).toContain('some of stdout may be missing');
    expect(world.log).toContain('some of stderr may be missing');
  });

  it.each([{ copied: [1] }, { copied: [2] }, { copied: [] }])(
    'is lost when of its streams only $copied come to the log',
    async ({ copied }) => {
      const world = new World();
      world.copied = copied;
      expect(await world.probe.isLost('hello-1', pid)).toBe(true);
    },
  );

  it('is not found in a line of an earlier look', async () => {
    const world = new World();
    await world.probe.isLost('hello-1', pid);
    world.copied = [];
    expect(await world.probe.isLost('hello-1', pid)).toBe(true);
  });

  it('is lost when a pipe is full and nothing comes to the log; that of a flood is not', async () => {
    const world = new World();
    world.copied = [2];
    world.fill(1);
    expect(await world.probe.isLost('hello-1', pid)).toBe(true);
    world.flood = 'x'.repeat(1_000);
    expect(await world.probe.isLost('hello-1', pid)).toBe(false);
  });

  it('is not lost when the process is another one by now, or none, or has no pipes', async () => {
    const world = new World();
    world.copied = [];
    expect(await world.probe.isLost('other-1', pid)).toBe(false);
    expect(await world.probe.isLost('hello-1', 8)).toBe(false);
    for (const descriptor of [1, 2]) {
      const path = join(world.folder, String(pid), 'fd', String(descriptor));
      rmSync(path);
      symlinkSync('/dev/null', path);
    }
    expect(await world.probe.isLost('hello-1', pid)).toBe(false);
  });

  it('is not lost when the process ends meanwhile', async () => {
    const world = new World();
    world.copied = [];
    const lost = world.probe.isLost('hello-1', pid);
    setTimeout(() => rmSync(join(world.folder, String(pid), 'fd'), { recursive: true }), 1);
    expect(await lost).toBe(false);
  });
});
