import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstFunction } from '../../src/cli/deploy/first-function.ts';
import { run } from './command.ts';

/** Fetches the modules that a first function in Go is built of, for tests without a network. */
export async function fetchFirstFunctionModules(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-modules-'));
  try {
    for (const { name, text } of firstFunction('go', 'first')) {
      await writeFile(join(folder, name), text);
    }
    await run('go', ['build', '-o', '/dev/null', '.'], { cwd: folder });
  } finally {
    await rm(folder, { recursive: true });
  }
}
