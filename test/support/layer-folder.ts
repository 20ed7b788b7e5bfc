import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** A folder with a program and a link to its folder, and a file beside it for the layer. Both go with the test. */
export async function layerFolder(): Promise<{ readonly root: string; readonly file: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-layer-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const root = join(folder, 'root');
  await mkdir(join(root, 'usr/bin'), { recursive: true });
  await writeFile(join(root, 'usr/bin/tool'), 'program');
  await chmod(join(root, 'usr/bin/tool'), 0o755);
  await symlink('usr/bin', join(root, 'bin'));
  return { root, file: join(folder, 'layer.tar.gz') };
}
