import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { errnoOf } from '../../common/errors.ts';
import { METADATA_ADDRESSES } from './nftables.ts';

/**
 * The name servers of a resolv.conf, in its order, each once.
 *
 * @see resolv.conf(5)
 */
export function nameServersOf(text: string): readonly string[] {
  const found = text
    .split('\n')
    .map((line) => /^\s*nameserver\s+([^\s%]+)/.exec(line)?.[1] ?? '')
    .filter((address) => isIP(address) !== 0)
    .map((address) => address.toLowerCase());
  return [...new Set(found)];
}

/** The name servers in a file; none where there is no file. */
export async function readNameServers(path: string | undefined): Promise<readonly string[]> {
  if (path === undefined) {
    return [];
  }
  try {
    return nameServersOf(await readFile(path, 'utf8'));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      return [];
    }
    throw error;
  }
}

/** Addresses at which clouds serve credentials, in the families of `ips`, without those of name servers. */
export function closedAddresses(ips: readonly string[], nameServers: readonly string[]): readonly string[] {
  const families = new Set(ips.map(isIP));
  return METADATA_ADDRESSES.filter((address) => families.has(isIP(address)) && !nameServers.includes(address));
}
