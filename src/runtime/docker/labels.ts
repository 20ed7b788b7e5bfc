import { containerLabels } from '../../api/label.ts';
import type { DockerContainer } from '../../docker/container-service.ts';
import { type LabelledRequest, labelsOf, workerInfoOf } from '../contract/container-labels.ts';
import type { TaskState, WorkerInfo, WorkerShape } from '../contract/runtime.ts';
import { HOST_MODE_IP } from '../start/host-port.ts';

/** Name of the engine's network of the workers. */
export const DOCKER_NETWORK = 'esb';
/** Label of every container of ours, and of no other. */
export const WORKER_LABEL = containerLabels.uid;

/** The labels of a worker's container. In a bridge the engine gives an address at the start. */
export function dockerLabelsOf(
  request: LabelledRequest & { readonly shape: Pick<WorkerShape, 'networkMode'> },
  port: number,
  image: string,
  handlerInItsPlace?: string,
): Record<string, string> {
  const ip = request.shape.networkMode === 'Host' ? HOST_MODE_IP : '';
  return { ...labelsOf(request, { ip, port }, image, handlerInItsPlace) };
}

/**
 * The worker of a container.
 *
 * @param epoch of a later assignment than the labels name, if any: the engine changes no label
 */
export function dockerWorkerInfo(container: DockerContainer, epoch: number | undefined): WorkerInfo {
  const { addresses, createdAt, name } = container;
  const ip = container.labels[containerLabels.ip] || (addresses[DOCKER_NETWORK] ?? '');
  const labels = { ...container.labels, [containerLabels.ip]: ip };
  const info = workerInfoOf({ id: name, labels, createdAt }, dockerTaskState(container));
  return epoch === undefined ? info : { ...info, epoch };
}

function dockerTaskState(container: DockerContainer): TaskState {
  const { exitCode, finishedAt, pid, status } = container;
  switch (status) {
    case 'created':
      return { kind: 'Created' };
    case 'running':
      return { kind: 'Running', pid };
    case 'paused':
      return { kind: 'Paused', pid };
    // Ended, or about to: the engine never restarts our containers.
    case 'restarting':
    case 'removing':
    case 'exited':
    case 'dead':
      return {
        kind: 'Stopped',
        exitCode,
        // The engine says so as well when the kernel ended only a child process.
        oomKilled: exitCode !== 0 && container.oomKilled,
        ...(finishedAt === undefined ? {} : { exitedAt: finishedAt }),
      };
  }
}
