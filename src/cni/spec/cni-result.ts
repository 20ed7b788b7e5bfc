import { isIP } from 'node:net';
import { isObject, listOf } from './network-config.ts';

/** Answer of a plugin to ADD; passed on and kept unchanged. */
export interface CniResult extends Readonly<Record<string, unknown>> {
  readonly cniVersion?: string;
}

/** "Try again later" of the specification. */
export const CNI_CODE_TRY_AGAIN = 11;

/** The result in a plugin's output, or undefined when it is something else. */
export function readResult(stdout: string): CniResult | undefined {
  const document = parseJson(stdout);
  return isObject(document) && typeof document.code !== 'number' ? document : undefined;
}

/** The error in a plugin's output (CNI specification 1.1, section 5), or undefined when there is none. */
export function readFailure(stdout: string): { readonly code: number; readonly message: string } | undefined {
  const document = parseJson(stdout);
  if (!isObject(document) || typeof document.code !== 'number') {
    return undefined;
  }
  const parts = [document.msg, document.details].filter((part) => typeof part === 'string' && part !== '');
  return { code: document.code, message: parts.join('; ') || 'no message' };
}

/** The addresses of a result without their prefix lengths, IPv4 first. */
export function addressesOf(result: CniResult): readonly string[] {
  const addresses = listOf(result.ips).flatMap((entry) => {
    const address = isObject(entry) ? entry.address : undefined;
    const ip = typeof address === 'string' ? address.split('/')[0] : undefined;
    return ip !== undefined && isIP(ip) !== 0 ? [ip] : [];
  });
  return [...addresses.filter((ip) => isIP(ip) === 4), ...addresses.filter((ip) => isIP(ip) === 6)];
}

/** The node's end of the attachment: the interface of the result with no sandbox that is not the bridge. */
export function hostInterfaceOf(result: CniResult, bridge: string): string | undefined {
  return nodeInterfacesOf(result).find((name) => name !== bridge && name !== 'lo');
}

/** Names of the interfaces of a result with no sandbox, which are the node's. */
export function nodeInterfacesOf(result: CniResult): readonly string[] {
  return listOf(result.interfaces).flatMap((entry) =>
    isObject(entry) && typeof entry.name === 'string' && (entry.sandbox ?? '') === '' ? [entry.name] : [],
  );
}

/** The value of a JSON text; undefined for any other text. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
