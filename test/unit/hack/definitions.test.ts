import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { run } from '../../support/command.ts';
import { builtDefinitionCheck } from '../../support/definition-check.ts';

const folder = join(import.meta.dirname, '../../../crds');
const files = readdirSync(folder).map((name) => join(folder, name));
const program = await builtDefinitionCheck();

/** Findings of an API server, a line each. */
async function judge(of: readonly string[]): Promise<string> {
  const { stdout } = await run(program ?? '', of, { mayFail: true, timeoutMs: 60_000 });
  return stdout;
}

// On real servers, test/integration/crd-validation.test.ts shows the same where the program is not built.
describe.skipIf(program === undefined)('the definitions of resources', { timeout: 120_000 }, () => {
  it('are taken by an API server', async () => {
    expect(files.length).toBeGreaterThan(4);
    expect(await judge(files)).toBe('');
  });

  it('are refused with a rule that reads what no default has filled in yet', async () => {
    const place = mkdtempSync(join(tmpdir(), 'esb-definitions-'));
    onTestFinished(() => rmSync(place, { recursive: true }));
    const file = join(place, 'lambdafunctions.yaml');
    const text = readFileSync(join(folder, 'lambdafunctions.yaml'), 'utf8');
    const unguarded = text.replace(/!has\(self\.max\w+\) \|\|\s+/g, '');
    expect(unguarded).not.toBe(text);
    writeFileSync(file, unguarded);
    expect(await judge([file])).toMatch(/properties\[rollout\]\.default: .* no such key: maxSurge/);
  });
});
