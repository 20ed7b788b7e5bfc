import type { CallOptions } from '../common/deadline.ts';
import type { Health } from '../common/health.ts';

/** A network namespace with its interfaces up and addresses given, made before any process runs in it. */
export interface Attachment {
  readonly containerId: string;
  /** Pinned namespace, for the runtime spec. */
  readonly netnsPath: string;
  /** IPv4 address on the node's bridge, without the prefix length. */
  readonly ip: string;
}

/** The network of one node: attachments by CNI, the static rules, prepared slots. */
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
  /** Every attachment of a container; slots not included. */
  list(): Promise<Attachment[]>;
  /**
   * Removes attachments, namespaces and reservations that neither a container in `inUse` nor a slot claims.
   * Returns what it removed.
   */
  repair(inUse: ReadonlySet<string>, options?: CallOptions): Promise<string[]>;
  health(options?: CallOptions): Promise<Health>;
}
