import { isIP } from 'node:net';

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
