import { dirname, join } from 'node:path';
import { createDockerClient, type DockerClient } from '../../docker/docker-client.ts';
import { createRuntimeParts, type RuntimeOptions } from '../lifecycle/runtime-parts.ts';
import { WorkerRuntime } from '../lifecycle/worker-runtime.ts';
import { DockerBackend } from './backend.ts';
import { DockerWorkers, type MadeDockerWorker } from './containers.ts';
import { EpochStore } from './epoch-store.ts';
import { DockerEventFeed } from './events.ts';
import { DockerImages } from './images.ts';
import { LogCopier } from './log-copier.ts';
import { DockerNetworkKeeper } from './network.ts';

export interface DockerRuntimeOptions extends RuntimeOptions {
  readonly docker: {
    /** Path of the engine's socket. */
    readonly socketPath: string;
    /** Default: a client of the engine at `socketPath`. */
    readonly client?: DockerClient | undefined;
    /** Folder of the facts that the engine cannot keep of a container. Default: `docker` beside the folder of the output. */
    readonly notesFolder?: string | undefined;
  };
  /** Preference of the kernel for ending workers when memory is short, 0 to 1000. Default: the engine's. */
  readonly oomScoreAdj?: number | undefined;
}

/** Makes the runtime of workers as containers of a Docker engine. Nothing happens before its start. */
export function createDockerRuntime(options: DockerRuntimeOptions): WorkerRuntime<MadeDockerWorker> {
  const parts = createRuntimeParts(options);
  const { clock, events, logger, logs, observer } = parts;
  const { client = createDockerClient({ socketPath: options.docker.socketPath, clock }) } = options.docker;
  const notes = options.docker.notesFolder ?? join(dirname(options.logs.folder), 'docker');
  const images = new DockerImages({
    images: client.images,
    maxPulls: options.images?.maxPulls,
    observer,
    clock,
    logger,
  });
  const epochs = new EpochStore(join(notes, 'epochs'));
  const copier = new LogCopier({
    containers: client.containers,
    logs,
    folder: join(notes, 'copied'),
    clock,
    logger,
  });
  const workers = new DockerWorkers({
    parts,
    containers: client.containers,
    images,
    epochs,
    copier,
    oomScoreAdj: options.oomScoreAdj,
  });
  const feed = new DockerEventFeed({
    events: client.events,
    listener: (event) => events.publish(event),
    clock,
    logger,
  });
  const network = new DockerNetworkKeeper(client.networks);
  const backend = new DockerBackend({ parts, client, network, images, epochs, copier, workers, feed });
  return new WorkerRuntime(backend, parts);
}
