import { createHash } from 'node:crypto';
import type { LambdaWorker } from './generated/lambda-worker.ts';
import { loggingOf, perWorkerOf } from './lambda-worker.ts';
import { resourcesOf } from './worker-resources.ts';

/**
 * Version of the scheme below, part of every hash. Raising it replaces every container of every node at the next
 * upgrade: a new field that shapes the container is rather left out of {@link shapeOf} while it has its default.
 */
const SCHEME = 'v1';

/**
 * The fields that form a container, by the resource alone and never by what an agent makes of them, so that an agent of
 * another version comes to the same hash. Quantities are compared by value, empty lists are as good as none.
 */
function shapeOf(worker: LambdaWorker): readonly (readonly [string, unknown])[] {
  const { spec } = worker;
  const resources = resourcesOf(worker);
  return [
    ['image', spec.image],
    ['command', spec.command ?? []],
    ['args', spec.args ?? []],
    ['handler', spec.handler ?? ''],
    [
      'env',
      (spec.env ?? []).map((variable) =>
        variable.valueFrom === undefined
          ? [variable.name, variable.value ?? '']
          : [
              variable.name,
              variable.valueFrom.secretKeyRef.name,
              variable.valueFrom.secretKeyRef.key,
              variable.valueFrom.secretKeyRef.optional === true,
            ],
      ),
    ],
    ['memoryMiB', resources.memoryMiB],
    ['milliCpu', resources.milliCpu ?? 0],
    ['pids', resources.pids],
    ['ephemeralStorageMiB', resources.ephemeralStorageMiB],
    ['timeoutSeconds', spec.timeoutSeconds ?? 3],
    ['port', spec.port ?? 8080],
    ['networkMode', spec.network?.mode ?? 'Bridge'],
    ...(spec.network?.egress === undefined ? [] : [['egress', spec.network.egress] as const]),
    ['readOnlyRootFilesystem', spec.readOnlyRootFilesystem ?? true],
    ...(perWorkerOf(worker) === 1 ? [] : [['perWorker', perWorkerOf(worker)] as const]),
    ...(spec.logging === undefined ? [] : [['logging', Object.values(loggingOf(spec.logging))] as const]),
    ...(spec.version === undefined ? [] : [['version', spec.version] as const]),
    ...(spec.imageLookup === undefined ? [] : [['imageLookup', spec.imageLookup] as const]),
    // Absent says nothing of the container: one that was made with an earlier default is left as it is.
    ...(spec.runtimeInterface === undefined ? [] : [['runtimeInterface', spec.runtimeInterface] as const]),
  ];
}

/**
 * Tells apart workers whose containers would differ: a change of it replaces the container. Idle, wake and resting
 * state have no part in it.
 *
 * @returns `v1-` and 16 hexadecimal digits
 */
export function shapeHashOf(worker: LambdaWorker): string {
  const digest = createHash('sha256')
    .update(JSON.stringify(shapeOf(worker)))
    .digest('hex');
  return `${SCHEME}-${digest.slice(0, 16)}`;
}
