import { once } from 'node:events';
import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { errnoOf } from '../common/errors.ts';
import { INIT_SOCKET } from './contract.ts';

/**
 * Listens in a folder for one connection, after which the socket is gone: the kernel refuses further ones, however many
 * a worker tries, without any work of ours. Errors are those of the file system.
 *
 * @returns a function that stops listening; may be called again
 */
export async function takeOneConnection(
  folder: string,
  accept: (socket: Socket) => void,
): Promise<() => Promise<void>> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  // The path of a socket has at most 107 bytes.
  const path = `/proc/self/fd/${handle.fd}/${INIT_SOCKET}`;
  const server = createServer();
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    if (stopped === undefined) {
      // The end of the server removes the path, for which the handle has to be open.
      server.close();
      stopped = handle.close();
    }
    return stopped;
  };
  server.on('error', () => undefined);
  server.on('connection', (socket) => {
    void stop();
    accept(socket);
  });
  const listen = async (): Promise<void> => {
    // Binds, and sets the mode, before a connection can come and close the handle.
    server.listen({ path, backlog: 1, readableAll: true, writableAll: true });
    await once(server, 'listening');
  };
  try {
    try {
      await listen();
    } catch (error) {
      if (errnoOf(error) !== 'EADDRINUSE') {
        throw error;
      }
      // An agent that was killed has left its own.
      await rm(path, { force: true });
      await listen();
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return stop;
}
