import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { goProgram } from './built-program.ts';
import { type TestImage, testImage, WORKER_PATH } from './test-image.ts';
import { toolsFolder } from './tools.ts';

const source = fileURLToPath(new URL('./test-runtime', import.meta.url));
const BOOTSTRAP_PATH = '/var/runtime/bootstrap';

/** The real emulator with a runtime that writes what it is told to. */
export async function emulatorImage(): Promise<TestImage> {
  const program = await goProgram('test-runtime', source);
  return await testImage({
    files: [
      { path: WORKER_PATH, content: await readFile(join(toolsFolder(), 'aws-lambda-rie')), mode: 0o755 },
      { path: BOOTSTRAP_PATH, content: await readFile(program), mode: 0o755 },
    ],
    entrypoint: [WORKER_PATH, BOOTSTRAP_PATH],
  });
}

/** Image of the runtime without the emulator, which the image names all the same. */
export async function runtimeImage(user = ''): Promise<TestImage> {
  const program = await goProgram('test-runtime', source);
  return await testImage({
    files: [{ path: BOOTSTRAP_PATH, content: await readFile(program), mode: 0o755 }],
    entrypoint: [WORKER_PATH, '--log-level', 'debug', BOOTSTRAP_PATH],
    user,
  });
}
