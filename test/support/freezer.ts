import { access, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const ROOT = '/sys/fs/cgroup';

/** Freezes a worker's cgroup behind containerd's back. */
export async function freeze(cgroupParent: string, containerId: string): Promise<void> {
  const v1 = join(ROOT, 'freezer', cgroupParent, containerId, 'freezer.state');
  const isV1 = await access(v1).then(
    () => true,
    () => false,
  );
  if (isV1) {
    await writeFile(v1, 'FROZEN', { flag: 'r+' });
  } else {
    await writeFile(join(ROOT, cgroupParent, containerId, 'cgroup.freeze'), '1', { flag: 'r+' });
  }
}
