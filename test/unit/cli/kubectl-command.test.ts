import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { LocalInstance } from '../../../src/cli/command-context.ts';
import { runPs } from '../../../src/cli/ps.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

/** Lists workers by a kubectl that is this shell script. */
async function ps(script: string, folder: string, mode = 0o755): Promise<string> {
  const kubectl = join(folder, 'kubectl');
  await writeFile(kubectl, `#!/bin/sh\n${script}\n`);
  await chmod(kubectl, mode);
  let shown = '';
  const instance: Pick<LocalInstance, 'kubeconfig' | 'kubectl'> = {
    kubeconfig: () => Promise.resolve(undefined),
    kubectl: () => Promise.resolve(kubectl),
  };
  await runPs(
    { json: false },
    {
      signal: new AbortController().signal,
      openInstance: () => Promise.resolve(instance as LocalInstance),
      write: (text) => {
        shown += text;
      },
    },
  );
  return shown;
}

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-ps-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

it('the workers of a large cluster are listed', async () => {
  const folder = await temporaryFolder();
  const note = 'x'.repeat(3_000);
  const items = Array.from({ length: 1_000 }, (_, index) => ({
    ...workerFixture({ name: `worker-${index}` }),
    note,
  }));
  await writeFile(join(folder, 'workers.json'), JSON.stringify({ items }));
  const shown = await ps(`cat ${folder}/workers.json`, folder);
  expect(shown.trimEnd().split('\n')).toHaveLength(1_001);
  expect(shown).toContain('worker-999');
});

it('the words of kubectl are told when it fails', async () => {
  const folder = await temporaryFolder();
  await expect(ps('echo forbidden >&2; exit 1', folder)).rejects.toMatchObject({
    code: 'CommandFailed',
    message: expect.stringContaining('forbidden'),
  });
});

it('a kubectl that may not be run is told as that', async () => {
  const folder = await temporaryFolder();
  await expect(ps('exit 0', folder, 0o644)).rejects.toMatchObject({
    code: 'CommandFailed',
    message: expect.stringContaining('cannot be run'),
  });
});
