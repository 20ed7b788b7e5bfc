/** Kind of a thing that a container leaves without an orderly removal. */
export type TraceKind =
  | 'task'
  /** A record that stands in for one that was lost. */
  | 'container'
  | 'snapshot'
  | 'lease'
  | 'cgroup'
  | 'shim'
  | 'shim_socket'
  | 'runc_state'
  /** The files of its init. */
  | 'init'
  /** The file of its `/tmp`. */
  | 'tmp'
  | 'mount';

/** A thing on the node with the name of a container, present or gone. */
export interface Trace {
  readonly kind: TraceKind;
  readonly containerId: string;
}

/** Everything of a node at one time. */
export interface NodeInventory {
  /** Containers in containerd's records, without stand-ins for lost ones. */
  readonly containers: ReadonlySet<string>;
  /** Uids of the workers of these containers, by their labels. */
  readonly uids: ReadonlySet<string>;
  /** Containers with work under way before, during or after the reading. */
  readonly busy: ReadonlySet<string>;
  readonly traces: readonly Trace[];
  /** Uids of workers with kept output on the node. */
  readonly writers: ReadonlySet<string>;
}
