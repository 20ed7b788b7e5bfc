import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type Clock, systemClock } from '../common/clock.ts';
import { type CallOptions, withDeadline } from '../common/deadline.ts';
import { EsbError } from '../common/errors.ts';
import { type CommandRunner, systemCommandRunner } from '../common/exec/command-runner.ts';
import type { Health } from '../common/health.ts';
import { KeyedQueue } from '../common/keyed-queue.ts';
import type { Logger } from '../common/logger.ts';
import type { NamedRange } from '../common/net/ip-range.ts';
import { TaskTracker } from '../common/task-group.ts';
import { AttachmentIndex } from './attachments/attachment-index.ts';
import {
  type AddressClaim,
  type AttachedRecord,
  AttachmentStore,
  namespacePrefix,
  type ReadyRecord,
} from './attachments/attachment-store.ts';
import { NetworkChecks } from './attachments/network-checks.ts';
import { NodeTable } from './attachments/node-table.ts';
import { exhaustionOf, shortageOf } from './attachments/segments.ts';
import { SlotPool } from './attachments/slot-pool.ts';
import { TeardownQueue } from './attachments/teardown-queue.ts';
import type { Attachment, AttachOptions, NodeNetwork, RepairOptions, SlotCounts } from './contract.ts';
import { NetworkAudit } from './gc/network-audit.ts';
import { removeNodeNetwork } from './gc/uninstall.ts';
import type { EgressClass } from './host/egress-rules.ts';
import { type IpForwardOf, localIpForward } from './host/ip-forward.ts';
import { closedAddresses, readNameServers } from './host/name-servers.ts';
import { createNamespaceKeeper, insideMac, type NamespaceKeeper } from './host/netns.ts';
import { INTERFACE, type NetworkSetup, readNetworkSetup } from './host/network-setup.ts';
import { networkFailure, unhealthy } from './spec/network-error.ts';

export interface NodeNetworkOptions {
  /** The agent's state folder; everything is kept in `cni` below it. */
  readonly stateDir: string;
  /** The network configuration list. */
  readonly configFile: string;
  /** Folder of the CNI plugins. */
  readonly pluginFolder: string;
  /** IPv4 addresses for the workers of this node, such as `10.234.0.0/16`. */
  readonly subnet: string;
  /** How many workers the node is to hold; decides how many bridges there are. Default 1,000. */
  readonly maxWorkers?: number;
  readonly logger: Logger;
  /** Namespaces kept ready with their address. Default 4. */
  readonly slots?: number;
  /** Destinations that workers are denied, beside the node itself and the metadata address. */
  readonly deniedRanges?: readonly string[];
  /** Destinations that workers reach although a denied range has them. */
  readonly allowedRanges?: readonly string[];
  /** Class of workers that ask for none. Default `All`. */
  readonly defaultEgress?: EgressClass;
  /** Ranges of the cluster's Pods and Services, which the subnet must not touch; read at every check. */
  readonly otherRanges?: () => readonly NamedRange[];
  /** The `/etc/resolv.conf` of workers. Default: one without name servers. */
  readonly resolvConfPath?: string | undefined;
  /** Milliseconds that making one namespace with its address may take. Default 20,000. */
  readonly makeDeadlineMs?: number;
  readonly runner?: CommandRunner;
  readonly clock?: Clock;
  readonly namespaces?: NamespaceKeeper;
  /** Folder with `net/route`, `net/ipv6_route` and `net/dev` of the node's network namespace. Default `/proc`. */
  readonly procFolder?: string;
  /** Default: that of the network namespace of this process. */
  readonly ipForward?: IpForwardOf;
}

/** Makes the network of one node. Nothing happens before {@link NodeNetwork.start}. */
export function createNodeNetwork(options: NodeNetworkOptions): NodeNetwork {
  return new CniNodeNetwork(options);
}

const DEFAULT_SLOTS = 4;
const DEFAULT_MAX_WORKERS = 1000;
const MAKE_DEADLINE_MS = 20_000;
const ATTACH_DEADLINE_MS = 30_000;
const DETACH_DEADLINE_MS = 45_000;
const REPAIR_DEADLINE_MS = 120_000;
const START_DEADLINE_MS = 60_000;
const VERIFY_DEADLINE_MS = 20_000;

class CniNodeNetwork implements NodeNetwork {
  readonly #options: NodeNetworkOptions;
  readonly #folder: string;
  readonly #runner: CommandRunner;
  readonly #clock: Clock;
  readonly #namespaces: NamespaceKeeper;
  readonly #work = new TaskTracker();
  /** Serializes attaching and detaching of each container. */
  readonly #calls = new KeyedQueue();
  readonly #book: AttachmentIndex;
  readonly #disposal: TeardownQueue;
  readonly #pool: SlotPool;
  readonly #audit: NetworkAudit;
  readonly #checks: NetworkChecks;
  readonly #table: NodeTable;

  #setup: NetworkSetup | undefined;
  /** Whether every check has passed once; from then on attaching is allowed. */
  #usable = false;
  #verifying: Promise<void> | undefined;

  constructor(options: NodeNetworkOptions) {
    const { logger, stateDir } = options;
    const folder = join(stateDir, 'cni');
    const runner = options.runner ?? systemCommandRunner;
    const clock = options.clock ?? systemClock;
    const namespaces = options.namespaces ?? createNamespaceKeeper(runner);
    const prefix = namespacePrefix(stateDir);
    const book = new AttachmentIndex(new AttachmentStore(folder));
    this.#options = options;
    this.#folder = folder;
    this.#runner = runner;
    this.#clock = clock;
    this.#namespaces = namespaces;
    this.#book = book;
    const common = { book, namespaces, runner, work: this.#work, clock, logger, setup: () => this.#readSetup() };
    const otherRanges = options.otherRanges ?? (() => []);
    this.#table = new NodeTable({
      ...common,
      deniedRanges: options.deniedRanges ?? [],
      allowedRanges: options.allowedRanges ?? [],
      defaultEgress: options.defaultEgress ?? 'All',
      clusterRanges: () => otherRanges().map(({ cidr }) => cidr),
      nameServers: () => this.#nameServers(),
    });
    this.#disposal = new TeardownQueue({ ...common, table: this.#table });
    this.#pool = new SlotPool({
      ...common,
      disposal: this.#disposal,
      wanted: options.slots ?? DEFAULT_SLOTS,
      makeDeadlineMs: options.makeDeadlineMs ?? MAKE_DEADLINE_MS,
      closedFor: async (families) => closedAddresses(families, await this.#nameServers()),
      newId: () => `${prefix}${randomBytes(4).toString('hex')}`,
    });
    this.#audit = new NetworkAudit({ ...common, table: this.#table, prefix });
    this.#checks = new NetworkChecks({
      ...common,
      folder,
      pluginFolder: options.pluginFolder,
      table: this.#table,
      otherRanges,
      procFolder: options.procFolder ?? '/proc',
      ipForward: options.ipForward ?? localIpForward,
    });
  }

  async start(options: CallOptions = {}): Promise<void> {
    await withDeadline('starting the network', options.deadlineMs ?? START_DEADLINE_MS, options.signal, async () => {
      await this.#load();
      this.#table.forget();
      await this.#verify();
    });
    this.#open();
  }

  async stop(): Promise<void> {
    this.#pool.stop();
    this.#disposal.stop();
    await this.#calls.idle();
    await this.#work.settled();
  }

  async remove(options: CallOptions = {}): Promise<string[]> {
    await this.stop();
    const { configFile, pluginFolder, stateDir, subnet } = this.#options;
    return await removeNodeNetwork({ ...options, stateDir, configFile, pluginFolder, subnet, runner: this.#runner });
  }

  async attach(containerId: string, options: AttachOptions = {}): Promise<Attachment> {
    return await this.#inTurn(containerId, 'attaching', ATTACH_DEADLINE_MS, options, async (signal) => {
      await this.#load();
      const existing = this.#book.usableBy(containerId);
      if (existing !== undefined) {
        if (await this.#isPinned(existing.id)) {
          return await this.#hold(existing, options.egress);
        }
        this.#disposal.discard(existing.id);
      }
      if (!this.#usable) {
        await this.#verify();
      }
      const slot = await this.#pool.take(signal);
      const attachment = await this.#assign(slot, containerId, options.egress);
      if (signal.aborted) {
        // The caller has not received the attachment, so detach it here.
        await this.#disposal.dispose(slot.id);
      }
      return attachment;
    });
  }

  async detach(containerId: string, options: CallOptions = {}): Promise<void> {
    await this.#inTurn(containerId, 'detaching', DETACH_DEADLINE_MS, options, async () => {
      await this.#load();
      const id = this.#book.idOf(containerId);
      if (id !== undefined) {
        await this.#disposal.dispose(id);
      }
    });
  }

  async get(containerId: string): Promise<Attachment | undefined> {
    await this.#load();
    const record = this.#book.recordOf(containerId);
    return record === undefined ? undefined : this.#attachment(record);
  }

  async list(): Promise<Attachment[]> {
    await this.#load();
    return this.#book.attached().map((record) => this.#attachment(record));
  }

  async repair(inUse: ReadonlySet<string>, options: RepairOptions = {}): Promise<string[]> {
    const { claims = new Map(), deadlineMs = REPAIR_DEADLINE_MS, signal, unclaimed } = options;
    const running = this.#work.own(this.#repair(inUse, claims, unclaimed));
    return await withDeadline('repairing the network', deadlineMs, signal, () => running);
  }

  get slots(): SlotCounts {
    return { ready: this.#pool.size, wanted: this.#options.slots ?? DEFAULT_SLOTS };
  }

  async health(options: CallOptions = {}): Promise<Health> {
    try {
      await this.#load();
      const deadlineMs = options.deadlineMs ?? VERIFY_DEADLINE_MS;
      await withDeadline('checking the network', deadlineMs, options.signal, () => this.#verify());
      const setup = await this.#readSetup();
      const full = this.#pool.size > 0 ? undefined : await exhaustionOf(setup, this.#book);
      const error = full ?? this.#pool.error;
      if (error !== undefined) {
        return unhealthy(error);
      }
      const warning = shortageOf(setup, this.#book, this.#pool.size);
      return warning === undefined ? { ok: true } : { ok: true, warning };
    } catch (error) {
      return unhealthy(EsbError.from(error));
    }
  }

  /** Runs `work` after all other work on the container. Work that has begun ends well also when its caller leaves. */
  async #inTurn<T>(
    containerId: string,
    doing: string,
    defaultMs: number,
    options: CallOptions,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const what = `${doing} ${containerId}`;
    const call = { ...options, what, deadlineMs: options.deadlineMs ?? defaultMs };
    try {
      return await this.#calls.run(containerId, undefined, call, work);
    } catch (error) {
      throw networkFailure(what, error);
    }
  }

  /** Gives a slot to a container. */
  async #assign(slot: ReadyRecord, containerId: string, egress: EgressClass | undefined): Promise<Attachment> {
    try {
      return await this.#hold({ ...slot, state: 'Attached', containerId }, egress);
    } catch (error) {
      if (this.#book.get(slot.id)?.state === 'Ready') {
        this.#pool.giveBack(slot);
      } else {
        this.#disposal.discard(slot.id);
      }
      throw networkFailure(`attaching ${containerId}`, error);
    }
  }

  /** Records an attachment with its class, one small write, and puts the class in force. */
  async #hold(record: AttachedRecord, egress: EgressClass | undefined): Promise<Attachment> {
    const before = record.held;
    const mac = before?.mac ?? (egress === undefined ? '' : await insideMac(this.#runner, record.id, INTERFACE));
    const next = { ...record, held: egress === undefined ? undefined : { egress, mac } };
    if (this.#book.get(record.id)?.state === 'Ready' || before?.egress !== egress) {
      await this.#book.write(next);
    }
    await (next.held === undefined ? this.#table.release(record) : this.#table.hold(next));
    return this.#attachment(next);
  }

  async #load(): Promise<void> {
    await this.#work.own(this.#book.load());
  }

  /** Lets slots be filled and leftovers be removed, once everything that they need has been checked. */
  #open(): void {
    if (this.#usable) {
      this.#disposal.sweep();
      this.#pool.open();
    }
  }

  /** Runs every check, mending what can be mended; callers at the same time share one run. */
  #verify(): Promise<void> {
    this.#verifying ??= this.#work.own(
      this.#verifyOnce().finally(() => {
        this.#verifying = undefined;
      }),
    );
    return this.#verifying;
  }

  async #verifyOnce(): Promise<void> {
    const setup = await this.#readSetup();
    await this.#checks.run(setup, !this.#usable);
    if (!this.#usable) {
      const [first] = setup.planned;
      await first?.cni.checkVersions(setup.programs);
      await first?.cni.status();
      // Before any is made, so that those of an earlier run are the ones that are kept, and keep their addresses.
      await this.#audit.settleReservations(setup);
      await this.#pool.takeOver(setup);
      this.#usable = true;
      this.#open();
    }
  }

  async #repair(
    inUse: ReadonlySet<string>,
    claims: ReadonlyMap<string, AddressClaim>,
    unclaimed?: ReadonlySet<string>,
  ): Promise<string[]> {
    await this.#load();
    const setup = await this.#readSetup();
    const removed: string[] = [];
    for (const { containerId, id } of this.#book.attached()) {
      const isClaimed = inUse.has(containerId) || unclaimed?.has(containerId) === false;
      if (!isClaimed && !this.#calls.has(containerId) && !this.#book.isDiscarded(id)) {
        await this.detach(containerId);
        removed.push(containerId);
      }
    }
    // An attachment that is being made gets a record of its own.
    const settled = [...claims].filter(([, { containerId }]) => !this.#calls.has(containerId));
    removed.push(...(await this.#audit.removeUnrecorded(setup, new Map(settled))));
    if (removed.length > 0) {
      this.#options.logger.info({ removed }, 'leftovers of the network removed');
    }
    return removed;
  }

  #nameServers(): Promise<readonly string[]> {
    return readNameServers(this.#options.resolvConfPath);
  }

  /** Reads the configuration; a valid one is kept, a bad one is read again by the next caller. */
  async #readSetup(): Promise<NetworkSetup> {
    this.#setup ??= await readNetworkSetup({
      folder: this.#folder,
      configFile: this.#options.configFile,
      pluginFolder: this.#options.pluginFolder,
      subnet: this.#options.subnet,
      maxWorkers: this.#options.maxWorkers ?? DEFAULT_MAX_WORKERS,
      runner: this.#runner,
      clock: this.#clock,
    });
    return this.#setup;
  }

  #attachment({ containerId, id, ips }: AttachedRecord): Attachment {
    return { containerId, netnsPath: this.#namespaces.path(id), ip: ips[0] ?? '' };
  }

  #isPinned(id: string): Promise<boolean> {
    return this.#namespaces.isPinned(this.#namespaces.path(id));
  }
}
