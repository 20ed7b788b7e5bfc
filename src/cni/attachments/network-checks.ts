import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EsbError, undefinedIfNoFile } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import type { Logger } from '../../common/logger.ts';
import { formatRange, type IpRange, type NamedRange, overlaps, parseIpRange } from '../../common/net/ip-range.ts';
import {
  type BridgePort,
  correctBridge,
  createBridge,
  readBridgeNames,
  removeBridge,
  writeBridgeNames,
} from '../host/bridge.ts';
import { type HostRoute, parseHostRoutes, parseHostRoutesV6, parseInterfaces } from '../host/host-routes.ts';
import { enableIpForward, type IpForwardOf } from '../host/ip-forward.ts';
import { INTERFACE, type NetworkSetup, type NodeSegment } from '../host/network-setup.ts';
import { hostInterfaceOf } from '../spec/cni-result.ts';
import { pluginMissing } from '../spec/libcni.ts';
import type { AttachmentIndex } from './attachment-index.ts';
import type { NodeTable } from './node-table.ts';
import { segmentsInUse } from './segments.ts';

export interface NetworkChecksOptions {
  readonly book: AttachmentIndex;
  /** The folder `cni` of the agent's state. */
  readonly folder: string;
  readonly pluginFolder: string;
  readonly table: NodeTable;
  readonly otherRanges: () => readonly NamedRange[];
  readonly runner: CommandRunner;
  readonly logger: Logger;
  readonly procFolder: string;
  readonly ipForward: IpForwardOf;
}

/** Checks whether the node can have workers on its network, and mends faults where possible. */
export class NetworkChecks {
  readonly #options: NetworkChecksOptions;

  constructor(options: NetworkChecksOptions) {
    this.#options = options;
  }

  /**
   * Runs every check.
   *
   * @param thorough also checks the parts that change only between two runs
   * @throws {EsbError} for the first one that fails
   */
  async run(setup: NetworkSetup, thorough: boolean): Promise<void> {
    await this.#checkPrograms(setup);
    const segments = segmentsInUse(setup, this.#options.book);
    await this.#checkCollision(setup, segments);
    await this.#options.table.check(setup);
    for (const family of setup.families) {
      await enableIpForward(this.#options.ipForward(family), this.#options.folder, family);
    }
    await this.#checkBridges(segments, thorough);
  }

  async #checkPrograms(setup: NetworkSetup): Promise<void> {
    const { pluginFolder } = this.#options;
    for (const program of setup.programs) {
      try {
        await access(join(pluginFolder, program), constants.X_OK);
      } catch (error) {
        throw pluginMissing(program, pluginFolder, error);
      }
    }
  }

  async #checkCollision(setup: NetworkSetup, segments: readonly NodeSegment[]): Promise<void> {
    const known = await readBridgeNames(this.#options.folder);
    const own = new Set([...segments.map(({ bridge }) => bridge), ...known]);
    const routes = (await this.#routes(setup)).filter((route) => !own.has(route.interface));
    const others = this.#options.otherRanges().map(({ cidr, what }) => ({ cidr, what, range: parseIpRange(cidr) }));
    for (const subnet of setup.subnets) {
      const route = routes.find(({ range }) => overlaps(range, subnet));
      if (route !== undefined) {
        throw collision(subnet, `the route ${formatRange(route.range)} of this node by ${route.interface}`);
      }
      const other = others.find(({ range }) => overlaps(range, subnet));
      if (other !== undefined) {
        throw collision(subnet, `${other.cidr}, ${other.what}`);
      }
    }
  }

  async #routes(setup: NetworkSetup): Promise<readonly HostRoute[]> {
    const routes = parseHostRoutes(await this.#readProc('net/route'));
    if (!setup.families.includes(6)) {
      return routes;
    }
    const routesV6 = await undefinedIfNoFile(this.#readProc('net/ipv6_route'));
    if (routesV6 === undefined) {
      throw new EsbError('the network configuration asks for IPv6, which this node does not have', {
        code: 'NetworkConfigInvalid',
        retryable: true,
      });
    }
    return [...routes, ...parseHostRoutesV6(routesV6)];
  }

  async #checkBridges(segments: readonly NodeSegment[], thorough: boolean): Promise<void> {
    const { logger, runner } = this.#options;
    const present = new Set(parseInterfaces(await this.#readProc('net/dev')));
    if (thorough) {
      await this.#tidyBridges(segments, present);
    }
    for (const segment of segments) {
      const bridge = { name: segment.bridge, ranges: segment.ranges };
      if (!present.has(segment.bridge)) {
        await createBridge(runner, bridge, await this.#ports(segment));
      } else if (thorough && (await correctBridge(runner, bridge, () => this.#ports(segment)))) {
        logger.info({ bridge: segment.bridge }, 'the bridge has been given the addresses of the subnet');
      }
    }
  }

  /** Removes bridges of a plan with more of them once nothing is on them, and writes down which there are. */
  async #tidyBridges(segments: readonly NodeSegment[], present: ReadonlySet<string>): Promise<void> {
    const { folder, runner } = this.#options;
    const wanted = segments.map(({ bridge }) => bridge);
    const known = await readBridgeNames(folder);
    for (const name of known) {
      if (!wanted.includes(name) && present.has(name)) {
        await removeBridge(runner, name);
      }
    }
    if (known.join() !== wanted.join()) {
      await writeBridgeNames(folder, wanted);
    }
  }

  async #ports(segment: NodeSegment): Promise<readonly BridgePort[]> {
    const ports: BridgePort[] = [];
    for (const record of this.#options.book.records()) {
      if (record.segment !== segment.index || record.state === 'Making') {
        continue;
      }
      const result = await segment.cni.cachedResult(record.id, INTERFACE);
      const hostInterface = result === undefined ? undefined : hostInterfaceOf(result, segment.bridge);
      ports.push({ ips: record.ips, ...(hostInterface === undefined ? {} : { hostInterface }) });
    }
    return ports;
  }

  async #readProc(path: string): Promise<string> {
    return await readFile(join(this.#options.procFolder, path), 'utf8');
  }
}

function collision(subnet: IpRange, what: string): EsbError {
  const way =
    subnet.family === 4 ? 'give the agent another one with --subnet' : 'put another one into the network configuration';
  return new EsbError(`the subnet ${formatRange(subnet)} of the workers collides with ${what}: ${way}`, {
    code: 'SubnetCollision',
  });
}
