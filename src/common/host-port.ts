import { EsbError } from './errors.ts';

/** Address of a server. An empty `host` means every address of the machine. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/**
 * Reads `HOST:PORT`, `:PORT` or `[IPv6]:PORT`.
 *
 * @throws {EsbError} `InvalidArgument`, with the expected form in the message
 */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[(?<ipv6>[0-9a-fA-F:.]+)\]|(?<host>[^[\]:]*)):(?<port>\d{1,5})$/.exec(text);
  const port = Number(match?.groups?.port);
  if (match === null || port > 65_535) {
    throw new EsbError(`'${text}' is not HOST:PORT (for example 127.0.0.1:9443)`, { code: 'InvalidArgument' });
  }
  return { host: match.groups?.ipv6 ?? match.groups?.host ?? '', port };
}

/** The opposite of {@link parseHostPort}. */
export function formatHostPort(address: HostPort): string {
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
