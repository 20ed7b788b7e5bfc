import { EsbError } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import { formatRange } from '../../common/net/ip-range.ts';
import type { NamespaceKeeper } from '../host/netns.ts';
import { BRIDGE_PORTS } from '../host/network-plan.ts';
import type { NetworkSetup, NodeSegment } from '../host/network-setup.ts';
import type { AttachmentIndex } from './attachment-index.ts';

/** Share of the capacity in use from which on a shortage is reported. */
const WARN_AT = 0.9;

type Counts = Pick<AttachmentIndex, 'count'>;

/** Planned bridges, and those that attachments of a plan with more of them are on. */
export function segmentsInUse(setup: NetworkSetup, book: Pick<AttachmentIndex, 'segments'>): readonly NodeSegment[] {
  const left = book.segments().filter((index) => index >= setup.planned.length);
  return [...setup.planned, ...left.toSorted((a, b) => a - b).map((index) => setup.at(index))];
}

/** The bridge with the fewest attachments that has room for one more, so that all fill up evenly; none of `except`. */
export function roomiest(
  setup: NetworkSetup,
  book: Counts,
  except: ReadonlySet<number> = new Set(),
): NodeSegment | undefined {
  return setup.planned
    .filter(({ index, capacity }) => book.count(index) < capacity && !except.has(index))
    .toSorted((a, b) => book.count(a.index) - book.count(b.index) || a.index - b.index)[0];
}

/** The error of a node without a free address or bridge port; undefined while there is one. */
export async function exhaustionOf(setup: NetworkSetup, book: Counts): Promise<EsbError | undefined> {
  for (const segment of setup.planned) {
    const left = segment.capacity - book.count(segment.index);
    if (left > 0 && (await segment.ipam.fewestLeft(segment.ranges)) > 0) {
      return undefined;
    }
  }
  const total = roomOf(setup);
  const why =
    limitOf(setup) === 'ports'
      ? `all ${total} ports of ${bridgesOf(setup)} are taken: --max-workers above 1000 gives the node more bridges`
      : `all ${total} addresses of ${subnetsOf(setup)} are taken: a larger --subnet has more`;
  return new EsbError(why, { code: 'AddressesExhausted' });
}

/**
 * A shortage before it becomes a fault.
 *
 * @param spare number of attachments that are ready for any container
 */
export function shortageOf(setup: NetworkSetup, book: Counts, spare: number): Extract<Health, { ok: true }>['warning'] {
  const total = roomOf(setup);
  const used = setup.planned.reduce((sum, { index }) => sum + book.count(index), 0) - spare;
  if (used < total * WARN_AT) {
    return undefined;
  }
  return limitOf(setup) === 'ports'
    ? {
        reason: 'PortsLow',
        message: `${used} of ${total} ports of ${bridgesOf(setup)} are taken: raise --max-workers above the next thousand for another bridge`,
      }
    : {
        reason: 'AddressesLow',
        message: `${used} of ${total} addresses of ${subnetsOf(setup)} are taken: give the agent a larger --subnet`,
      };
}

/**
 * Releases reservations without a record and without a namespace. A record is made before its address is given out, and
 * a namespace ends after its address was given back. Returns the addresses.
 */
export async function releaseUnclaimed(
  { ipam }: NodeSegment,
  { book, namespaces }: { readonly namespaces: NamespaceKeeper; readonly book: Pick<AttachmentIndex, 'has'> },
): Promise<readonly string[]> {
  const released: string[] = [];
  for (const { ip, containerId } of await ipam.list()) {
    // The content of a reservation file is not checked anywhere else.
    const isName = /^[\w.-]+$/.test(containerId);
    if (!book.has(containerId) && !(isName && (await namespaces.isPinned(namespaces.path(containerId))))) {
      await ipam.release(ip, containerId);
      released.push(ip);
    }
  }
  return released;
}

function roomOf(setup: NetworkSetup): number {
  return setup.planned.reduce((sum, { capacity }) => sum + capacity, 0);
}

function limitOf(setup: NetworkSetup): 'ports' | 'addresses' {
  return setup.planned.every(({ capacity }) => capacity === BRIDGE_PORTS) ? 'ports' : 'addresses';
}

function bridgesOf(setup: NetworkSetup): string {
  const names = setup.planned.map(({ bridge }) => bridge);
  return names.length === 1 ? `the bridge ${names.join()}` : `the bridges ${names.join(', ')}`;
}

function subnetsOf(setup: NetworkSetup): string {
  return setup.subnets.map(formatRange).join(' and ');
}
