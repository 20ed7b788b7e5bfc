import { type CallOptions, during } from '../../common/deadline.ts';
import { EsbError, hasCode } from '../../common/errors.ts';
import { Limiter } from '../../common/limiter.ts';
import { isOwnName, takeNodeInventory } from './inventory.ts';
import { CONTAINERD_NAMESPACE, type ContainerdParts } from './parts.ts';

const READ_DEADLINE_MS = 60_000;
/** containerd collects unreferenced content before it answers. */
const REMOVE_DEADLINE_MS = 120_000;
/** Containers that are removed at a time: there may be a thousand. */
const AT_ONCE = 4;

/**
 * Removes everything of ours from containerd: containers with their leftovers on the node, images, leases, and at last
 * the namespace. A container that a person made there stays, with its image and the namespace. Goes on after a failure;
 * may be repeated.
 *
 * @param removeContainer removes a container with everything it left; missing is success
 * @returns one message for each thing that could not be removed
 */
export async function uninstallContainerd(
  parts: ContainerdParts,
  removeContainer: (containerId: string, options: CallOptions) => Promise<void>,
  call: CallOptions,
): Promise<string[]> {
  const { client, logger } = parts;
  const failures: string[] = [];
  const attempt = async (what: string, step: () => Promise<void>): Promise<void> => {
    try {
      await step();
    } catch (error) {
      if (!hasCode(EsbError.from(error), 'NotFound')) {
        failures.push(during(what, error));
      }
    }
  };
  const read: CallOptions = { deadlineMs: READ_DEADLINE_MS, ...call };
  const remove: CallOptions = { deadlineMs: REMOVE_DEADLINE_MS, ...call };

  const { containers, traces } = await takeNodeInventory(parts, () => [], new Set(), read);
  const own = new Set([...containers, ...traces.map(({ containerId }) => containerId)].filter((id) => isOwnName(id)));
  const some = new Limiter(AT_ONCE);
  await Promise.all(
    [...own].map((id) => some.run(() => attempt(`container ${id}`, () => removeContainer(id, remove)))),
  );

  const others = (await client.containers.list(read)).filter(({ id }) => !own.has(id));
  const kept = new Set(others.map(({ image }) => image));
  if (others.length > 0) {
    logger.warn(
      { containers: others.map(({ id }) => id) },
      'foreign containers in the namespace stay, with their images',
    );
  } else {
    // Leases of broken pulls as well, which containerd would drop a day later.
    for (const { id } of await client.leases.list(read)) {
      await attempt(`lease ${id}`, () => client.leases.delete(id, remove));
    }
  }
  for (const { name } of await client.images.list(read)) {
    if (!kept.has(name)) {
      await attempt(`image ${name}`, () => client.images.delete(name, remove));
    }
  }
  if (others.length === 0 && failures.length === 0) {
    const namespace = CONTAINERD_NAMESPACE;
    await attempt(`containerd's namespace ${namespace}`, () => client.namespaces.delete(namespace, remove));
  }
  return failures;
}
