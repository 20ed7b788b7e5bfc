import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

describe('the types in src/api/generated', () => {
  it('fit the resource definitions in crds/', { timeout: 60_000 }, () => {
    const script = join(import.meta.dirname, '../../../hack/generate.ts');
    expect(() => execFileSync(process.execPath, [script, '--check'], { stdio: 'pipe' })).not.toThrow();
  });
});
