import { EsbError } from '../common/errors.ts';
import type { ContainerRuntime } from './container-runtime.ts';
import { ContainerdRuntime, type ContainerdRuntimeOptions } from './containerd-runtime.ts';

export interface RuntimeFactoryOptions {
  /** As `RUNTIME_TYPE` has it. Default `containerd`. */
  readonly type?: string | undefined;
  readonly containerd: ContainerdRuntimeOptions;
}

/**
 * Makes the runtime of a node.
 *
 * @throws {EsbError} `InvalidArgument` for a type that does not exist
 */
export function createRuntime(options: RuntimeFactoryOptions): ContainerRuntime {
  const type = options.type === undefined || options.type === '' ? 'containerd' : options.type;
  if (type === 'containerd') {
    return new ContainerdRuntime(options.containerd);
  }
  throw new EsbError(`RUNTIME_TYPE is '${type}'; the one there is is 'containerd'`, {
    code: 'InvalidArgument',
  });
}
