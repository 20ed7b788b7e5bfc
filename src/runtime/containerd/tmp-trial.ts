import { randomBytes } from 'node:crypto';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode, messageOf } from '../../common/errors.ts';
import { INIT_PROGRAM } from '../../oci/spec-init.ts';
import { mounts } from '../../oci/spec-mounts.ts';
import type { TmpFiles } from '../tmp/tmp-files.ts';
import type { ContainerdParts } from './parts.ts';
import type { WorkerRemoval } from './remove.ts';

/** Label of the container of a trial, by which the next agent finds it where this one dies. */
export const TRIAL_LABEL = 'esb.dev/tmp-trial';
const SIZE_MIB = 1;
/** Room below which a node rather gives memory than a disk that is about to be full. */
const LEAST_ROOM_MIB = 512;
/** Codes of failures that say nothing of the medium. */
const passing = ['Aborted', 'DeadlineExceeded', 'RuntimeUnavailable', 'SpawnerEnded'] as const;

/**
 * Makes a container, of which nothing runs, on a file like those of workers' `/tmp`: the file is its root file system. Thus
 * the shim does what it does for a worker, where loop devices are looked for, and no image is needed.
 *
 * @returns why that cannot be done on this node; undefined where it can
 * @throws {EsbError} where containerd does not answer
 */
export async function tryTmpFile(
  parts: ContainerdParts,
  removal: WorkerRemoval,
  files: TmpFiles,
  call: CallOptions,
): Promise<string | undefined> {
  const { logger } = parts;
  // As a worker's, so that traces without a container are found by its name.
  const containerId = `esb-tmp-trial-${randomBytes(16).toString('hex')}`;
  try {
    await removeEarlier(parts, removal, call);
    if (await files.isInMemory()) {
      return `the state folder is in memory itself: ${files.folder} is on a tmpfs`;
    }
    const { capacityMiB } = await files.room();
    if (capacityMiB < LEAST_ROOM_MIB) {
      return `the disk of the state folder has room for ${capacityMiB} MiB of /tmp, too little to be used`;
    }
    await createOn(parts, files, containerId, call);
    return undefined;
  } catch (error) {
    if (passing.some((code) => hasCode(error, code))) {
      throw error;
    }
    logger.warn({ err: error }, '/tmp of workers stays in memory: a file cannot be used');
    return `a file on disk cannot be used: ${messageOf(error)}`;
  } finally {
    await remove(parts, removal, containerId);
  }
}

/** Removes the containers of trials of an agent that died in one. */
async function removeEarlier(parts: ContainerdParts, removal: WorkerRemoval, call: CallOptions): Promise<void> {
  const containers = await parts.client.containers.list(call);
  const trials = containers.filter(({ labels }) => labels[TRIAL_LABEL] !== undefined);
  await Promise.all(trials.map(({ id }) => remove(parts, removal, id)));
}

/** A trial that cannot be removed is collected with the leftovers of workers. */
async function remove({ logger }: ContainerdParts, removal: WorkerRemoval, containerId: string): Promise<void> {
  await removal
    .remove(containerId, { graceMs: 0, keepNetwork: true })
    .catch((error: unknown) => logger.warn({ err: error, containerId }, 'the trial of /tmp cannot be removed yet'));
}

async function createOn(
  parts: ContainerdParts,
  files: TmpFiles,
  containerId: string,
  call: CallOptions,
): Promise<void> {
  const { client, inits, isolation, runcRoot, runtime, snapshotter } = parts;
  const made = files.make(containerId, SIZE_MIB, call.signal);
  const opened = Promise.resolve(inits?.open(containerId));
  // After a failure of one both have to end before the removal.
  await Promise.allSettled([made, opened]);
  const [file, init] = await Promise.all([made, opened]);
  const { cgroupsPath, systemdCgroup } = isolation.cgroupOf(containerId);
  const none: readonly string[] = [];
  const spec = {
    ociVersion: '1.1.0',
    process: {
      user: { uid: 0, gid: 0 },
      args: [INIT_PROGRAM],
      env: none,
      cwd: '/',
      capabilities: { bounding: none, effective: none, permitted: none, inheritable: none, ambient: none },
      noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: true },
    mounts: mounts(undefined, {}, false, init ?? { program: process.execPath, folder: files.folder }),
    linux: {
      cgroupsPath,
      namespaces: [{ type: 'pid' }, { type: 'ipc' }, { type: 'mount' }],
      resources: {},
    },
  };
  await client.containers.create(
    {
      id: containerId,
      labels: { [TRIAL_LABEL]: 'true' },
      image: '',
      snapshotter,
      snapshotKey: '',
      runtime,
      runcRoot,
      systemdCgroup,
      spec,
    },
    call,
  );
  await client.tasks.create({ containerId, rootfs: [file.mount], logUri: 'file:///dev/null' }, call);
}
