import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { undefinedIfNoFile } from '../../common/errors.ts';
import { METADATA_ADDRESSES } from './nftables.ts';

/**
 * The name servers in a resolv.conf, in its order, each once; none where there is no file.
 *
 * @see resolv.conf(5)
 */
export async function readNameServers(path: string | undefined): Promise<readonly string[]> {
  const text = path === undefined ? undefined : await undefinedIfNoFile(readFile(path, 'utf8'));
  const found = [...(text ?? '').matchAll(/^[ \t]*nameserver[ \t]+([^\s%]+)/gm)]
    .map(([, address = '']) => address.toLowerCase())
    .filter((address) => isIP(address) !== 0);
  return [...new Set(found)];
}

/** Addresses at which clouds serve credentials, in these families, without those of name servers. */
export function closedAddresses(families: readonly number[], nameServers: readonly string[]): readonly string[] {
  return METADATA_ADDRESSES.filter((address) => families.includes(isIP(address)) && !nameServers.includes(address));
}
