import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { undefinedIfNoFile } from '../../common/errors.ts';
import { intoFolder } from '../../common/folder.ts';
import { type CniResult, parseJson } from './cni-result.ts';
import { isObject, type NetworkConfig } from './network-config.ts';

/** Key of one attachment to a network. */
export interface CniTarget {
  readonly containerId: string;
  /** Path of the network namespace; empty when it is gone. */
  readonly netns: string;
  readonly ifName: string;
}

/**
 * Results of ADD on disk, in libcni's own format and file names (`results/<network>-<container>-<interface>`), so that
 * DEL gets the same prevResult after a restart.
 */
export class ResultCache {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = join(folder, 'results');
  }

  async write(config: NetworkConfig, target: CniTarget, result: CniResult): Promise<void> {
    const path = this.#path(config.name, target.containerId, target.ifName);
    const text = JSON.stringify({
      kind: 'cniCacheV1',
      containerId: target.containerId,
      config: Buffer.from(JSON.stringify(config)).toString('base64'),
      ifName: target.ifName,
      networkName: config.name,
      netns: target.netns,
      result,
    });
    await replaceFile(path, text);
  }

  /** Undefined when there is none, or none that can be read: DEL works without. */
  async read(network: string, containerId: string, ifName: string): Promise<CniResult | undefined> {
    return resultIn((await undefinedIfNoFile(readFile(this.#path(network, containerId, ifName), 'utf8'))) ?? '');
  }

  /** Every result that can be read, of all networks. */
  async all(): Promise<readonly CniResult[]> {
    const found: CniResult[] = [];
    for (const name of await this.#names()) {
      // A file that is gone again, or half written, is complete at the next read.
      const result = resultIn(await readFile(join(this.#folder, name), 'utf8').catch(() => ''));
      found.push(...(result === undefined ? [] : [result]));
    }
    return found;
  }

  async remove(network: string, containerId: string, ifName: string): Promise<void> {
    const path = this.#path(network, containerId, ifName);
    await rm(path, { force: true });
    // Left by a write during which an agent was killed.
    await rm(`${path}.tmp`, { force: true });
  }

  /** Container ids with a result for an interface of this network. */
  async list(network: string, ifName: string): Promise<readonly string[]> {
    return (await this.#names())
      .filter((name) => name.startsWith(`${network}-`) && name.endsWith(`-${ifName}`))
      .map((name) => name.slice(network.length + 1, -ifName.length - 1));
  }

  async #names(): Promise<readonly string[]> {
    return (await undefinedIfNoFile(readdir(this.#folder))) ?? [];
  }

  #path(network: string, containerId: string, ifName: string): string {
    return join(this.#folder, `${network}-${containerId}-${ifName}`);
  }
}

function resultIn(text: string): CniResult | undefined {
  const document = parseJson(text);
  return isObject(document) && isObject(document.result) ? document.result : undefined;
}

/**
 * Replaces a file in one step, and makes its folder where there is none. After a crash of the machine there is no
 * attachment left, so the file need not be on the platter.
 */
export async function replaceFile(path: string, text: string): Promise<void> {
  await intoFolder({ folder: dirname(path), mode: 0o700 }, () => replace(path, text));
}

async function replace(path: string, text: string): Promise<void> {
  try {
    await writeFile(`${path}.tmp`, text, { mode: 0o600 });
    await rename(`${path}.tmp`, path);
  } catch (error) {
    await rm(`${path}.tmp`, { force: true });
    throw error;
  }
}
