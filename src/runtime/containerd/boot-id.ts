import { readFileSync } from 'node:fs';
import { containerLabels } from '../../api/label.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';

/** Name of this boot of the machine (`random(4)`): no process outlives a change of the name. */
export function readBootId(path = '/proc/sys/kernel/random/boot_id'): string {
  return readFileSync(path, 'utf8').trim();
}

/** Whether a container is older than this boot. A container without the label is of an earlier version, and is not. */
export function isOfAnotherBoot(record: Pick<ContainerRecord, 'labels'>, bootId: string): boolean {
  const madeIn = record.labels[containerLabels.boot] ?? '';
  return madeIn !== '' && madeIn !== bootId;
}
