import { readFile } from 'node:fs/promises';
import { EsbError, undefinedIfNoFile } from '../../common/errors.ts';
import type { UserIds } from '../../oci/spec-user.ts';

/** Ids of one worker: 16 bits, the range that images use and that Kubernetes gives a Pod. */
export const BLOCK_SIZE = 65_536;

/** User name under which the node's administrator sets ids aside. */
const OWNER = 'esb';
/** Largest id; the one after it means "no id". */
const MAX_ID = 0xffff_fffe;

/**
 * Reads the users of the node for workers: `FIRST:COUNT`, or `auto` for the range that `/etc/subuid` and `/etc/subgid`
 * set aside for the user `esb`.
 *
 * @throws {EsbError} `InvalidArgument` for a malformed range, one without a block, or one with the node's own users
 */
export async function readUserIdRange(
  text: string,
  files: { readonly subuid?: string; readonly subgid?: string } = {},
): Promise<UserIds> {
  if (text !== 'auto') {
    return checkedRange(text, text);
  }
  const paths = [files.subuid ?? '/etc/subuid', files.subgid ?? '/etc/subgid'];
  const [users, groups] = await Promise.all(paths.map(readSetAside));
  const problem = `no range is set aside for the user ${OWNER} in ${paths.join(' and ')}: add the line ${OWNER}:1000000:65536000 to both, or name a range as FIRST:COUNT`;
  if (users === undefined || groups === undefined) {
    throw invalid(problem);
  }
  if (users !== groups) {
    throw invalid(`${paths.join(' and ')} set different ranges aside for ${OWNER}: workers need the same one`);
  }
  return checkedRange(users, `${users} of ${paths.join(' and ')}`);
}

/**
 * Blocks of ids, one for each worker, so that a process that escapes has no rights over another worker. Labels of the
 * containers hold the taken blocks.
 */
export class UserIdBlocks {
  readonly #range: UserIds;
  readonly #taken: () => Promise<ReadonlyMap<string, number>>;
  #firsts: Promise<Map<string, number>> | undefined;
  /** Begin of the next search, so that a block rests before it is given out again. */
  #next = 0;

  /** @param taken gives the first id of each container with ids; called once */
  constructor(range: UserIds, taken: () => Promise<ReadonlyMap<string, number>>) {
    this.#range = range;
    this.#taken = taken;
  }

  get size(): number {
    return Math.floor(this.#range.count / BLOCK_SIZE);
  }

  /**
   * The block of a worker; the same one until its release.
   *
   * @throws {EsbError} `UserIdsExhausted`
   */
  async take(containerId: string): Promise<UserIds> {
    const firsts = await this.#known();
    const own = firsts.get(containerId);
    if (own !== undefined) {
      return { first: own, count: BLOCK_SIZE };
    }
    const used = new Set(firsts.values());
    for (let offset = 0; offset < this.size; offset += 1) {
      const index = (this.#next + offset) % this.size;
      const first = this.#range.first + index * BLOCK_SIZE;
      if (!used.has(first)) {
        firsts.set(containerId, first);
        this.#next = (index + 1) % this.size;
        return { first, count: BLOCK_SIZE };
      }
    }
    throw new EsbError(
      `all ${this.size} blocks of user ids are taken: give the agent a larger range by --user-namespaces`,
      { code: 'UserIdsExhausted' },
    );
  }

  /** Gives a worker's block back; none is success. */
  async release(containerId: string): Promise<void> {
    (await this.#firsts)?.delete(containerId);
  }

  async #known(): Promise<Map<string, number>> {
    this.#firsts ??= this.#taken().then((taken) => new Map(taken));
    try {
      return await this.#firsts;
    } catch (error) {
      this.#firsts = undefined;
      throw error;
    }
  }
}

function checkedRange(text: string, what: string): UserIds {
  const [, first, count] = (/^(\d{1,10}):(\d{1,10})$/.exec(text) ?? []).map(Number);
  if (first === undefined || count === undefined) {
    throw invalid(`${what} is no range of user ids such as 1000000:65536000`);
  }
  if (count < BLOCK_SIZE) {
    throw invalid(`${what} has ${count} user ids, and a worker needs ${BLOCK_SIZE}`);
  }
  if (first < BLOCK_SIZE || first + count - 1 > MAX_ID) {
    throw invalid(`${what} is not between ${BLOCK_SIZE}, below which the node's own users are, and ${MAX_ID}`);
  }
  return { first, count };
}

async function readSetAside(path: string): Promise<string | undefined> {
  const text = await undefinedIfNoFile(readFile(path, 'utf8'));
  const line = text?.split('\n').find((each) => each.startsWith(`${OWNER}:`));
  return line?.slice(OWNER.length + 1).trim();
}

function invalid(message: string): EsbError {
  return new EsbError(message, { code: 'InvalidArgument' });
}
