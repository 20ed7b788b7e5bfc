import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Variables that `source .esb/env` gives a shell, by name. */
export function readInstanceEnvironment(home: string): Readonly<Record<string, string>> {
  return Object.fromEntries(
    readFileSync(join(home, 'env'), 'utf8')
      .split('\n')
      .map((line) => /^(?:export )?([A-Z_]+)=["']?([^"']*)["']?$/.exec(line))
      .filter((match) => match !== null)
      .map((match) => [match[1] ?? '', match[2] ?? '']),
  );
}
