import type { CallOptions } from '../common/deadline.ts';
import type { Health } from '../common/health.ts';
import type { AddressClaim } from './attachments/attachment-store.ts';
import type { EgressClass } from './host/egress-rules.ts';

/** A network namespace with its interfaces up and addresses given, made before any process runs in it. */
export interface Attachment {
  readonly containerId: string;
  /** Pinned namespace, for the runtime spec. */
  readonly netnsPath: string;
  /** Address on the node's bridge, without the prefix length: IPv4 where there is one, else IPv6. */
  readonly ip: string;
}

/** Attachments made before any container needs them. */
export interface SlotCounts {
  readonly ready: number;
  readonly wanted: number;
}

export interface AttachOptions extends CallOptions {
  /** Class that the container asks for. Default: that of the node. */
  readonly egress?: EgressClass | undefined;
}

export interface RepairOptions extends CallOptions {
  /** Containers whose attachments may be removed; default all. Later attachments are left alone. */
  readonly unclaimed?: ReadonlySet<string>;
  /** Addresses of live containers, for attachments that have lost their record. */
  readonly claims?: ReadonlyMap<string, AddressClaim>;
}

/**
 * The network of one node: attachments by CNI, the static rules, prepared slots.
 *
 * Errors carry these codes: `NetworkFailed` (the message names the failed step, the cause has a finer code) and
 * `AddressesExhausted`, both retryable; `DiskFull`; `DeadlineExceeded` and `Aborted`, after which work that has begun
 * is finished or undone in the background.
 */
export interface NodeNetwork {
  /** How many attachments are prepared, and how many are to be. */
  readonly slots: SlotCounts;
  /** Checks plugins and subnet, writes the rules, reconciles the leftovers of an earlier run. May be repeated. */
  start(options?: CallOptions): Promise<void>;
  /** Fills no more slots, for good, and waits for work under way. Attachments stay. */
  stop(): Promise<void>;
  /**
   * Stops, and removes all traces of this network from the node, remaining attachments included. Only `stop` may
   * follow. May be repeated.
   *
   * @returns one message for each trace that could not be removed; empty when nothing is left
   */
  remove(options?: CallOptions): Promise<string[]>;
  /**
   * Attaches, or returns the attachment that this container has already. The class is in force by then. Undone when
   * ended early.
   */
  attach(containerId: string, options?: AttachOptions): Promise<Attachment>;
  /** CNI DEL, then the namespace. Missing is success. Works without the namespace and without a process. */
  detach(containerId: string, options?: CallOptions): Promise<void>;
  get(containerId: string): Promise<Attachment | undefined>;
  /** Every attachment of a container, also one whose removal has begun; slots not included. */
  list(): Promise<Attachment[]>;
  /**
   * Removes attachments, namespaces and reservations that neither a container in `inUse` nor a slot claims. `inUse` has
   * to hold the containers that are being made. Lost records and reservations are written again from the namespaces
   * that are there. Returns what was removed.
   */
  repair(inUse: ReadonlySet<string>, options?: RepairOptions): Promise<string[]>;
  /**
   * Looks again, and mends flushed rules, a missing bridge or switched-off forwarding. Cheap: with all well, programs
   * run at most once a minute. Reasons: `SubnetCollision`, `PluginMissing`, `NftFailed`, `AddressesExhausted`,
   * `NetworkConfigInvalid`, `SubnetTooSmall`, `BridgeFailed`, `ForwardingFailed`, `AttachFailed`; `PortsLow` and
   * `AddressesLow` warn of a coming shortage.
   */
  health(options?: CallOptions): Promise<Health>;
}
