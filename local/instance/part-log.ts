import { open } from 'node:fs/promises';
import { pause } from '../../src/cli/wait.ts';
import { EsbError, errnoOf } from '../../src/common/errors.ts';
import { lastLines } from '../common/command.ts';

const FOLLOW_MS = 300;

/**
 * Shows the log of a part of the local instance, which is not rotated.
 *
 * @throws {EsbError} `NotFound` when it has none
 */
export async function showPartLog(
  path: string,
  { tail, follow }: { readonly tail: number; readonly follow: boolean },
  write: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { text, size } = await readFrom(path, 0);
  write(tail === 0 || text === '' ? text : `${lastLines(text, tail)}\n`);
  let offset = size;
  while (follow && !signal.aborted) {
    await pause(signal, FOLLOW_MS);
    const more = await readFrom(path, offset);
    write(more.text);
    offset = more.size;
  }
}

/** The content of the file from `offset` on. A file that has become shorter is read from its beginning. */
async function readFrom(path: string, offset: number): Promise<{ readonly text: string; readonly size: number }> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const from = size < offset ? 0 : offset;
      const buffer = Buffer.alloc(size - from);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
      return { text: buffer.subarray(0, bytesRead).toString(), size: from + bytesRead };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      throw new EsbError(`there is no ${path}`, { code: 'NotFound', cause: error });
    }
    throw error;
  }
}
