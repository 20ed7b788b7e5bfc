import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock, type Timer } from '../common/clock.ts';
import { AbortedError, type CallOptions, DeadlineError, withDeadline } from '../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import type { Logger } from '../common/logger.ts';
import { type AttachmentRecord, AttachmentStore, namespacePrefix } from './attachment-store.ts';
import { CniClient, pluginMissing } from './cni-client.ts';
import { addressOf, hostInterfaceOf } from './cni-result.ts';
import { type CommandRunner, systemCommandRunner } from './command-runner.ts';
import { parseHostRoutes, parseInterfaces } from './host-routes.ts';
import { createIpForward, enableIpForward, type IpForward } from './ip-forward.ts';
import { IpamDirectory } from './ipam-directory.ts';
import { formatRange, type Ipv4Range, overlaps, parseIpv4Range } from './ipv4-range.ts';
import { type BridgeNetwork, bridgeNetwork, parseNetworkConfig } from './network-config.ts';
import { createNamespaceKeeper, type NamespaceKeeper } from './network-namespace.ts';
import { createBridge } from './node-bridge.ts';
import { applyNodeRules, readRulesState } from './node-rules.ts';
import { type CniTarget, ResultCache } from './result-cache.ts';

/** A network namespace with its interfaces up and addresses given, made before any process runs in it. */
export interface Attachment {
  readonly containerId: string;
  /** Pinned namespace, for the runtime spec. */
  readonly netnsPath: string;
  /** IPv4 address on the node's bridge, without the prefix length. */
  readonly ip: string;
}

/**
 * The network of one node: attachments by CNI, the static rules, prepared slots.
 *
 * Errors carry these codes: `NetworkFailed` (its message tells what, its cause carries a finer code) and
 * `AddressesExhausted`, both retryable; `DiskFull`; `DeadlineExceeded` and `Aborted`, after which what was begun is
 * finished or undone in the background.
 */
export interface NodeNetwork {
  /** Checks plugins and subnet, writes the rules, reconciles what an earlier run left. May be repeated. */
  start(options?: CallOptions): Promise<void>;
  /** Fills no more slots and waits for what is under way. Attachments stay. */
  stop(): Promise<void>;
  /** Attaches, or returns the attachment that this container has already. Undone when ended early. */
  attach(containerId: string, options?: CallOptions): Promise<Attachment>;
  /** CNI DEL, then the namespace. Missing is success. Works without the namespace and without a process. */
  detach(containerId: string, options?: CallOptions): Promise<void>;
  get(containerId: string): Promise<Attachment | undefined>;
  /** Every attachment of a container, also one whose removal has begun; slots not included. */
  list(): Promise<Attachment[]>;
  /**
   * Removes attachments, namespaces and reservations that neither a container in `inUse` nor a slot claims.
   * Containers that are being made count as in use and have to be in it.
   * Returns what it removed.
   */
  repair(inUse: ReadonlySet<string>, options?: CallOptions): Promise<string[]>;
  /**
   * Looks again, and mends what it can: rules that were flushed, a bridge or forwarding that was taken away. Cheap: when all
   * is well no program is run more often than once a minute. Reasons: `SubnetCollision`, `PluginMissing`, `NftFailed`,
   * `AddressesExhausted`, `NetworkConfigInvalid`, `BridgeFailed`, `ForwardingFailed`, `AttachFailed`.
   */
  health(options?: CallOptions): Promise<Health>;
}

/** A range of addresses that somebody else uses. */
export interface NamedRange {
  readonly cidr: string;
  /** Whose it is, for the message: `pod CIDR of node-a`. */
  readonly what: string;
}

export interface NodeNetworkOptions {
  /** The agent's state folder; everything is kept in `cni` below it. */
  readonly stateDir: string;
  /** The network configuration list. */
  readonly configFile: string;
  /** Folder of the CNI plugins. */
  readonly pluginFolder: string;
  /** Addresses for the workers of this node, such as `10.234.0.0/16`. */
  readonly subnet: string;
  readonly logger: Logger;
  /** Namespaces kept ready with their address. Default 4. */
  readonly slots?: number;
  /** Destinations that workers are denied, beside the node itself and the metadata address. */
  readonly deniedRanges?: readonly string[];
  /** Ranges beside the routes of this node that the subnet must not touch; asked at every look. */
  readonly otherRanges?: () => readonly NamedRange[];
  /** Milliseconds that making one namespace with its address may take. Default 20,000. */
  readonly makeDeadlineMs?: number;
  readonly runner?: CommandRunner;
  readonly clock?: Clock;
  readonly namespaces?: NamespaceKeeper;
  /** Folder with `net/route` and `net/dev` of the node's network namespace. Default `/proc`. */
  readonly procFolder?: string;
  /** Default: that of the network namespace of this process. */
  readonly ipForward?: IpForward;
}

/** Makes the network of one node. Nothing happens before {@link NodeNetwork.start}. */
export function createNodeNetwork(options: NodeNetworkOptions): NodeNetwork {
  return new CniNodeNetwork(options);
}

/** Name of the interface inside. */
const INTERFACE = 'eth0';
const DEFAULT_SLOTS = 4;
/** Slots are filled again this long after one was taken, so that the work is not in the way of the cold start. */
const REFILL_DELAY_MS = 250;
/** After a slot could not be made: the first wait, and the longest. */
const REFILL_BACKOFF_MS = 1000;
const MAX_REFILL_BACKOFF_MS = 30_000;
/** How many namespaces are made at once: each runs three programs. */
const MAKING_AT_ONCE = 4;
/** How often the packet filter is looked at while all is well, and how soon writing to it is tried again when not. */
const RULES_CHECK_MS = 60_000;
const RULES_RETRY_MS = 2000;
const MAKE_DEADLINE_MS = 20_000;
const DISPOSE_DEADLINE_MS = 20_000;
const ATTACH_DEADLINE_MS = 30_000;
const DETACH_DEADLINE_MS = 45_000;
const REPAIR_DEADLINE_MS = 120_000;
const START_DEADLINE_MS = 60_000;
const VERIFY_DEADLINE_MS = 20_000;
/** Ports that a Linux bridge can have (`BR_MAX_PORTS`, port 0 is not used). */
const MAX_BRIDGE_PORTS = 1023;
/** Network, gateway and broadcast address. */
const ADDRESSES_NOT_GIVEN = 3;

type Ready = Extract<AttachmentRecord, { state: 'Ready' }>;
type Attached = Extract<AttachmentRecord, { state: 'Attached' }>;

/** What is known once configuration and subnet have been read. */
interface Setup extends BridgeNetwork {
  readonly cni: CniClient;
  readonly ipam: IpamDirectory;
  readonly cache: ResultCache;
  readonly subnet: Ipv4Range;
}

class CniNodeNetwork implements NodeNetwork {
  readonly #options: NodeNetworkOptions;
  readonly #folder: string;
  readonly #prefix: string;
  readonly #wantedSlots: number;
  readonly #makeDeadlineMs: number;
  readonly #runner: CommandRunner;
  readonly #clock: Clock;
  readonly #namespaces: NamespaceKeeper;
  readonly #procFolder: string;
  readonly #ipForward: IpForward;
  readonly #store: AttachmentStore;
  readonly #logger: Logger;

  readonly #records = new Map<string, AttachmentRecord>();
  /** Container id to record id. */
  readonly #byContainer = new Map<string, string>();
  /** Ids of slots that a container can be given, oldest first. */
  readonly #ready: string[] = [];
  /** Ids of what is to be removed and could not be yet. */
  readonly #discarded = new Set<string>();
  readonly #waiters: PromiseWithResolvers<Ready>[] = [];
  /** What is under way for each container, so that its calls happen one after the other. */
  readonly #serial = new Map<string, Promise<unknown>>();
  readonly #disposing = new Map<string, Promise<void>>();
  readonly #background = new Set<Promise<unknown>>();

  #setup: Setup | undefined;
  #loaded = false;
  /** Whether every check has passed once; from then on attaching is allowed. */
  #usable = false;
  #stopped = false;
  #verifying: Promise<void> | undefined;
  #rulesCheckedAt: number | undefined;
  #rulesTriedAt: number | undefined;
  #rulesError: EsbError | undefined;
  #making = 0;
  #refillDue = false;
  #refillTimer: Timer | undefined;
  #refillBackoffMs = 0;
  #makeError: EsbError | undefined;

  constructor(options: NodeNetworkOptions) {
    this.#options = options;
    this.#folder = join(options.stateDir, 'cni');
    this.#prefix = namespacePrefix(options.stateDir);
    this.#wantedSlots = options.slots ?? DEFAULT_SLOTS;
    this.#makeDeadlineMs = options.makeDeadlineMs ?? MAKE_DEADLINE_MS;
    this.#runner = options.runner ?? systemCommandRunner;
    this.#clock = options.clock ?? systemClock;
    this.#namespaces = options.namespaces ?? createNamespaceKeeper(this.#runner);
    this.#procFolder = options.procFolder ?? '/proc';
    this.#ipForward = options.ipForward ?? createIpForward();
    this.#store = new AttachmentStore(this.#folder);
    this.#logger = options.logger;
  }

  async start(options: CallOptions = {}): Promise<void> {
    this.#stopped = false;
    await withDeadline(
      'starting the network',
      options.deadlineMs ?? START_DEADLINE_MS,
      options.signal,
      async () => {
        await this.#own(this.#load());
        this.#rulesCheckedAt = undefined;
        await this.#verify();
      },
    );
    this.#scheduleRefill(0);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#refillTimer?.cancel();
    this.#refillTimer = undefined;
    for (const waiter of this.#waiters.splice(0)) {
      waiter.reject(new AbortedError('attaching'));
    }
    while (this.#background.size > 0) {
      await Promise.allSettled(this.#background);
    }
  }

  async attach(containerId: string, options: CallOptions = {}): Promise<Attachment> {
    return await this.#inTurn(containerId, 'attaching', options, ATTACH_DEADLINE_MS, async (signal) => {
      await this.#own(this.#load());
      const existing = this.#attachedTo(containerId);
      if (existing !== undefined) {
        if (await this.#isPinned(existing)) {
          return this.#attachment(existing);
        }
        this.#discard(existing.id);
      }
      if (!this.#usable) {
        await this.#verify();
      }
      const slot = await this.#takeSlot(signal);
      const attachment = await this.#assign(slot, containerId);
      if (signal.aborted) {
        // Nobody heard of it, so nobody will detach it.
        await this.#dispose(slot.id);
      }
      return attachment;
    });
  }

  async detach(containerId: string, options: CallOptions = {}): Promise<void> {
    await this.#inTurn(containerId, 'detaching', options, DETACH_DEADLINE_MS, async () => {
      await this.#own(this.#load());
      const id = this.#byContainer.get(containerId);
      if (id !== undefined) {
        await this.#dispose(id);
      }
    });
  }

  async get(containerId: string): Promise<Attachment | undefined> {
    await this.#own(this.#load());
    const id = this.#byContainer.get(containerId);
    const record = id === undefined ? undefined : this.#records.get(id);
    return record?.state === 'Attached' ? this.#attachment(record) : undefined;
  }

  async list(): Promise<Attachment[]> {
    await this.#own(this.#load());
    return [...this.#byContainer.values()].flatMap((id) => {
      const record = this.#records.get(id);
      return record?.state === 'Attached' ? [this.#attachment(record)] : [];
    });
  }

  async repair(inUse: ReadonlySet<string>, options: CallOptions = {}): Promise<string[]> {
    return await this.#untilEnded(
      'repairing the network',
      options,
      REPAIR_DEADLINE_MS,
      this.#own(this.#repair(inUse)),
    );
  }

  async health(options: CallOptions = {}): Promise<Health> {
    try {
      await this.#own(this.#load());
      await this.#untilEnded('checking the network', options, VERIFY_DEADLINE_MS, this.#verify());
      const full = await this.#exhaustion();
      const error = full ?? this.#makeError;
      return error === undefined ? { ok: true } : unhealthy(error);
    } catch (error) {
      return unhealthy(EsbError.from(error));
    }
  }

  // Slots

  /** A slot for a container: a prepared one, else the next to be made. */
  async #takeSlot(signal: AbortSignal): Promise<Ready> {
    for (let id = this.#ready.shift(); id !== undefined; id = this.#ready.shift()) {
      const record = this.#records.get(id);
      if (record?.state === 'Ready') {
        if (await this.#isPinned(record)) {
          return record;
        }
        this.#discard(id);
      }
    }
    const waiter = Promise.withResolvers<Ready>();
    const leave = (): void => {
      const index = this.#waiters.indexOf(waiter);
      if (index !== -1) {
        this.#waiters.splice(index, 1);
        waiter.reject(new AbortedError('attaching', signal.reason));
      }
    };
    signal.addEventListener('abort', leave, { once: true });
    this.#waiters.push(waiter);
    if (signal.aborted) {
      leave();
    }
    this.#pump();
    try {
      return await waiter.promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  async #assign(slot: Ready, containerId: string): Promise<Attachment> {
    const record: Attached = { id: slot.id, state: 'Attached', ip: slot.ip, containerId };
    try {
      await this.#store.write(record);
    } catch (error) {
      this.#ready.unshift(slot.id);
      throw convert(`attaching ${containerId}`, error);
    }
    this.#records.set(record.id, record);
    this.#byContainer.set(containerId, record.id);
    this.#scheduleRefill(REFILL_DELAY_MS);
    return this.#attachment(record);
  }

  /** Starts as many makings as those who wait, and then the empty slots, call for. */
  #pump(): void {
    if (this.#stopped) {
      return;
    }
    const missing = this.#wantedSlots - this.#ready.length;
    // Filling up is done one at a time; a container in need gets what is ready first.
    const refill = this.#refillDue && missing > 0 ? 1 : 0;
    const wanted = Math.min(MAKING_AT_ONCE, Math.max(this.#waiters.length, refill));
    while (this.#making < wanted) {
      this.#making += 1;
      void this.#own(this.#makeOne());
    }
  }

  /** Makes one slot and hands it to whoever needs it. Never throws. */
  async #makeOne(): Promise<void> {
    try {
      const slot = await this.#make();
      this.#makeError = undefined;
      this.#refillBackoffMs = 0;
      this.#hand(slot);
    } catch (error) {
      await this.#makeFailed(error);
    } finally {
      this.#making -= 1;
    }
    this.#pump();
  }

  #hand(slot: Ready): void {
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter.resolve(slot);
      return;
    }
    if (this.#ready.length < this.#wantedSlots) {
      this.#ready.push(slot.id);
    } else {
      // Its container gave up while it was made.
      this.#discard(slot.id);
    }
    if (this.#ready.length >= this.#wantedSlots) {
      this.#refillDue = false;
    }
  }

  async #makeFailed(error: unknown): Promise<void> {
    const converted = (await this.#exhaustion()) ?? convert('making a network namespace', error);
    this.#makeError = converted.code === 'AddressesExhausted' ? undefined : converted;
    this.#logger.warn({ err: error }, 'a network namespace could not be made');
    const waiter = this.#waiters.shift();
    waiter?.reject(converted);
    this.#refillBackoffMs = Math.min(
      MAX_REFILL_BACKOFF_MS,
      Math.max(REFILL_BACKOFF_MS, this.#refillBackoffMs * 2),
    );
    this.#refillDue = false;
    this.#scheduleRefill(this.#refillBackoffMs);
  }

  async #make(): Promise<Ready> {
    const setup = this.#requireSetup();
    const id = `${this.#prefix}${randomBytes(4).toString('hex')}`;
    const making: AttachmentRecord = { id, state: 'Making' };
    this.#records.set(id, making);
    try {
      await this.#store.write(making);
      const netns = await this.#namespaces.create(id, { deadlineMs: this.#makeDeadlineMs });
      const result = await setup.cni.add(target(id, netns), { deadlineMs: this.#makeDeadlineMs });
      const ip = addressOf(result);
      if (ip === undefined) {
        throw new EsbError('the CNI plugins gave no IPv4 address', { code: 'PluginInvalidOutput' });
      }
      const ready: Ready = { id, state: 'Ready', ip };
      await this.#store.write(ready);
      this.#records.set(id, ready);
      return ready;
    } catch (error) {
      this.#discard(id);
      throw error;
    }
  }

  #scheduleRefill(delayMs: number): void {
    if (this.#stopped || this.#refillTimer !== undefined) {
      return;
    }
    this.#refillTimer = this.#clock.setTimer(() => {
      this.#refillTimer = undefined;
      void this.#own(this.#tend());
    }, delayMs);
  }

  /** Removes what was discarded, then fills the slots. */
  async #tend(): Promise<void> {
    for (const id of this.#discarded) {
      if (this.#stopped) {
        return;
      }
      await this.#disposeQuietly(id);
    }
    if (this.#usable) {
      this.#refillDue = this.#ready.length < this.#wantedSlots;
      if (!this.#refillDue && this.#discarded.size === 0) {
        // What failed was undone, and nothing will be made soon that could prove the cause gone.
        this.#makeError = undefined;
      }
      this.#pump();
    }
    if (this.#discarded.size > 0) {
      this.#refillBackoffMs = Math.min(
        MAX_REFILL_BACKOFF_MS,
        Math.max(REFILL_BACKOFF_MS, this.#refillBackoffMs * 2),
      );
      this.#scheduleRefill(this.#refillBackoffMs);
    }
  }

  /** Marks something for removal and begins with it at once. */
  #discard(id: string): void {
    this.#discarded.add(id);
    void this.#own(this.#disposeQuietly(id));
  }

  async #disposeQuietly(id: string): Promise<void> {
    try {
      await this.#dispose(id);
    } catch (error) {
      this.#logger.warn({ err: error, netns: id }, 'a network namespace could not be removed yet');
    }
  }

  /** CNI DEL, namespace, record. Repeatable; callers at the same time share one run. */
  #dispose(id: string): Promise<void> {
    const running =
      this.#disposing.get(id) ?? this.#own(this.#disposeOnce(id).finally(() => this.#disposing.delete(id)));
    this.#disposing.set(id, running);
    return running;
  }

  async #disposeOnce(id: string): Promise<void> {
    const record = this.#records.get(id);
    // From here on it is nothing that a container can be given, also when this fails.
    this.#discarded.add(id);
    try {
      const setup = await this.#readSetup();
      if (record !== undefined && record.state !== 'Making') {
        // After a crash from here on it must not be taken for a working one. On a full disk freeing comes first.
        await this.#store.write({ id, state: 'Making' }).catch((error: unknown) => {
          this.#logger.warn(
            { err: error, netns: id },
            'the removal of a network namespace cannot be recorded',
          );
        });
      }
      const path = this.#namespaces.path(id);
      const netns = (await this.#namespaces.isPinned(path)) ? path : '';
      await setup.cni.del(target(id, netns), { deadlineMs: DISPOSE_DEADLINE_MS });
      await this.#namespaces.remove(id, { deadlineMs: DISPOSE_DEADLINE_MS });
      await this.#store.remove(id);
    } catch (error) {
      this.#scheduleRefill(Math.max(this.#refillBackoffMs, REFILL_BACKOFF_MS));
      throw convert(`removing ${record?.state === 'Attached' ? record.containerId : id}`, error);
    }
    this.#records.delete(id);
    this.#discarded.delete(id);
    if (record?.state === 'Attached' && this.#byContainer.get(record.containerId) === id) {
      this.#byContainer.delete(record.containerId);
    }
  }

  // Reconciling

  /** Reads the records of an earlier run, once. */
  async #load(): Promise<void> {
    if (this.#loaded) {
      return;
    }
    const records = await this.#store.load();
    // Another caller may have been quicker.
    if (this.#loaded) {
      return;
    }
    this.#loaded = true;
    for (const record of records) {
      this.#records.set(record.id, record);
      switch (record.state) {
        case 'Making':
          this.#discarded.add(record.id);
          break;
        case 'Ready':
          break;
        case 'Attached':
          this.#byContainer.set(record.containerId, record.id);
          break;
        default:
          record satisfies never;
      }
    }
  }

  /** After a start: slots that still work are kept, what a reboot or a crash left is removed. */
  async #validateSlots(setup: Setup): Promise<void> {
    const known = new Set([...this.#ready, ...this.#discarded]);
    await Promise.all(
      [...this.#records.values()].map(async (record) => {
        if (known.has(record.id) || record.state === 'Making') {
          return;
        }
        if (!(await this.#isPinned(record))) {
          // Removed one by one later: after a reboot there may be a thousand.
          this.#discarded.add(record.id);
        } else if (record.state === 'Ready') {
          try {
            await setup.cni.check(target(record.id, this.#namespaces.path(record.id)));
            this.#hand(record);
          } catch (error) {
            this.#logger.info({ err: error, netns: record.id }, 'a prepared slot no longer works');
            this.#discarded.add(record.id);
          }
        }
      }),
    );
  }

  async #repair(inUse: ReadonlySet<string>): Promise<string[]> {
    await this.#load();
    const setup = await this.#readSetup();
    const removed: string[] = [];
    for (const [containerId, id] of [...this.#byContainer]) {
      if (!inUse.has(containerId) && !this.#serial.has(containerId) && !this.#discarded.has(id)) {
        await this.detach(containerId);
        removed.push(containerId);
      }
    }
    for (const name of await this.#namespaces.names()) {
      if (name.startsWith(this.#prefix) && !this.#records.has(name)) {
        await setup.cni.del(target(name, this.#namespaces.path(name)));
        await this.#namespaces.remove(name);
        removed.push(name);
      }
    }
    // A record is made before its address is given out, so whatever is not in a record here is nobody's.
    for (const { ip, containerId } of await setup.ipam.list()) {
      if (!this.#records.has(containerId)) {
        if (containerId !== '') {
          await setup.cni.del(target(containerId, ''));
        }
        await setup.ipam.release(ip, containerId);
        removed.push(ip);
      }
    }
    for (const containerId of await setup.cache.list(setup.config.name, INTERFACE)) {
      if (!this.#records.has(containerId)) {
        await setup.cache.remove(setup.config.name, containerId, INTERFACE);
      }
    }
    await setup.cni.gc([...this.#records.keys()].map((id) => target(id, this.#namespaces.path(id))));
    if (removed.length > 0) {
      this.#logger.info({ removed }, 'leftovers of the network removed');
    }
    return removed;
  }

  // Checks

  /** Runs every check, mending what can be mended; callers at the same time share one run. */
  #verify(): Promise<void> {
    this.#verifying ??= this.#own(
      this.#verifyOnce().finally(() => {
        this.#verifying = undefined;
      }),
    );
    return this.#verifying;
  }

  async #verifyOnce(): Promise<void> {
    const setup = await this.#readSetup();
    await this.#checkPrograms(setup);
    await this.#checkCollision(setup);
    await this.#checkRules(setup);
    await enableIpForward(this.#ipForward, this.#folder);
    await this.#checkBridge(setup);
    if (!this.#usable) {
      await setup.cni.checkVersions(setup.programs);
      await setup.cni.status();
      // Before any is made, so that those of an earlier run are the ones that are kept.
      await this.#validateSlots(setup);
      this.#usable = true;
      this.#scheduleRefill(0);
    }
  }

  async #checkPrograms(setup: Setup): Promise<void> {
    const { pluginFolder } = this.#options;
    for (const program of setup.programs) {
      try {
        await access(join(pluginFolder, program), constants.X_OK);
      } catch (error) {
        throw pluginMissing(program, pluginFolder, error);
      }
    }
  }

  async #checkCollision(setup: Setup): Promise<void> {
    const routes = parseHostRoutes(await this.#readProc('net/route'));
    const route = routes.find(
      (candidate) => candidate.interface !== setup.bridge && overlaps(candidate.range, setup.subnet),
    );
    if (route !== undefined) {
      throw this.#collision(`the route ${formatRange(route.range)} of this node by ${route.interface}`);
    }
    const other = (this.#options.otherRanges?.() ?? []).find(({ cidr }) => {
      // Ranges of IPv6 cannot touch ours.
      return !cidr.includes(':') && overlaps(parseIpv4Range(cidr), setup.subnet);
    });
    if (other !== undefined) {
      throw this.#collision(`${other.cidr}, ${other.what}`);
    }
  }

  #collision(what: string): EsbError {
    return new EsbError(
      `the subnet ${this.#options.subnet} of the workers collides with ${what}: give the agent another one with --subnet`,
      { code: 'SubnetCollision', retryable: true },
    );
  }

  async #checkRules(setup: Setup): Promise<void> {
    const now = this.#clock.monotonic();
    if (this.#rulesCheckedAt !== undefined && now - this.#rulesCheckedAt < RULES_CHECK_MS) {
      return;
    }
    if (
      this.#rulesError !== undefined &&
      this.#rulesTriedAt !== undefined &&
      now - this.#rulesTriedAt < RULES_RETRY_MS
    ) {
      throw this.#rulesError;
    }
    const first = this.#rulesTriedAt === undefined || this.#rulesCheckedAt === undefined;
    this.#rulesTriedAt = now;
    try {
      await this.#writeRules(setup, first);
      this.#rulesCheckedAt = now;
      this.#rulesError = undefined;
    } catch (error) {
      this.#rulesCheckedAt = undefined;
      this.#rulesError = EsbError.from(error);
      throw this.#rulesError;
    }
  }

  async #writeRules(setup: Setup, always: boolean): Promise<void> {
    const state = await readRulesState(this.#runner);
    if (always || !state.present) {
      await applyNodeRules(this.#runner, {
        bridge: setup.bridge,
        subnet: this.#options.subnet,
        deniedRanges: this.#options.deniedRanges ?? [],
      });
      if (!always) {
        this.#logger.warn('the rules of the worker network were gone and have been written again');
      }
      for (const chain of state.forwardDroppers) {
        this.#logger.warn(
          { chain },
          'a forward chain of another program drops by default: workers reach nothing outside unless it has a rule for them',
        );
      }
    }
  }

  async #checkBridge(setup: Setup): Promise<void> {
    if (parseInterfaces(await this.#readProc('net/dev')).includes(setup.bridge)) {
      return;
    }
    const ports: string[] = [];
    for (const record of this.#records.values()) {
      const result = await setup.cni.cachedResult(record.id, INTERFACE);
      const name = result === undefined ? undefined : hostInterfaceOf(result, setup.bridge);
      if (name !== undefined) {
        ports.push(name);
      }
    }
    await createBridge(this.#runner, setup.bridge, setup.subnet, ports);
  }

  /** The error that says so when there is no address, or no port of the bridge, left to give. */
  async #exhaustion(): Promise<EsbError | undefined> {
    const setup = this.#setup;
    if (setup === undefined || this.#ready.length > 0) {
      return undefined;
    }
    const used = (await setup.ipam.addresses()).length;
    const capacity = 2 ** (32 - setup.subnet.prefixLength) - ADDRESSES_NOT_GIVEN;
    if (used >= capacity) {
      return exhausted(`all ${capacity} addresses of ${this.#options.subnet} are taken`);
    }
    return used >= MAX_BRIDGE_PORTS
      ? exhausted(`all ${MAX_BRIDGE_PORTS} ports of the bridge ${setup.bridge} are taken`)
      : undefined;
  }

  async #readProc(path: string): Promise<string> {
    return await readFile(join(this.#procFolder, path), 'utf8');
  }

  /** Reads the configuration; a valid one is kept, a bad one is read again by the next caller. */
  async #readSetup(): Promise<Setup> {
    if (this.#setup !== undefined) {
      return this.#setup;
    }
    const { configFile, subnet, pluginFolder } = this.#options;
    const range = parseIpv4Range(subnet);
    let text: string;
    try {
      text = await readFile(configFile, 'utf8');
    } catch (error) {
      throw new EsbError(`cannot read the network configuration: ${messageOf(error)}`, {
        code: 'NetworkConfigInvalid',
        retryable: true,
        cause: error,
      });
    }
    const dataDir = join(this.#folder, 'ipam');
    const network = bridgeNetwork(parseNetworkConfig(text, configFile), subnet, dataDir, configFile);
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    const cache = new ResultCache(this.#folder);
    this.#setup = {
      ...network,
      subnet: range,
      cache,
      ipam: new IpamDirectory(dataDir, network.config.name),
      cni: new CniClient({
        config: network.config,
        pluginFolder,
        cache,
        runner: this.#runner,
        clock: this.#clock,
      }),
    };
    return this.#setup;
  }

  #requireSetup(): Setup {
    if (this.#setup === undefined) {
      throw new EsbError('the network has not been started', { code: 'NetworkFailed', retryable: true });
    }
    return this.#setup;
  }

  // Bookkeeping

  #attachedTo(containerId: string): Attached | undefined {
    const id = this.#byContainer.get(containerId);
    const record = id === undefined || this.#discarded.has(id) ? undefined : this.#records.get(id);
    return record?.state === 'Attached' ? record : undefined;
  }

  #attachment(record: Attached): Attachment {
    return {
      containerId: record.containerId,
      netnsPath: this.#namespaces.path(record.id),
      ip: record.ip,
    };
  }

  #isPinned(record: AttachmentRecord): Promise<boolean> {
    return this.#namespaces.isPinned(this.#namespaces.path(record.id));
  }

  /**
   * Runs `call` after everything else of the same container. The caller may leave early; the call itself goes on to a
   * consistent end, told by `signal` that nobody waits for its outcome.
   */
  async #inTurn<T>(
    containerId: string,
    what: string,
    options: CallOptions,
    defaultDeadlineMs: number,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const left = new AbortController();
    const before = this.#serial.get(containerId) ?? Promise.resolve();
    const running = this.#own(
      before.then(
        () => call(left.signal),
        () => call(left.signal),
      ),
    );
    this.#serial.set(containerId, running);
    const forget = (): void => {
      if (this.#serial.get(containerId) === running) {
        this.#serial.delete(containerId);
      }
    };
    running.then(forget, forget);
    try {
      return await this.#untilEnded(`${what} ${containerId}`, options, defaultDeadlineMs, running);
    } catch (error) {
      left.abort();
      throw convert(`${what} ${containerId}`, error);
    }
  }

  async #untilEnded<T>(
    what: string,
    options: CallOptions,
    defaultDeadlineMs: number,
    running: Promise<T>,
  ): Promise<T> {
    return await withDeadline(what, options.deadlineMs ?? defaultDeadlineMs, options.signal, () => running);
  }

  /** Keeps a promise until it settles, so that {@link CniNodeNetwork.stop} can wait for it. */
  #own<T>(promise: Promise<T>): Promise<T> {
    const forget = (): void => {
      this.#background.delete(promise);
    };
    this.#background.add(promise);
    promise.then(forget, forget);
    return promise;
  }
}

function target(id: string, netns: string): CniTarget {
  return { containerId: id, netns, ifName: INTERFACE };
}

function exhausted(why: string): EsbError {
  return new EsbError(why, { code: 'AddressesExhausted', retryable: true });
}

function unhealthy(error: EsbError): Health {
  const cause = error.code === 'NetworkFailed' ? error.cause : undefined;
  const reason = cause instanceof EsbError && cause.code === 'PluginMissing' ? cause.code : error.code;
  return { ok: false, reason: reason === 'NetworkFailed' ? 'AttachFailed' : reason, message: error.message };
}

/** Turns whatever went wrong into one of the errors that {@link NodeNetwork} promises. */
function convert(what: string, error: unknown): EsbError {
  if (error instanceof AbortedError || error instanceof DeadlineError) {
    return error;
  }
  if (error instanceof EsbError && ['AddressesExhausted', 'DiskFull', 'NetworkFailed'].includes(error.code)) {
    return error;
  }
  const full = errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT';
  return new EsbError(`${what}: ${messageOf(error)}`, {
    code: full ? 'DiskFull' : 'NetworkFailed',
    retryable: true,
    cause: error,
  });
}
