import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './command.ts';
import { type TestImage, testImage, WORKER_PATH } from './test-image.ts';
import { toolsFolder } from './tools.ts';

const source = fileURLToPath(new URL('./test-runtime', import.meta.url));
const BOOTSTRAP_PATH = '/var/runtime/bootstrap';

/** The real emulator with a runtime that writes what it is told to. */
export async function emulatorImage(): Promise<TestImage> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-test-runtime-'));
  try {
    const program = join(folder, 'bootstrap');
    await run('go', ['build', '-trimpath', '-ldflags', '-s -w', '-o', program, '.'], {
      cwd: source,
      env: { CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false', GOWORK: 'off' },
      timeoutMs: 300_000,
    });
    return await testImage({
      files: [
        { path: WORKER_PATH, content: await readFile(join(toolsFolder(), 'aws-lambda-rie')), mode: 0o755 },
        { path: BOOTSTRAP_PATH, content: await readFile(program), mode: 0o755 },
      ],
      entrypoint: [WORKER_PATH, BOOTSTRAP_PATH],
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
