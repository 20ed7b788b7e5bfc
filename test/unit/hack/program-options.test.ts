import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { headComment } from '../../../hack/program-options.ts';

const usage = 'Does a thing.\n\n  npm run thing -- --fast     soon';

describe('headComment', () => {
  it.each([
    ['a docstring', '/**\n * Does a thing.\n *\n *   npm run thing -- --fast     soon\n */\nimport a;\n// No.\n'],
    ['lines', '// Does a thing.\n//\n//   npm run thing -- --fast     soon\nimport a;\n// No.\n'],
  ])('is the text of %s', (_, text) => {
    expect(headComment(text)).toBe(usage);
  });

  it('is empty where the file begins with code', () => {
    expect(headComment('import a;\n// No.\n')).toBe('');
  });
});

describe('programOptions', () => {
  function run(...args: readonly string[]) {
    const folder = mkdtempSync(join(tmpdir(), 'esb-options-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'program.ts');
    const module = join(import.meta.dirname, '../../../hack/program-options.ts');
    writeFileSync(
      file,
      `// Does a thing.\nimport { programOptions } from '${module}';\n` +
        "const { values } = programOptions(import.meta.filename, { options: { fast: { type: 'boolean' } } });\n" +
        'console.log(JSON.stringify(values));\n',
    );
    const { status, stdout, stderr } = spawnSync(process.execPath, [file, ...args], { encoding: 'utf8' });
    return { status, stdout: stdout.trim(), stderr };
  }

  it('reads options', () => {
    expect(run('--fast')).toEqual({ status: 0, stdout: '{"fast":true}', stderr: '' });
  });

  it('prints the head of the file for --help', () => {
    expect(run('--help')).toEqual({ status: 0, stdout: 'Does a thing.', stderr: '' });
  });

  it('says which option is unknown, and which there are', () => {
    expect(run('--slow')).toMatchObject({ status: 2, stdout: '' });
    expect(run('--slow').stderr).toMatch(/^Unknown option '--slow'.*\n\nDoes a thing\.\n$/s);
  });
});
