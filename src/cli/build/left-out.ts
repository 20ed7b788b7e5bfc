import { matchesGlob } from 'node:path';
import { EsbError } from '../../common/errors.ts';

/** File in a function's folder with further patterns, one on a line. */
export const IGNORE_FILE = '.esbignore';

/** Paths that no function reads when it runs. */
const UNREAD = ['.git', '.hg', '.svn', '.venv', 'venv', '__pycache__', '*.pyc', '.DS_Store', IGNORE_FILE] as const;
/** Files with the credentials of a developer: an image is read by more people than the folder. */
const SECRET = ['.env', '.env.*', '.npmrc', '.yarnrc.yml', '.pypirc', '.netrc', '.aws', '.ssh', '.docker'] as const;
/** Stands for a dot in paths and patterns: Node.js has no star hold for names that begin with a dot. */
const DOT = '\uE000';

/**
 * Makes the test of which paths of a function's folder are left out of its image.
 *
 * @param text content of `.esbignore`: a glob on each line, and lines that begin with `#`. A pattern with a slash in it
 *   is meant from the folder on; one without holds in every folder below, too.
 * @param packages folder of installed packages, which the image gets installed for its own platform
 * @throws {EsbError} `InvalidArgument` for a pattern that takes others back
 */
export function leftOut(text = '', packages?: string): (path: string) => boolean {
  const written = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  const negated = written.find((line) => line.startsWith('!'));
  if (negated !== undefined) {
    throw new EsbError(`${IGNORE_FILE}: ${negated}: patterns that take others back are not supported`, {
      code: 'InvalidArgument',
    });
  }
  const patterns = [...UNREAD, ...SECRET, ...(packages === undefined ? [] : [`/${packages}`]), ...written].map(
    anchored,
  );
  return (path) => patterns.some((pattern) => matchesGlob(path.replaceAll('.', DOT), pattern));
}

function anchored(pattern: string): string {
  const bare = pattern.replace(/\/+$/, '').replaceAll('.', DOT);
  return bare.includes('/') ? bare.replace(/^\/+/, '') : `**/${bare}`;
}
