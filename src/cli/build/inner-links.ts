import { posix } from 'node:path';
import { EsbError } from '../../common/errors.ts';
import type { LayerEntry } from '../../oci/image-layer.ts';

/**
 * Checks that links of a function lead to files that its image has: links are kept as such. An absolute one is meant
 * for the image, such as one to `/tmp/cache`, unless it leads into the folder by its path on this machine.
 *
 * @param folder the one of the entries on this machine
 * @param below folder of the image that the entries go into, without a slash at either end
 * @param wayOut advice to the user
 * @throws {EsbError} `InvalidArgument` for the first link that leads out, with the way out
 */
export function checkLinks(entries: readonly LayerEntry[], folder: string, below: string, wayOut: string): void {
  const isIn = (path: string, top: string): boolean => path === top || path.startsWith(`${top}/`);
  for (const entry of entries) {
    if (entry.kind !== 'link') {
      continue;
    }
    const { name, target } = entry;
    const leadsOut = target.startsWith('/')
      ? isIn(posix.normalize(target), folder)
      : !isIn(posix.join('/', posix.dirname(name), target), `/${below}`);
    if (leadsOut) {
      throw new EsbError(
        `${name.slice(below.length + 1)} is a link to ${target}, which the image does not have: ${wayOut}`,
        { code: 'InvalidArgument' },
      );
    }
  }
}
