import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { CommanderError } from 'commander';
import { createLocalProgram } from '../../local/command-line.ts';
import { anchorsOf, linksOf } from './markdown-file.ts';

/** The root of the repository. */
export const documentationRoot = resolve(import.meta.dirname, '../..');

const foreign: ReadonlySet<string> = new Set(['node_modules', '.git', '.esb']);

/** Every file of the repository with one of these endings, from its root on. */
export function filesEnding(endings: readonly string[], folder = documentationRoot): readonly string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      return foreign.has(entry.name) ? [] : filesEnding(endings, path);
    }
    return endings.some((ending) => entry.name.endsWith(ending)) ? [relative(documentationRoot, path)] : [];
  });
}

/** The text of a file of the repository. */
export function textOf(file: string): string {
  return readFileSync(join(documentationRoot, file), 'utf8');
}

function kindOf(path: string): 'file' | 'folder' | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? undefined : found.isDirectory() ? 'folder' : 'file';
}

/**
 * The links of a Markdown text that lead nowhere within the repository. Where other servers lead is not looked at.
 *
 * @param file where the text stands, from the root of the repository
 */
export function deadLinks(file: string, text: string): readonly string[] {
  return linksOf(text).flatMap(({ line, target }) => {
    if (/^[a-z][a-z+.-]*:/i.test(target)) {
      return [];
    }
    const [path = '', anchor] = target.split('#');
    const goal = path === '' ? join(documentationRoot, file) : join(documentationRoot, dirname(file), path);
    const kind = kindOf(goal);
    if (kind === undefined || !goal.startsWith(documentationRoot)) {
      return [`${file}:${line}: ${target} is not there`];
    }
    if (anchor === undefined || !goal.endsWith('.md')) {
      return [];
    }
    const anchors = anchorsOf(goal === join(documentationRoot, file) ? text : readFileSync(goal, 'utf8'));
    return anchors.has(anchor) ? [] : [`${file}:${line}: ${target} names no heading`];
  });
}

/** Stands for what is left out, or for what a reader fills in. */
const omission = /^(…|\.\.\.|<[a-z-]+>)$/;
/** Stands for a number. */
const anyNumber = 'N';

/**
 * Fault in the words of a command line behind `esb`; undefined when `esb` would take them.
 *
 * @param isWhole whether arguments that have to be given may not be left out
 */
export function commandFault(words: readonly string[], isWhole: boolean): string | undefined {
  let command = createLocalProgram();
  let rest = words
    .filter((word) => !omission.test(word) && word !== '--help' && word !== '--version')
    .map((word) => (!isWhole && word === anyNumber ? '1' : word));
  const isCut = rest.length < words.length;
  try {
    for (;;) {
      const { operands, unknown } = command.configureOutput({ writeErr: () => undefined }).parseOptions([...rest]);
      const next = command.commands.find((each) => each.name() === operands[0]);
      if (next === undefined) {
        return faultOf(command, operands, unknown, isWhole && !isCut);
      }
      const at = rest.indexOf(next.name());
      rest = [...rest.slice(0, at), ...rest.slice(at + 1)];
      command = next;
    }
  } catch (error) {
    if (error instanceof CommanderError) {
      // In running text a flag stands for itself.
      return !isWhole && error.code === 'commander.optionMissingArgument' ? undefined : error.message;
    }
    throw error;
  }
}

function faultOf(
  command: ReturnType<typeof createLocalProgram>,
  operands: readonly string[],
  unknown: readonly string[],
  isWhole: boolean,
): string | undefined {
  const taken = command.registeredArguments;
  if (unknown.length > 0) {
    return `unknown: ${unknown.join(' ')}`;
  }
  if (command.parent === null && operands.length > 0) {
    return `no such command: ${operands[0]}`;
  }
  if (operands.length > taken.length && !taken.some((argument) => argument.variadic)) {
    return `too many arguments: ${operands.slice(taken.length).join(' ')}`;
  }
  const needed = taken.filter((argument) => argument.required).length;
  return isWhole && operands.length < needed ? `too few arguments: ${operands.length} of ${needed}` : undefined;
}

/**
 * The words behind `esb` in a simple command, also where it is run by npx, in a Pod, or as a script of npm; undefined
 * when the command is not ours.
 */
export function esbWords(words: readonly string[]): readonly string[] | undefined {
  const [first, second, third] = words;
  if (first === 'npm' && second === 'run' && ['up', 'down', 'status'].includes(third ?? '')) {
    const from = words.indexOf('--');
    return [third ?? '', ...(from < 0 ? [] : words.slice(from + 1))];
  }
  if (first === 'esb') {
    return words.slice(1);
  }
  if (first === 'npx' && second === 'esb') {
    return words.slice(2);
  }
  if (first === 'node' && second === 'hack/esb.mjs') {
    return words.slice(2);
  }
  const inside = words.findIndex((word, index) => word === 'esb' && words[index - 1] === '--');
  return inside < 0 ? undefined : words.slice(inside + 1);
}
