import type { NamespaceKeeper } from '../host/netns.ts';
import type { NodeSegment } from '../host/network-setup.ts';
import type { AttachmentIndex } from './attachment-index.ts';

/**
 * Releases reservations without a record and without a namespace. A record is made before its address is given out, and
 * a namespace ends after its address was given back.
 */
export async function releaseUnclaimed(
  segment: Pick<NodeSegment, 'ipam'>,
  known: { readonly namespaces: NamespaceKeeper; readonly book: Pick<AttachmentIndex, 'has'> },
): Promise<readonly string[]> {
  const { book, namespaces } = known;
  const released: string[] = [];
  for (const { ip, containerId } of await segment.ipam.list()) {
    if (book.has(containerId) || (await isThere(namespaces, containerId))) {
      continue;
    }
    await segment.ipam.release(ip, containerId);
    released.push(ip);
  }
  return released;
}

async function isThere(namespaces: NamespaceKeeper, name: string): Promise<boolean> {
  // The content of a reservation file is not checked anywhere else.
  return /^[\w.-]+$/.test(name) && (await namespaces.isPinned(namespaces.path(name)));
}
