import { lookup as resolveName } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { networkInterfaces } from 'node:os';
import { EsbError } from '../../common/errors.ts';

/** Addresses that no record of a caller may reach: this machine, its link, and the metadata services of clouds. */
const NEVER: readonly (readonly [string, number])[] = [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  // Azure and Alibaba.
  ['168.63.129.16', 32],
  ['100.100.100.200', 32],
  ['::', 127],
  ['fe80::', 10],
  // Amazon, Google and Oracle.
  ['fd00:ec2::', 32],
  ['fd20:ce::254', 128],
  ['fd00:c1::a9fe:a9fe', 128],
  // The IPv4 addresses above, by a translator of addresses (RFC 6052).
  ['64:ff9b::', 104],
  ['64:ff9b::7f00:0', 104],
  ['64:ff9b::a9fe:0', 112],
  ['64:ff9b::a83f:8110', 128],
  ['64:ff9b::6464:64c8', 128],
];

/** A host as in a certificate: a name, or `*.` and the end of a name; `*` is every name and address. */
const HOST = /^(\*|(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?)$/;

export interface EndpointGuardOptions {
  /** Names, `*.` domains, addresses and ranges; everything but {@link NEVER} and own addresses when empty. */
  readonly allowed: readonly string[];
  /** Addresses of this machine; those of its interfaces by default. */
  readonly ownAddresses?: () => readonly string[];
}

/**
 * Decides where records of events may be posted. Loopback, link-local and metadata addresses and those of the gateway
 * itself are out of reach, unless the operator names their range. The guard resolves a name once and judges the address
 * that the connection is made to.
 */
export class EndpointGuard {
  readonly #hosts: readonly string[];
  readonly #ranges = new BlockList();
  readonly #never = new BlockList();
  readonly #isOpen: boolean;
  readonly #ownAddresses: () => readonly string[];

  /** @throws {EsbError} `InvalidArgument` for an entry that is neither a host nor a range */
  constructor({ allowed, ownAddresses }: EndpointGuardOptions) {
    this.#ownAddresses = ownAddresses ?? interfaceAddresses;
    for (const [address, prefix] of NEVER) {
      this.#never.addSubnet(address, prefix, familyOf(address));
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
   * @throws {EsbError} `EndpointRefused`
   */
  check(url: string): void {
    const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
    if (isIP(host) !== 0) {
      this.#admit(host, [host]);
    }
  }

  /** Resolves the name of a connection to allowed addresses; fails with `EndpointRefused` when there are none. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    resolveName(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) {
        callback(error, '', 0);
        return;
      }
      try {
        const addresses = this.#admit(
          hostname,
          found.map(({ address }) => address),
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
  #admit(host: string, addresses: readonly string[]): readonly string[] {
    const isListed = this.#isOpen || this.#hosts.some((pattern) => matches(pattern, host.toLowerCase()));
    // A list knows an IPv4 address in the form of IPv6, too.
    const own = new BlockList();
    for (const address of this.#ownAddresses()) {
      own.addAddress(address, familyOf(address));
    }
    const admitted = addresses.filter((address) => {
      const family = familyOf(address);
      const isNever = this.#never.check(address, family) || own.check(address, family);
      return this.#ranges.check(address, family) || (isListed && !isNever);
    });
    if (admitted.length === 0) {
      const shown = addresses.join(', ');
      throw new EsbError(
        `the gateway may not post to ${host === shown ? host : `${host} (${shown})`}: see --event-destination`,
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

function matches(pattern: string, host: string): boolean {
  return pattern.startsWith('*.') ? host.endsWith(pattern.slice(1)) : host === pattern;
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}

function interfaceAddresses(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((each) => (each ?? []).map(({ address }) => address));
}
