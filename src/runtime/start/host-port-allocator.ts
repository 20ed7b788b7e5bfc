import { once } from 'node:events';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import { EsbError, errnoOf, messageOf, undefinedIf, undefinedIfNoFile } from '../../common/errors.ts';
import { Limiter } from '../../common/limiter.ts';
import { HOST_MODE_IP, type HostPortPair } from './host-port.ts';

/** Ports of the node that workers in `Host` mode may be given. */
export interface HostPortRange {
  readonly first: number;
  readonly last: number;
}

/** Below the kernel's ports of outgoing connections, and below the node ports of Kubernetes. */
export const DEFAULT_HOST_PORTS: HostPortRange = { first: 25_000, last: 26_999 };

export interface HostPortAllocatorOptions {
  /** Folder of the records, which survive the agent. */
  readonly folder: string;
  readonly range?: HostPortRange | undefined;
  /** Whether a port is free. Default: by listening on it. */
  readonly isFree?: (port: number) => Promise<boolean>;
}

/** Ports that a worker takes: for its calls, and for its function's runtime. */
const PORTS_EACH = 2;
const SUFFIX = '.json';

/**
 * Reads `25000-26999`.
 *
 * @throws {EsbError} `InvalidArgument`
 */
export function parseHostPortRange(text: string): HostPortRange {
  const match = /^(\d{1,5})-(\d{1,5})$/.exec(text);
  const [first, last] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || first < 1 || last > 65_535 || last - first + 1 < PORTS_EACH) {
    throw new EsbError(`'${text}' is not a range of at least ${PORTS_EACH} ports such as 25000-26999`, {
      code: 'InvalidArgument',
    });
  }
  return { first, last };
}

/**
 * The ports of the node by worker. A worker keeps its ports until its removal, over restarts of itself and of the
 * agent. No other worker is given them, and ports on which another program of the node listens are not given out.
 */
export class HostPortAllocator {
  readonly #folder: string;
  readonly #range: HostPortRange;
  readonly #isFree: (port: number) => Promise<boolean>;
  readonly #given = new Map<string, HostPortPair>();
  readonly #one = new Limiter(1);
  #missing: ReadonlySet<string> = new Set();
  #loaded = false;
  #next: number;

  constructor(options: HostPortAllocatorOptions) {
    this.#folder = options.folder;
    this.#range = options.range ?? DEFAULT_HOST_PORTS;
    this.#isFree = options.isFree ?? isFree;
    this.#next = this.#range.first;
  }

  /**
   * The ports of a worker that is about to be made: its present ones, unless another program took them meanwhile.
   *
   * @throws {EsbError} `AddressesExhausted` when all are taken, `NetworkFailed`
   */
  allocate(containerId: string): Promise<HostPortPair> {
    return this.#alone(async () => {
      const present = this.#given.get(containerId);
      if (present !== undefined && (await this.#areFree(present))) {
        return present;
      }
      const pair = await this.#find();
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      await writeFileAtomically(this.#path(containerId), JSON.stringify(pair));
      this.#given.set(containerId, pair);
      return pair;
    });
  }

  /** Gives the ports of a worker back; none is success. */
  release(containerId: string): Promise<void> {
    return this.#alone(async () => {
      if (this.#given.has(containerId)) {
        await this.#giveBack(containerId);
      }
    });
  }

  /**
   * Gives back the ports of containers that were in `inUse` neither at this call nor at the one before: between the two
   * a worker may be replaced. Returns the container ids.
   */
  prune(inUse: ReadonlySet<string>): Promise<readonly string[]> {
    return this.#alone(async () => {
      const missing = [...this.#given.keys()].filter((id) => !inUse.has(id));
      const pruned = missing.filter((id) => this.#missing.has(id));
      for (const containerId of pruned) {
        await this.#giveBack(containerId);
      }
      this.#missing = new Set(missing);
      return pruned;
    });
  }

  async #giveBack(containerId: string): Promise<void> {
    await rm(this.#path(containerId), { force: true });
    this.#given.delete(containerId);
  }

  async #find(): Promise<HostPortPair> {
    const { first, last } = this.#range;
    const taken = new Set([...this.#given.values()].map(({ port }) => port));
    const count = Math.floor((last - first + 1) / PORTS_EACH);
    for (let tried = 0; tried < count; tried += 1) {
      const port = this.#next;
      // In rotation, so that ports rest before they are given out again.
      this.#next = port + 2 * PORTS_EACH - 1 > last ? first : port + PORTS_EACH;
      const pair = { port, runtimePort: port + 1 };
      if (!taken.has(port) && (await this.#areFree(pair))) {
        return pair;
      }
    }
    throw new EsbError(
      `all ports of the node from ${first} to ${last} are taken: give the agent more with --host-ports`,
      { code: 'AddressesExhausted' },
    );
  }

  async #areFree({ port, runtimePort }: HostPortPair): Promise<boolean> {
    return (await this.#isFree(port)) && (await this.#isFree(runtimePort));
  }

  /** One call at a time: a port is tried before it is recorded. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    return await this.#one.run(async () => {
      try {
        await this.#load();
        return await work();
      } catch (error) {
        if (error instanceof EsbError) {
          throw error;
        }
        throw new EsbError(`ports of the node: ${messageOf(error)}`, {
          code: errnoOf(error) === 'ENOSPC' ? 'DiskFull' : 'NetworkFailed',
          retryable: true,
          cause: error,
        });
      }
    });
  }

  async #load(): Promise<void> {
    if (this.#loaded) {
      return;
    }
    for (const name of (await undefinedIfNoFile(readdir(this.#folder))) ?? []) {
      const pair = name.endsWith(SUFFIX) ? readPair(await readFile(join(this.#folder, name), 'utf8')) : undefined;
      if (pair === undefined) {
        // A crash cut the write off.
        await rm(join(this.#folder, name), { force: true });
      } else {
        this.#given.set(name.slice(0, -SUFFIX.length), pair);
      }
    }
    this.#loaded = true;
  }

  #path(containerId: string): string {
    return join(this.#folder, `${containerId}${SUFFIX}`);
  }
}

function readPair(text: string): HostPortPair | undefined {
  try {
    const { port, runtimePort } = JSON.parse(text) as Partial<HostPortPair>;
    return typeof port === 'number' && typeof runtimePort === 'number' ? { port, runtimePort } : undefined;
  } catch {
    return undefined;
  }
}

/** Whether nothing listens on a port, on the loopback address or on all. */
async function isFree(port: number): Promise<boolean> {
  await using server = createServer();
  server.listen({ port, host: HOST_MODE_IP, exclusive: true });
  const isTaken = (error: unknown): boolean => ['EADDRINUSE', 'EACCES'].includes(errnoOf(error) ?? '');
  return (await undefinedIf(once(server, 'listening'), isTaken)) !== undefined;
}
