import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { stringify } from 'yaml';

/** A file, for as long as the test takes, by which a role finds the API server at `server`. */
export function kubeconfigFor(server: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'esb-kubeconfig-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'config');
  writeFileSync(
    file,
    stringify({
      'current-context': 'test',
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
      clusters: [{ name: 'test', cluster: { server } }],
      users: [{ name: 'test', user: { token: 'test' } }],
    }),
  );
  return file;
}
