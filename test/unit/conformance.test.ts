import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const contract = readFileSync(join(root, 'docs/reference/lambda-api.md'), 'utf8');
const folder = join(root, 'test/integration/gateway/conformance');
const suite = readdirSync(folder)
  .map((file) => readFileSync(join(folder, file), 'utf8'))
  .join('\n');

/** Words `as code` in one column of the tables of a section. */
function namesIn(section: string, column: number): readonly string[] {
  const text = contract.split(/^## /m).find((part) => part.startsWith(`${section}\n`)) ?? '';
  const rows = text.split('\n').filter((line) => line.startsWith('|'));
  return rows
    .map((row) => row.split('|')[column + 1] ?? '')
    .flatMap((cell) => [...cell.matchAll(/`([A-Za-z-][\w.: -]*)`/g)].map((match) => match[1] ?? ''));
}

describe('the conformance suite has a test for each row of docs/reference/lambda-api.md', () => {
  const members = namesIn('Invoke', 0);
  const answers = namesIn('Answers', 0);
  const errors = namesIn('Errors', 1);

  it('finds the rows', () => {
    expect(members).toEqual(expect.arrayContaining(['FunctionName', 'Qualifier', 'InvocationType']));
    expect(answers).toEqual(expect.arrayContaining(['Sandbox.Timedout', 'Runtime.ExitError']));
    expect(errors).toEqual(expect.arrayContaining(['ResourceNotFoundException', 'CallerRateLimitExceeded']));
    expect(members.length + answers.length + errors.length).toBeGreaterThan(35);
  });

  it.each(members)('of the members of Invoke: %s', (name) => {
    // Headers are asked for in lower case.
    const words = name.split(': ');
    expect(words.filter((word) => !suite.includes(word) && !suite.includes(word.toLowerCase()))).toEqual([]);
  });

  it.each([...answers, ...new Set(errors)])('of answers and errors: %s', (name) => {
    // Not at the end of a longer one.
    expect(suite).toMatch(new RegExp(`(?<![A-Za-z])${name.replaceAll('.', '\\.')}`));
  });
});
