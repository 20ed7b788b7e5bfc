import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { OwnedProcess } from '../support/owned-process.ts';
import { waitFor } from '../support/wait-for.ts';

/** The longest time for which the event loop of a process was held since the reading before. */
export interface LoopHold {
  readonly wallMs: number;
  /** Processor time of its thread: nothing that another process does to it counts. */
  readonly processorMs: number;
  /** The longest pause for the garbage collector, which is part of the times. */
  readonly collectionMs: number;
}

/** Environment of a process whose loop {@link loopHold} reads. */
export function watchedLoop(folder: string): NodeJS.ProcessEnv {
  const preload = pathToFileURL(join(import.meta.dirname, 'loop-preload.ts')).href;
  return { ...process.env, NODE_OPTIONS: `--import=${preload}`, ESB_LOOP_FOLDER: folder };
}

/** Reads the holds of a process, and begins again. */
export async function loopHold(folder: string, child: Pick<OwnedProcess, 'pid' | 'signal'>): Promise<LoopHold> {
  const read = async (): Promise<LoopHold & { readonly readings: number }> => {
    const text = await readFile(join(folder, String(child.pid)), 'utf8').catch(() => '');
    return text === '' ? { wallMs: 0, processorMs: 0, collectionMs: 0, readings: 0 } : JSON.parse(text);
  };
  const { readings } = await read();
  child.signal('SIGUSR2');
  let hold = await read();
  await waitFor(
    'a reading of the loop',
    async () => {
      hold = await read();
      return hold.readings > readings;
    },
    { everyMs: 1 },
  );
  return hold;
}
