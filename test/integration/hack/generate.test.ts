import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

describe('what is made from the source', () => {
  it('fits it: types the resource definitions, pages of docs/reference the program, manifests/ the chart', {
    timeout: 120_000,
  }, () => {
    const script = join(import.meta.dirname, '../../../hack/generate.ts');
    expect(() => execFileSync(process.execPath, [script, '--check'], { stdio: 'pipe' })).not.toThrow();
  });
});
