import { containerLabels } from '../../api/label.ts';
import { egressOf } from '../../cni/host/egress-rules.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';
import type { EnsureRequest, FoundTask, TaskState, WorkerAddress, WorkerInfo, WorkerShape } from './runtime.ts';

/** The part of a request that the labels of its container keep. */
export interface LabelledRequest extends Pick<EnsureRequest, 'identity' | 'epoch' | 'shapeHash'> {
  readonly shape: Pick<WorkerShape, 'egress' | 'runtimeInterface' | 'timeoutSeconds'>;
}

/** The labels of a container: owner, epoch, shape, way of calls. Labels and task hold the whole state of a worker. */
export function labelsOf(
  request: LabelledRequest,
  address: WorkerAddress,
  image: string,
  handlerInItsPlace?: string,
): Readonly<Record<string, string>> {
  const { identity } = request;
  return {
    [containerLabels.namespace]: identity.namespace,
    [containerLabels.name]: identity.name,
    [containerLabels.uid]: identity.uid,
    [containerLabels.functionName]: identity.functionName,
    [containerLabels.shape]: request.shapeHash,
    [containerLabels.epoch]: String(request.epoch),
    [containerLabels.ip]: address.ip,
    // Earlier agents call no worker without a port.
    ...(request.shape.runtimeInterface === 'Lambda'
      ? { [containerLabels.runtimeInterface]: 'Lambda' }
      : { [containerLabels.port]: String(address.port) }),
    [containerLabels.image]: image,
    ...(request.shape.egress === undefined ? {} : { [containerLabels.egress]: request.shape.egress }),
    [containerLabels.timeout]: String(request.shape.timeoutSeconds),
    ...(handlerInItsPlace === undefined
      ? {}
      : { [containerLabels.handlerInItsPlace]: handlerInItsPlace.slice(0, 128) }),
  };
}

/** Whether a container carries our labels. */
export function isWorker(record: Pick<ContainerRecord, 'labels'>): boolean {
  return (record.labels[containerLabels.uid] ?? '') !== '';
}

export function workerInfoOf(
  record: Pick<ContainerRecord, 'id' | 'labels' | 'createdAt'>,
  task: TaskState,
): WorkerInfo {
  const label = (name: keyof typeof containerLabels): string => record.labels[containerLabels[name]] ?? '';
  const [ip, port] = [label('ip'), Number(label('port'))];
  const runtimeInterface = label('runtimeInterface') === 'Lambda' ? 'Lambda' : 'Emulator';
  return {
    containerId: record.id,
    identity: {
      namespace: label('namespace'),
      name: label('name'),
      uid: label('uid'),
      functionName: label('functionName'),
    },
    epoch: Number(label('epoch')) || 0,
    shapeHash: label('shape'),
    image: label('image'),
    ...(Number(label('timeout')) > 0 ? { timeoutSeconds: Number(label('timeout')) } : {}),
    task,
    runtimeInterface,
    ...(label('egress') === '' ? {} : { egress: egressOf(label('egress')) }),
    ...(label('handlerInItsPlace') === '' ? {} : { handlerInItsPlace: label('handlerInItsPlace') }),
    ...(ip !== '' && runtimeInterface === 'Lambda' ? { ip } : {}),
    ...(ip !== '' && port > 0 ? { address: { ip, port } } : {}),
    ...(label('tmpOnDisk') === 'true' ? { tmpOnDisk: true } : {}),
    createdAt: record.createdAt,
  };
}

/**
 * The state of a task by containerd and the kernel.
 *
 * @param oomKilled called only for a process that has ended
 */
export function taskStateOf(task: FoundTask | undefined, oomKilled: () => boolean): TaskState {
  switch (task?.status) {
    case undefined:
      return { kind: 'Missing' };
    case 'CREATED':
      return { kind: 'Created' };
    case 'RUNNING':
      return { kind: 'Running', pid: task.pid, ...(task.told === 'PAUSED' ? { unsettled: true } : {}) };
    case 'PAUSED':
    // Soon paused or thawed; each actor reads the state again.
    case 'PAUSING':
      return { kind: 'Paused', pid: task.pid };
    case 'STOPPED':
    // The shim does not answer: its process is of no use any more.
    case 'UNKNOWN':
      return {
        kind: 'Stopped',
        exitCode: task.exitCode,
        oomKilled: task.exitCode !== 0 && oomKilled(),
        ...(task.exitedAt === undefined ? {} : { exitedAt: task.exitedAt }),
      };
  }
}
