import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { EsbError, errnoOf, messageOf } from '../errors.ts';
import { formatHostPort, type HostPort } from '../host-port.ts';

/**
 * Has a server take its port, on all addresses where the host is empty, and returns the real port.
 *
 * @throws {EsbError} `AddressInUse` when another program has the port, `ListenFailed` for anything else
 */
export async function listenOn(server: Server, { host, port }: HostPort): Promise<number> {
  server.listen({ port, ...(host === '' ? {} : { host }) });
  try {
    await once(server, 'listening');
  } catch (error) {
    throw listenError({ host, port }, error);
  }
  return (server.address() as AddressInfo).port;
}

/** The error of a port that cannot be had. */
export function listenError(address: HostPort, error: unknown): EsbError {
  const where = formatHostPort(address);
  return errnoOf(error) === 'EADDRINUSE'
    ? new EsbError(`${where} is taken by another program`, { code: 'AddressInUse', cause: error })
    : new EsbError(`cannot listen on ${where}: ${messageOf(error)}`, { code: 'ListenFailed', cause: error });
}
