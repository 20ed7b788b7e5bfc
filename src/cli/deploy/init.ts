import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { Language } from '../build/language.ts';
import type { CommandContext } from '../command-context.ts';
import { firstFunction } from './first-function.ts';
import { functionNameFrom } from './function-object.ts';

export interface InitOptions {
  /** Made where it is not there. */
  readonly folder: string;
  readonly language: Language;
}

/**
 * Writes a first function. No file is written over: where one is there, none is written at all.
 *
 * @throws {EsbError} `AlreadyExists` with the files that are there, `InvalidArgument` for a folder whose name makes no
 *   name of a function
 */
export async function runInit({ folder, language }: InitOptions, { write }: CommandContext): Promise<void> {
  const path = resolve(folder);
  const name = functionNameFrom(undefined, basename(path));
  const files = firstFunction(language, name);
  const present = files.filter((file) => existsSync(join(path, file.name))).map((file) => join(folder, file.name));
  if (present.length > 0) {
    throw new EsbError(
      `${present.join(' and ')} ${present.length === 1 ? 'is' : 'are'} there already: nothing is written`,
      {
        code: 'AlreadyExists',
      },
    );
  }
  try {
    await mkdir(path, { recursive: true });
    for (const file of files) {
      await writeFile(join(path, file.name), file.text, { flag: 'wx' });
    }
  } catch (error) {
    throw new EsbError(`${folder} cannot be written: ${messageOf(error)}`, { code: 'InvalidArgument', cause: error });
  }
  write(`Wrote ${files.map((file) => join(folder, file.name)).join(', ')}.\nNext: esb deploy ${folder}\n`);
}
