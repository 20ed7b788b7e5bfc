import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder } from '../../local/tools/tool-cache.ts';
import { run } from './command.ts';

/** Builds a program from the files of a folder, once for each version of them. Returns its path. */
export async function builtProgram(
  name: string,
  source: string,
  build: (program: string) => Promise<unknown>,
): Promise<string> {
  const hash = createHash('sha256');
  for (const file of (await readdir(source)).toSorted()) {
    hash.update(await readFile(join(source, file)));
  }
  const folder = join(cacheFolder(), name);
  const program = join(folder, hash.digest('hex').slice(0, 16));
  if (!existsSync(program)) {
    await mkdir(folder, { recursive: true });
    const fresh = `${program}.${randomUUID()}`;
    await build(fresh);
    await rename(fresh, program);
  }
  return program;
}

/** A Go program without foreign modules as a static one. */
export function goProgram(name: string, source: string): Promise<string> {
  return builtProgram(name, source, (program) =>
    run('go', ['build', '-trimpath', '-ldflags', '-s -w', '-o', program, '.'], {
      cwd: source,
      env: { CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false', GOWORK: 'off' },
      timeoutMs: 300_000,
    }),
  );
}
