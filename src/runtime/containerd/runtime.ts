import { WorkerRuntime } from '../lifecycle/worker-runtime.ts';
import { ContainerdBackend } from './backend.ts';
import { WorkerCreation } from './create.ts';
import { type ContainerdRuntimeOptions, createContainerdParts } from './parts.ts';
import { WorkerRemoval } from './remove.ts';

/** Makes the runtime of workers as tasks of containerd. Nothing happens before its start. */
export function createContainerdRuntime(options: ContainerdRuntimeOptions): WorkerRuntime {
  const parts = createContainerdParts(options);
  const removal = new WorkerRemoval(parts);
  return new WorkerRuntime(new ContainerdBackend(parts, new WorkerCreation(parts, removal), removal), parts);
}
