import { unreachable } from '../common/errors.ts';
import type { ContainerdRuntimeOptions } from './containerd/parts.ts';
import type { ContainerRuntime } from './contract/runtime.ts';
import type { DockerRuntimeOptions } from './docker/runtime.ts';

/** Engine that runs the workers of a node, by `RUNTIME_TYPE`. */
export type RuntimeChoice =
  | { readonly type: 'containerd'; readonly options: ContainerdRuntimeOptions }
  | { readonly type: 'docker'; readonly options: DockerRuntimeOptions };

/** Makes the runtime of a node, and loads no other one. Nothing happens before its start. */
export async function createRuntime(choice: RuntimeChoice): Promise<ContainerRuntime> {
  switch (choice.type) {
    case 'containerd':
      return (await import('./containerd/runtime.ts')).createContainerdRuntime(choice.options);
    case 'docker':
      return (await import('./docker/runtime.ts')).createDockerRuntime(choice.options);
    default:
      return unreachable(choice);
  }
}
