import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder } from '../../local/tools/tool-cache.ts';
import { run } from './command.ts';

/** Builds a Go program without foreign modules as a static one, once for each version of its source. Returns its path. */
export async function goProgram(name: string, source: string): Promise<string> {
  const hash = createHash('sha256');
  for (const file of (await readdir(source)).toSorted()) {
    hash.update(await readFile(join(source, file)));
  }
  const folder = join(cacheFolder(), name);
  const program = join(folder, hash.digest('hex').slice(0, 16));
  if (!existsSync(program)) {
    await mkdir(folder, { recursive: true });
    const fresh = `${program}.${randomUUID()}`;
    await run('go', ['build', '-trimpath', '-ldflags', '-s -w', '-o', fresh, '.'], {
      cwd: source,
      env: { CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false', GOWORK: 'off' },
      timeoutMs: 300_000,
    });
    await rename(fresh, program);
  }
  return program;
}
