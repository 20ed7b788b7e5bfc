/** Something that a container leaves when it is not taken away in order. */
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
  | 'mount';
/** One thing on the node that bears the name of a container, whether that container exists or not. */
export interface Trace {
  readonly kind: TraceKind;
  readonly containerId: string;
}

/** What there is on a node at one time, as far as it is this node's own. */
export interface NodeInventory {
  /** Containers in containerd's records, without those that stand in for a lost one. */
  readonly containers: ReadonlySet<string>;
  /** Uids of workers that these containers belong to, by their labels. */
  readonly uids: ReadonlySet<string>;
  /** Containers that something was being done with before, while or after this was read. */
  readonly busy: ReadonlySet<string>;
  readonly traces: readonly Trace[];
  /** Uids of workers whose output is kept on the node. */
  readonly writers: ReadonlySet<string>;
}
