import { basename } from 'node:path';
import { EsbError } from '../../common/errors.ts';
import type { ImageConfig } from '../../oci/image-config.ts';
import { EMULATOR } from '../../oci/spec-init.ts';
import { processArguments } from '../../oci/spec-process.ts';
import type { WorkerShape } from '../contract/runtime.ts';

/** Address of a worker in the node's own network, which only the agent has to reach. */
export const HOST_MODE_IP = '127.0.0.1';
const ADDRESS_FLAG = '--runtime-interface-emulator-address';
/** Flag for the address at which the function's runtime asks the emulator for work. Default 127.0.0.1:9001. */
const RUNTIME_FLAG = '--runtime-api-address';

/** The ports of the node for one worker. */
export interface HostPortPair {
  /** Port of the emulator for calls. */
  readonly port: number;
  /** Port of the emulator for the function's runtime. */
  readonly runtimePort: number;
}

/**
 * A worker's shape with the emulator's ports in its command: in `Host` mode workers share the ports of the node.
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
