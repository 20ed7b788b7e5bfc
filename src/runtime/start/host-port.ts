import { basename } from 'node:path';
import { EsbError } from '../../common/errors.ts';
import type { ImageConfig } from '../../oci/image-config.ts';
import { processArguments } from '../../oci/spec-process.ts';
import type { WorkerShape } from '../contract/runtime.ts';

/** Address of a worker in the node's own network: callers go through the agent, so nobody else may reach it. */
export const HOST_MODE_IP = '127.0.0.1';
const EMULATOR = 'aws-lambda-rie';
const ADDRESS_FLAG = '--runtime-interface-emulator-address';
/** Where the function's runtime asks the emulator for work; 127.0.0.1:9001 for everybody unless it is told. */
const RUNTIME_FLAG = '--runtime-api-address';

/** The ports of the node that one worker has. */
export interface HostPortPair {
  /** Where the emulator takes calls. */
  readonly port: number;
  /** Where the emulator and the function's runtime meet. */
  readonly runtimePort: number;
}

/**
 * A worker's shape with the emulator told which ports to use: in `Host` mode workers share those of the node.
 *
 * @throws {EsbError} `CreateFailed` when the resource does not name the emulator's command line
 */
export function withHostPorts(shape: WorkerShape, image: ImageConfig, ports: HostPortPair): WorkerShape {
  if (shape.command.length === 0 && shape.args.length === 0) {
    throw refused('it has neither spec.command nor spec.args');
  }
  const [program = '', ...rest] = processArguments(shape, image);
  if (basename(program) !== EMULATOR) {
    throw refused(`its command begins with '${program}'`);
  }
  const own = [ADDRESS_FLAG, RUNTIME_FLAG].find((flag) => rest.some((argument) => argument.startsWith(flag)));
  if (own !== undefined) {
    throw refused(`it sets ${own} itself, which is for the agent to choose`);
  }
  const flags = [
    ...[ADDRESS_FLAG, `${HOST_MODE_IP}:${ports.port}`],
    ...[RUNTIME_FLAG, `${HOST_MODE_IP}:${ports.runtimePort}`],
  ];
  return { ...shape, command: [program], args: [...flags, ...rest], port: ports.port };
}

function refused(why: string): EsbError {
  return new EsbError(
    `network mode Host needs a spec.command that begins with ${EMULATOR}, the only program whose port the agent can choose; ${why}`,
    { code: 'CreateFailed' },
  );
}
