import { createServer } from 'node:net';
import { basename } from 'node:path';
import { EsbError } from '../common/errors.ts';
import type { ImageConfig } from '../oci/image-config.ts';
import { processArguments } from '../oci/runtime-spec.ts';
import type { WorkerShape } from './container-runtime.ts';

/** Address of a worker in the node's own network: callers go through the agent, so nobody else may reach it. */
export const HOST_MODE_IP = '127.0.0.1';
const EMULATOR = 'aws-lambda-rie';
const ADDRESS_FLAG = '--runtime-interface-emulator-address';

/**
 * A worker's shape with the emulator told to listen on `port`: in `Host` mode workers share the node's ports.
 *
 * @throws {EsbError} `CreateFailed` when the resource does not name the emulator's command line
 */
export function withHostPort(shape: WorkerShape, image: ImageConfig, port: number): WorkerShape {
  if (shape.command.length === 0 && shape.args.length === 0) {
    throw refused('it has neither spec.command nor spec.args');
  }
  const [program = '', ...rest] = processArguments(shape, image);
  if (basename(program) !== EMULATOR) {
    throw refused(`its command begins with '${program}'`);
  }
  if (rest.some((argument) => argument.startsWith(ADDRESS_FLAG))) {
    throw refused(`it sets ${ADDRESS_FLAG} itself, which is for the agent to choose`);
  }
  return { ...shape, command: [program], args: [ADDRESS_FLAG, `${HOST_MODE_IP}:${port}`, ...rest], port };
}

/** A TCP port that is free at the moment. */
export async function freeHostPort(): Promise<number> {
  const server = createServer();
  const listening = Promise.withResolvers<void>();
  server.once('error', listening.reject);
  server.listen(0, HOST_MODE_IP, listening.resolve);
  await listening.promise;
  const address = server.address();
  const closed = Promise.withResolvers<void>();
  server.close(() => closed.resolve());
  await closed.promise;
  if (typeof address !== 'object' || address === null) {
    throw new EsbError('no free port on the node', { code: 'NetworkFailed', retryable: true });
  }
  return address.port;
}

function refused(why: string): EsbError {
  return new EsbError(
    `network mode Host needs a spec.command that begins with ${EMULATOR}, the only program whose port the agent can choose; ${why}`,
    { code: 'CreateFailed' },
  );
}
