import { pbkdf2 } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import type { WorkerInits } from '../../../src/init/contract.ts';
import { createWorkerInits } from '../../../src/init/worker-inits.ts';
import { type ManualClock, manualClock } from '../../support/manual-clock.ts';
import { type LogLine, recordingLogger } from '../../support/recording-logger.ts';

const hashed = promisify(pbkdf2);
/** So many that some meet the moment in question. */
const ids = Array.from({ length: 20 }, (_, index) => `w${index}`);

interface Room {
  readonly inits: WorkerInits;
  readonly clock: ManualClock;
  readonly lines: readonly LogLine[];
  readonly folderOf: (containerId: string) => string;
  readonly socketOf: (containerId: string) => string;
}

async function start(): Promise<Room> {
  const runDir = await mkdtemp(join(tmpdir(), 'esb-i-'));
  onTestFinished(() => rm(runDir, { recursive: true, force: true }));
  const program = join(runDir, 'program');
  await writeFile(program, '');
  const clock = manualClock();
  const { logger, lines } = recordingLogger();
  const inits = createWorkerInits({ runDir, stateDir: runDir, program, clock, logger });
  onTestFinished(() => inits.stop());
  await inits.start();
  const folderOf = (containerId: string): string => join(runDir, 'inits', containerId);
  return { inits, clock, lines, folderOf, socketOf: (containerId) => join(folderOf(containerId), 'agent.sock') };
}

function isHeldOpen(folder: string): boolean {
  return readdirSync('/proc/self/fd').some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === folder;
    } catch {
      return false;
    }
  });
}

it('a socket is open to all users of its container from its first moment', async () => {
  const { inits, socketOf } = await start();
  const ended = new AbortController();
  // Work of the file system waits for a thread of the pool, and so comes after the look below.
  const busy = Array.from({ length: 16 }, async () => {
    while (!ended.signal.aborted) {
      await hashed('', '', 5_000, 64, 'sha512');
    }
  });
  const opened = inits.open('w').finally(() => ended.abort());
  const firstMode = async (): Promise<string> => {
    for (;;) {
      const found = statSync(socketOf('w'), { throwIfNoEntry: false });
      if (found !== undefined) {
        return (found.mode & 0o666).toString(8);
      }
      await turn();
    }
  };
  expect(await firstMode()).toBe('666');
  await Promise.all([opened, ...busy]);
});

it('a removal waits for a socket that is made for the next connection', async () => {
  const { inits, clock, lines, folderOf, socketOf } = await start();
  for (const id of ids) {
    await inits.open(id);
    const init = connect(socketOf(id)).resume();
    init.end();
    // The agent has ended the connection as well.
    await once(init, 'close');
  }
  const rested = clock.advance(100);
  const removed = ids.map(async (id) => {
    while (!isHeldOpen(folderOf(id))) {
      await turn();
    }
    await inits.remove(id);
  });
  await Promise.all([rested, ...removed]);
  expect({ lines, left: await inits.list() }).toEqual({ lines: [], left: [] });
});
