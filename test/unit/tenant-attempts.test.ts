import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { titlesOf } from '../support/test-titles.ts';
import { tenantAttempts } from '../tenant-attempts.ts';

describe('each attempt of a tenant', () => {
  it('has a test that is there and runs', () => {
    const missing = tenantAttempts
      .filter(
        ({ test: [file, title] }) => !titlesOf(file).some((found) => found.title === title && found.runs),
      )
      .map(({ attempt, test: [file, title] }) => `${attempt}: ${file} has no test '${title}'`);
    expect(missing).toEqual([]);
    expect(tenantAttempts.length).toBeGreaterThanOrEqual(25);
  });

  it('is on the page about security', () => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/explanation/security.md'), 'utf8');
    const rows = tenantAttempts.map(
      ({ attempt, by, test: [file] }) => `| ${attempt} | ${by} | \`test/${file}\` |`,
    );
    expect(rows.filter((row) => !page.includes(row))).toEqual([]);
  });
});
