import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { createProgress } from '../../src/cli/progress.ts';
import { ensureWebPackages } from './python-clients.ts';
import type { TestImageFile } from './test-image.ts';

const source = join(import.meta.dirname, 'web-function');

/** The files of a FastAPI application with its packages, for an image of the Python base; its handler is `app.handler`. */
export async function webFunctionFiles(): Promise<readonly TestImageFile[]> {
  const folder = await ensureWebPackages(createProgress({ write: () => undefined }));
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const packages = entries
    .filter((entry) => entry.isFile())
    .map(async (entry): Promise<TestImageFile> => {
      const file = join(entry.parentPath, entry.name);
      return { path: `/var/task/${relative(folder, file)}`, content: await readFile(file) };
    });
  const app = { path: '/var/task/app.py', content: await readFile(join(source, 'app.py')) };
  return [...(await Promise.all(packages)), app];
}
