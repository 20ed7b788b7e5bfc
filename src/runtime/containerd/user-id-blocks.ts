import { readFile } from 'node:fs/promises';
import { EsbError, errnoOf } from '../../common/errors.ts';
import type { UserIds } from '../../oci/spec-user.ts';

/** Ids that a worker gets: as many as 16 bits name, the range that images use and that Kubernetes gives a Pod. */
export const BLOCK_SIZE = 65_536;

/** User in whose name the node's administrator sets ids aside. */
const OWNER = 'esb';
/** No id is larger; the last one means "no id". */
const MAX_ID = 0xffff_fffe;

/**
 * Reads which users of the node workers may have: `FIRST:COUNT`, or `auto` for what `/etc/subuid` and `/etc/subgid` set
 * aside for the user `esb`.
 *
 * @throws {EsbError} `InvalidArgument` for a range that is none, holds no block, or has the node's own users in it
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
    throw invalid(
      `${paths.join(' and ')} set different ranges aside for ${OWNER}: workers need the same one`,
    );
  }
  return checkedRange(users, `${users} of ${paths.join(' and ')}`);
}

/**
 * Gives every worker a block of ids that no other has, so that what gets out of one is a stranger to the next. Which are
 * taken is written at the containers themselves.
 */
export class UserIdBlocks {
  readonly #range: UserIds;
  readonly #taken: () => Promise<ReadonlyMap<string, number>>;
  #firsts: Promise<Map<string, number>> | undefined;
  /** Where the next search begins, so that a block rests before it is given again. */
  #next = 0;

  /** @param taken first id of each container that has some; asked once */
  constructor(range: UserIds, taken: () => Promise<ReadonlyMap<string, number>>) {
    this.#range = range;
    this.#taken = taken;
  }

  /** Blocks there are. */
  get size(): number {
    return Math.floor(this.#range.count / BLOCK_SIZE);
  }

  /**
   * The block of a worker; the same one until it is given back.
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

  /** Gives a worker's block back. None is fine. */
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
    throw invalid(
      `${what} is not between ${BLOCK_SIZE}, below which the node's own users are, and ${MAX_ID}`,
    );
  }
  return { first, count };
}

async function readSetAside(path: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
  const line = text.split('\n').find((each) => each.startsWith(`${OWNER}:`));
  return line?.slice(OWNER.length + 1).trim();
}

function invalid(message: string): EsbError {
  return new EsbError(message, { code: 'InvalidArgument' });
}
