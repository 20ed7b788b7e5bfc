import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import { errnoOf } from '../../common/errors.ts';

/** Names of the bridges that were made and not removed since, for the removal of them all. */
export class BridgeList {
  readonly #path: string;

  /** @param folder the folder `cni` of the agent's state */
  constructor(folder: string) {
    this.#path = join(folder, 'bridges.json');
  }

  async read(): Promise<readonly string[]> {
    try {
      const names: unknown = JSON.parse(await readFile(this.#path, 'utf8'));
      return (Array.isArray(names) ? (names as unknown[]) : []).filter((name) => typeof name === 'string');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || error instanceof SyntaxError) {
        return [];
      }
      throw error;
    }
  }

  async write(names: readonly string[]): Promise<void> {
    await mkdir(join(this.#path, '..'), { recursive: true, mode: 0o700 });
    await writeFileAtomically(this.#path, JSON.stringify(names));
  }
}
