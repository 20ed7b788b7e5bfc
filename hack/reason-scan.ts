import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Folders of src whose reasons end up in conditions and Events. Those of gateways are refusals of the Lambda API. */
const folders = ['api', 'agent', 'controller', 'runtime', 'cni'] as const;

/** A reason that stands in the source, and where. */
export interface FoundReason {
  readonly reason: string;
  /** From the root of the repository. */
  readonly file: string;
}

/** What says that the word in it is a reason. */
const patterns: readonly RegExp[] = [
  // { reason: 'X' }, readonly reason: 'X' | 'Y', const reason = …
  /\breason\??(?:: | = )(?:[\w.? ]*\? )?((?:'[A-Z][A-Za-z]+'(?:\s*[|:]\s*)?)+)/g,
  // yes('X', …) and no('X', …) of the agent's conditions
  /\b(?:yes|no)\(\s*('[A-Z][A-Za-z]+')/g,
  // condition('Type', health, 'X', …)
  /\bcondition\(\s*'[A-Za-z]+',\s*[\w.#]+,\s*('[A-Z][A-Za-z]+')/g,
];

/** Where several stand together: readyReasons = { … }, imageCodes = new Set([ … ]), type RefusalReason = … */
const groupPatterns: readonly RegExp[] = [
  /const \w*Reasons\b[^=]*= \{([\s\S]*?)\n\}/g,
  /const \w+Codes\b[^=]*= new Set\(\[([\s\S]*?)\]/g,
  /type \w*Reason =([\s\S]*?);/g,
];

/** What the worker of a runtime fails with is the reason of its Ready condition: { code: 'X' }. */
const codePattern = /\bcode: ('[A-Z][A-Za-z]+')/g;
const foldersOfCodes: ReadonlySet<string> = new Set(['runtime', 'oci']);

/** Codes of errors that are caught before anybody is told, or only logged. */
const silentCodes: ReadonlySet<string> = new Set([
  // Rotation of logs.
  'HoleNotPunched',
  'LogCutShort',
  // Collection of images, and of what workers left behind.
  'ImageFileSystemUnknown',
  'UnmountFailed',
  // Flags that make no sense end the agent.
  'InvalidArgument',
]);

/**
 * The reasons that stand in a source text.
 *
 * @param withCodes whether codes of errors are reasons, too
 */
export function reasonsIn(text: string, withCodes = false): readonly string[] {
  const groups = [...patterns, ...groupPatterns, ...(withCodes ? [codePattern] : [])].flatMap((pattern) =>
    [...text.matchAll(pattern)].map((match) => match[1] ?? ''),
  );
  const words = groups.flatMap((group) =>
    [...group.matchAll(/'([A-Z][A-Za-z]+)'/g)].map((match) => match[1] ?? ''),
  );
  return [...new Set(words)].filter((word) => !silentCodes.has(word));
}

/** Every reason in the source of what writes conditions and Events. */
export async function sourceReasons(root: string): Promise<readonly FoundReason[]> {
  const found = await Promise.all(
    folders.map(async (folder) => {
      const files = (await readdir(join(root, 'src', folder), { recursive: true })).filter((file) =>
        file.endsWith('.ts'),
      );
      const texts = await Promise.all(
        files.map(async (file) => ({
          file: join('src', folder, file),
          text: await readFile(join(root, 'src', folder, file), 'utf8'),
        })),
      );
      return texts.flatMap(({ file, text }) =>
        reasonsIn(text, foldersOfCodes.has(folder)).map((reason) => ({ reason, file })),
      );
    }),
  );
  return found.flat();
}

/** Every word in single quotes in the source: what a table of reasons may name. */
export async function sourceWords(root: string): Promise<ReadonlySet<string>> {
  const files = (await readdir(join(root, 'src'), { recursive: true })).filter((file) =>
    file.endsWith('.ts'),
  );
  const texts = await Promise.all(files.map((file) => readFile(join(root, 'src', file), 'utf8')));
  return new Set(
    texts.flatMap((text) => [...text.matchAll(/'([A-Z][A-Za-z]+)'/g)].map((match) => match[1] ?? '')),
  );
}
