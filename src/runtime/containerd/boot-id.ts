import { readFileSync } from 'node:fs';
import { containerLabels } from '../../api/label.ts';
import type { ContainerRecord } from '../../containerd/container-service.ts';

/** What names this boot of the machine (`random(4)`): no process outlives a change of it. */
export function readBootId(path = '/proc/sys/kernel/random/boot_id'): string {
  return readFileSync(path, 'utf8').trim();
}

/** Whether a container was made before the machine was booted. One without a label was made by an earlier version. */
export function isOfAnotherBoot(record: Pick<ContainerRecord, 'labels'>, bootId: string): boolean {
  const madeIn = record.labels[containerLabels.boot] ?? '';
  return madeIn !== '' && madeIn !== bootId;
}
