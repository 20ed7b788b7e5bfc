import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');

/** Lines of a test file, by number, that wait for a time and have no comment on them or right above. */
function bareWaits(text: string): readonly number[] {
  const alias = /import \{ setTimeout(?: as (\w+))? \} from 'node:timers\/promises'/.exec(text);
  const name = alias === null ? 'sleep' : `(?:sleep|${alias[1] ?? 'setTimeout'})`;
  // A sleep of a clock that a test moves, or that a signal ends, waits for no time.
  const wait = new RegExp(
    `new Promise.*setTimeout\\(|await (?:Promise\\..*)?${name}\\((?!clock\\b|.*(?:signal|Signal))`,
  );
  const lines = text.split('\n');
  return lines.flatMap((line, at) => {
    const isSaid = [line, lines[at - 1] ?? ''].some((each) => /(?:^|\s)\/\/ /.test(each));
    return wait.test(line) && !isSaid ? [at + 1] : [];
  });
}

describe('a test that waits for a time', () => {
  it('says why there is no condition to wait for', () => {
    const files = globSync('test/**/*.test.ts', { cwd: root }).filter((file) => !file.endsWith('fixed-waits.test.ts'));
    const bare = files.flatMap((file) =>
      bareWaits(readFileSync(join(root, file), 'utf8')).map((line) => `${file}:${line}`),
    );
    expect(bare, 'wait for a condition (waitFor), or say above the line why the time is what is tested').toEqual([]);
  });

  it.each([
    ["import { setTimeout as rest } from 'node:timers/promises';\nawait rest(5);", [2]],
    ["import { setTimeout } from 'node:timers/promises';\nawait setTimeout(5);", [2]],
    ["import { setTimeout as rest } from 'node:timers/promises';\n// Nothing may come.\nawait rest(5);", []],
    ['await new Promise((resolve) => setTimeout(resolve, 5));', [1]],
    ['await sleep(systemClock, 5);', [1]],
    ['await sleep(clock, 5);\nawait sleep(systemClock, 5, signal);\nsetTimeout(answer, 5);', []],
  ])('is found in %j', (text, lines) => {
    expect(bareWaits(text)).toEqual(lines);
  });
});
