import { containerLabels } from '../../api/label.ts';
import type { DockerContainer } from '../../docker/container-service.ts';
import { labelsOf } from '../contract/container-labels.ts';
import type { EnsureRequest, TaskState, WorkerInfo } from '../contract/runtime.ts';
import { HOST_MODE_IP } from '../start/host-port.ts';

/** The network of the engine that workers are in. */
export const DOCKER_NETWORK = 'esb';
/** On every container of ours, and on no other. */
export const WORKER_LABEL = containerLabels.uid;

/** The labels of a worker's container. In a bridge its address comes with its start, and the engine tells it. */
export function dockerLabelsOf(
  request: Pick<EnsureRequest, 'identity' | 'epoch' | 'shapeHash' | 'shape'>,
  port: number,
  image: string,
  handlerInItsPlace?: string,
): Record<string, string> {
  const ip = request.shape.networkMode === 'Host' ? HOST_MODE_IP : '';
  return { ...labelsOf(request, { ip, port }, image, handlerInItsPlace) };
}

/** Whether a container carries our labels. Everything else of the engine belongs to others. */
export function isDockerWorker(container: DockerContainer): boolean {
  return (container.labels[WORKER_LABEL] ?? '') !== '';
}

/**
 * What the engine tells of a worker.
 *
 * @param epoch the one that it was marked with since it was made, if any: the engine changes no label
 */
export function dockerWorkerInfo(container: DockerContainer, epoch: number | undefined): WorkerInfo {
  const label = (name: keyof typeof containerLabels): string => container.labels[containerLabels[name]] ?? '';
  const ip = label('ip') || (container.addresses[DOCKER_NETWORK] ?? '');
  const port = Number(label('port'));
  return {
    containerId: container.name,
    identity: {
      namespace: label('namespace'),
      name: label('name'),
      uid: label('uid'),
      functionName: label('functionName'),
    },
    epoch: epoch ?? (Number(label('epoch')) || 0),
    shapeHash: label('shape'),
    image: label('image'),
    task: dockerTaskState(container),
    ...(label('handlerInItsPlace') === '' ? {} : { handlerInItsPlace: label('handlerInItsPlace') }),
    ...(ip !== '' && port > 0 ? { address: { ip, port } } : {}),
    createdAt: container.createdAt,
  };
}

/** The state of a container's process. */
export function dockerTaskState(container: DockerContainer): TaskState {
  const { exitCode, finishedAt, pid, status } = container;
  switch (status) {
    case 'created':
      return { kind: 'Created' };
    case 'running':
      return { kind: 'Running', pid };
    case 'paused':
      return { kind: 'Paused', pid };
    // Ended, or on its way: ours are never started again by the engine.
    case 'restarting':
    case 'removing':
    case 'exited':
    case 'dead':
      return {
        kind: 'Stopped',
        exitCode,
        // The engine says so also when the kernel ended a child of it only.
        oomKilled: exitCode !== 0 && container.oomKilled,
        ...(finishedAt === undefined ? {} : { exitedAt: finishedAt }),
      };
  }
}
