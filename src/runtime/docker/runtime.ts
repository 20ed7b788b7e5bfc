import { dirname, join } from 'node:path';
import { createDockerClient } from '../../docker/docker-client.ts';
import { createRuntimeParts, type RuntimeOptions } from '../lifecycle/runtime-parts.ts';
import { WorkerRuntime } from '../lifecycle/worker-runtime.ts';
import { DockerBackend } from './backend.ts';
import { EpochStore } from './epoch-store.ts';
import { dockerEvents } from './events.ts';
import { DockerImages } from './images.ts';
import { LogCopier } from './log-copier.ts';
import { DockerNetworkKeeper } from './network.ts';

export interface DockerRuntimeOptions extends RuntimeOptions {
  readonly docker: {
    readonly socketPath: string;
    /** Folder of the facts that the engine cannot keep of a container. Default: `docker` beside the folder of the output. */
    readonly notesFolder?: string | undefined;
  };
  /** Preference of the kernel for ending workers when memory is short, 0 to 1000. Default: the engine's. */
  readonly oomScoreAdj?: number | undefined;
}

/** Makes the runtime of workers as containers of a Docker engine. Nothing happens before its start. */
export function createDockerRuntime(options: DockerRuntimeOptions): WorkerRuntime {
  const { docker, images, logs, oomScoreAdj } = options;
  const parts = createRuntimeParts(options);
  const client = createDockerClient(docker.socketPath, parts.clock);
  const notes = docker.notesFolder ?? join(dirname(logs.folder), 'docker');
  const backend = new DockerBackend({
    ...parts,
    client,
    network: new DockerNetworkKeeper(client.networks),
    images: new DockerImages({ ...parts, ...images, images: client.images }),
    epochs: new EpochStore(join(notes, 'epochs')),
    copier: new LogCopier({ ...parts, containers: client.containers, folder: join(notes, 'copied') }),
    feed: dockerEvents(client.events, { ...parts, listener: (event) => parts.events.publish(event) }),
    oomScoreAdj,
  });
  return new WorkerRuntime(backend, parts);
}
