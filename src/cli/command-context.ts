/** The surroundings of a command. */
export interface CommandContext {
  readonly signal: AbortSignal;
  /** Takes the text for the user. */
  readonly write: (text: string) => void;
  /** Opens the instance that stands for an unnamed cluster. Absent in the program of a Pod. */
  readonly openInstance?: InstanceOpener | undefined;
}

/** @throws {EsbError} when its folder cannot be that of an instance */
export type InstanceOpener = () => Promise<LocalInstance>;

/** An instance of ESB on this machine, up or not. Paths are absolute. */
export interface LocalInstance {
  /** Kubeconfig of its API server; undefined when the instance is not up. */
  kubeconfig(): Promise<string | undefined>;
  /** Its kubectl; undefined when it has none. */
  kubectl(): Promise<string | undefined>;
  /**
   * Its first gateway, and the file with the access key of callers.
   *
   * @throws {EsbError} `NoInstance` when it is not up
   */
  gateway(): Promise<{ readonly url: string; readonly keyFile: string }>;
  /**
   * Host and port of its registry, which its nodes pull from without TLS.
   *
   * @throws {EsbError} `NoInstance` when it is not up
   */
  registry(): Promise<string>;
  /** Folder of the logs of the workers of a node; undefined for a node of another cluster than its own. */
  workerLogs(nodeName: string, kubeconfig: string | undefined): Promise<string | undefined>;
  /**
   * Shows the log of one of its processes, such as `agent-node-1`.
   *
   * @param tail lines from the end; 0 for all
   * @returns whether it has a process of that name
   */
  showLog(
    name: string,
    options: { readonly tail: number; readonly follow: boolean },
    write: (text: string) => void,
    signal: AbortSignal,
  ): Promise<boolean>;
}
