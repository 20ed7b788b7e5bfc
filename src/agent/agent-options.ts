/** Options of the agent's role, as the command line gives them. */
export interface AgentOptions {
  readonly nodeName: string;
  /** File; the service account of the Pod when absent. */
  readonly kubeconfig?: string;
  readonly systemNamespace: string;
  readonly runtimeType: 'containerd';
  readonly containerdSocket: string;
  readonly cniBinDir: string;
  /** The program's own network configuration when absent. */
  readonly cniConfig?: string;
  /** Folder for what must outlive a restart. */
  readonly stateDir: string;
  /** Folder on tmpfs, for what must not outlive a boot. */
  readonly runDir: string;
  readonly certsDir: string;
  /** `HOST:PORT` of the gRPC server. */
  readonly listen: string;
  /** `HOST:PORT` that gateways are told; the first address of the machine when absent. */
  readonly advertise?: string;
  /** `HOST:PORT` of /healthz, /readyz and /metrics. */
  readonly health: string;
  /** MiB that may be promised to workers; 70 % of the machine when absent. */
  readonly memory?: number;
  readonly maxWorkers: number;
  /** Network attachments prepared in advance. */
  readonly slots: number;
  readonly subnet: string;
  /** Ranges of the cluster that the subnet may not meet. */
  readonly serviceCidr: readonly string[];
  /** Ranges that workers may not reach, beside the node and the metadata service. DNS to them is let through. */
  readonly denyCidr: readonly string[];
  readonly cgroupParent: string;
}
