import { lookup as resolveName } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';
import { EsbError, unreachable } from '../../common/errors.ts';
import type { EgressClass } from './event-store.ts';

/** Ranges of addresses that no record of a caller may reach: this machine, its link, and what is no single host. */
const NEVER: ReadonlySet<string> = new Set(['loopback', 'unspecified', 'linkLocal', 'multicast', 'broadcast']);
/** Metadata services of clouds beside those at link-local addresses: Azure, Alibaba, Amazon, Google and Oracle. */
const METADATA = ['168.63.129.16', '100.100.100.200', 'fd00:ec2::/32', 'fd20:ce::254', 'fd00:c1::a9fe:a9fe'];
/**
 * Ranges of IPv6 with an IPv4 address in them, by the place of its first byte: mapped and compatible (RFC 4291), by a
 * translator (RFC 6052) and 6to4 (RFC 3056).
 */
const EMBEDDED: readonly (readonly [string, number])[] = [
  ['::ffff:0:0/96', 12],
  ['::/96', 12],
  ['64:ff9b::/96', 12],
  ['2002::/16', 2],
];

/** A host as in a certificate: a name, or `*.` and the end of a name; `*` is every name and address. */
const HOST = /^(\*|(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?)$/;

export interface EndpointGuardOptions {
  /** Names, `*.` domains, addresses and ranges; everything but {@link NEVER}, metadata services and own addresses when empty. */
  readonly allowed: readonly string[];
  /** The class of functions that have none of their own, as the agents' `--egress`; `All` when absent. */
  readonly egress?: EgressClass;
  /** Addresses of this machine; those of its interfaces by default. */
  readonly ownAddresses?: () => readonly string[];
}

/**
 * Decides where records of events may be posted. A destination is egress of its function: the class of the function
 * holds for it. Loopback, link-local and metadata addresses and those of the gateway itself are out of reach, unless the
 * operator names their range. The guard resolves a name once and judges the address that the connection is made to.
 */
export class EndpointGuard {
  readonly #hosts: readonly string[];
  readonly #ranges = new BlockList();
  readonly #metadata = new BlockList();
  readonly #egress: EgressClass;
  readonly #isOpen: boolean;
  readonly #ownAddresses: () => readonly string[];

  /** @throws {EsbError} `InvalidArgument` for an entry that is neither a host nor a range */
  constructor({ allowed, egress = 'All', ownAddresses }: EndpointGuardOptions) {
    this.#egress = egress;
    this.#ownAddresses = ownAddresses ?? interfaceAddresses;
    for (const entry of METADATA) {
      const [address = '', prefix] = entry.split('/');
      addRange(this.#metadata, address, prefix, entry);
    }
    const hosts: string[] = [];
    for (const entry of allowed) {
      const [address = '', prefix] = entry.split('/');
      if (isIP(address) !== 0 && (prefix === undefined || /^\d{1,3}$/.test(prefix))) {
        addRange(this.#ranges, address, prefix, entry);
      } else if (HOST.test(entry.toLowerCase())) {
        hosts.push(entry.toLowerCase());
      } else {
        throw invalid(entry);
      }
    }
    this.#hosts = hosts;
    this.#isOpen = allowed.length === 0 || hosts.includes('*');
  }

  /**
   * Checks a URL as far as that is possible before its name is resolved.
   *
   * @param egress the class of the function that names the URL; undefined for that of functions without one
   * @throws {EsbError} `EndpointRefused`
   */
  check(url: string, egress: EgressClass | undefined): void {
    const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
    if (isIP(host) !== 0) {
      this.#admit(host, [host], egress);
    }
  }

  /** Resolves the name of a connection to allowed addresses; fails with `EndpointRefused` when there are none. */
  readonly lookup =
    (egress: EgressClass | undefined): LookupFunction =>
    (hostname, options, callback) => {
      resolveName(hostname, { ...options, all: true }, (error, found) => {
        if (error !== null) {
          callback(error, '', 0);
          return;
        }
        try {
          const addresses = this.#admit(
            hostname,
            found.map(({ address }) => address),
            egress,
          );
          const admitted = found.filter(({ address }) => addresses.includes(address));
          if (options.all === true) {
            callback(null, admitted);
          } else {
            callback(null, admitted[0]?.address ?? '', admitted[0]?.family ?? 0);
          }
        } catch (refusal) {
          callback(refusal as EsbError, '', 0);
        }
      });
    };

  /** @throws {EsbError} `EndpointRefused` where none of the addresses is allowed */
  #admit(host: string, addresses: readonly string[], egress = this.#egress): readonly string[] {
    const isListed = this.#isOpen || this.#hosts.some((pattern) => matches(pattern, host.toLowerCase()));
    // A list knows an IPv4 address in the form of IPv6, too.
    const own = new BlockList();
    for (const address of this.#ownAddresses()) {
      own.addAddress(address, familyOf(address));
    }
    const admitted = addresses.filter((address) => {
      const plain = plainOf(address);
      const range = ipaddr.parse(plain).range();
      const family = familyOf(plain);
      const isNever = NEVER.has(range) || this.#metadata.check(plain, family) || own.check(plain, family);
      const isNamed = this.#ranges.check(address, familyOf(address));
      return (isNamed || (isListed && !isNever)) && isOfClass(egress, range, isNamed);
    });
    if (admitted.length === 0) {
      const shown = addresses.join(', ');
      throw new EsbError(
        `the gateway may not post to ${host === shown ? host : `${host} (${shown})`} for a function of the egress class ${egress}: see --event-destination and spec.network.egress`,
        { code: 'EndpointRefused' },
      );
    }
    return admitted;
  }
}

function invalid(entry: string): EsbError {
  return new EsbError(
    `--event-destination ${entry}: write a host name, a domain such as *.example.com, an address or a range such as 10.0.0.0/8`,
    { code: 'InvalidArgument' },
  );
}

function addRange(list: BlockList, address: string, prefix: string | undefined, entry: string): void {
  try {
    list.addSubnet(address, Number(prefix ?? (isIP(address) === 6 ? 128 : 32)), familyOf(address));
  } catch {
    throw invalid(entry);
  }
}

/** Whether functions of a class reach an address. The ranges of a cluster are those that the operator names. */
function isOfClass(egress: EgressClass, range: string, isNamed: boolean): boolean {
  switch (egress) {
    case 'All':
      return true;
    case 'Internet':
      return range === 'unicast';
    case 'Cluster':
      return isNamed;
    case 'None':
      return false;
    default:
      return unreachable(egress);
  }
}

/** The IPv4 address in an address of IPv6, where there is one. */
function plainOf(address: string): string {
  const parsed = ipaddr.parse(address);
  if (parsed instanceof ipaddr.IPv4) {
    return address;
  }
  const bytes = parsed.toByteArray();
  const [, first] = EMBEDDED.find(([range]) => parsed.match(ipaddr.IPv6.parseCIDR(range))) ?? [];
  // `::` and `::1` are of IPv6 alone.
  return first === undefined || bytes.slice(0, 15).every((byte) => byte === 0)
    ? address
    : ipaddr.fromByteArray(bytes.slice(first, first + 4)).toString();
}

function matches(pattern: string, host: string): boolean {
  return pattern.startsWith('*.') ? host.endsWith(pattern.slice(1)) : host === pattern;
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}

function interfaceAddresses(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((each) => (each ?? []).map(({ address }) => address));
}
