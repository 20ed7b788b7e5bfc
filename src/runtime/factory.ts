import { unreachable } from '../common/errors.ts';
import type { ContainerdRuntimeOptions } from './containerd/runtime.ts';
import type { ContainerRuntime } from './contract/runtime.ts';
import type { DockerRuntimeOptions } from './docker/runtime.ts';

/** What runs the workers of a node, by `RUNTIME_TYPE`. */
export type RuntimeChoice =
  | { readonly type: 'containerd'; readonly containerd: ContainerdRuntimeOptions }
  | { readonly type: 'docker'; readonly docker: DockerRuntimeOptions };

export type RuntimeType = RuntimeChoice['type'];

/** Makes the runtime of a node, and loads no other one. Nothing happens before its start. */
export async function createRuntime(choice: RuntimeChoice): Promise<ContainerRuntime> {
  switch (choice.type) {
    case 'containerd': {
      const { ContainerdRuntime } = await import('./containerd/runtime.ts');
      return new ContainerdRuntime(choice.containerd);
    }
    case 'docker': {
      const { DockerRuntime } = await import('./docker/runtime.ts');
      return new DockerRuntime(choice.docker);
    }
    default:
      return unreachable(choice);
  }
}
