import type { RuntimeType } from '../../runtime/factory.ts';

/** Options of the agent's role, as the command line gives them. */
export interface AgentOptions {
  readonly nodeName: string;
  /** File; the service account of the Pod when absent. */
  readonly kubeconfig?: string;
  readonly systemNamespace: string;
  readonly runtimeType: RuntimeType;
  readonly containerdSocket: string;
  readonly dockerSocket: string;
  readonly cniBinDir: string;
  /** The program's own network configuration when absent. */
  readonly cniConfig?: string;
  /** Folder for what must outlive a restart. */
  readonly stateDir: string;
  /** Folder on tmpfs, for what must not outlive a boot. */
  readonly runDir: string;
  readonly certsDir: string;
  /** Images of one registry that are pulled at the same time. */
  readonly maxPulls: number;
  /** Percent of the disk of the images above which unused ones are removed, 100 for never. */
  readonly imageGcHigh: number;
  /** Percent at which that ends. */
  readonly imageGcLow: number;
  /** Seconds since its pull or last use for which an image is left alone. */
  readonly imageGcMinAge: number;
  /** `HOST:PORT` of the gRPC server. */
  readonly listen: string;
  /** `HOST:PORT` that gateways are told; the first address of the machine when absent. */
  readonly advertise?: string;
  /** `HOST:PORT` of /healthz, /readyz and /metrics. */
  readonly health: string;
  /** MiB that may be promised to workers; 70 % of the machine when absent. */
  readonly memory?: number;
  readonly maxWorkers: number;
  /** Bytes that payloads and answers of calls may hold; by the memory limit of the container when absent. */
  readonly maxHeld?: number;
  /** Network attachments prepared in advance. */
  readonly slots: number;
  /** Workers resting Absent whose container is made in advance. */
  readonly preparedWorkers: number;
  /** How many workers share a shim of containerd. */
  readonly workersPerShim: number;
  /** Bytes of one file of a worker's log. */
  readonly logMaxSize: number;
  /** Files of a worker's log that are kept, the one that is written to included. */
  readonly logMaxFiles: number;
  readonly subnet: string;
  /** `FIRST-LAST`: ports of the node for workers in network mode Host. */
  readonly hostPorts: string;
  /** Ranges of the cluster that the subnet may not meet. */
  readonly serviceCidr: readonly string[];
  /** Ranges that workers may not reach, beside the node and the metadata service. DNS to them is let through. */
  readonly denyCidr: readonly string[];
  /** Ranges that workers reach although a denied one has them. Never the node, nor the metadata service. */
  readonly allowCidr: readonly string[];
  readonly cgroupDriver: 'cgroupfs' | 'systemd';
  /** Control group above those of the workers; `/esb` when absent, with systemd the slice `esb.slice`. */
  readonly cgroupParent?: string;
  /** Users of the node for the workers' user namespaces, `FIRST:COUNT` or `auto`; none has one when absent. */
  readonly userNamespaces?: string;
  readonly oomScoreAdj: number;
  /** Seconds that calls which are in workers get to end when the agent stops. */
  readonly drain: number;
  /** Base address of the receiver of spans (OTLP over HTTP); `OTEL_EXPORTER_OTLP_ENDPOINT` says it when absent. */
  readonly otlpEndpoint?: string;
  /** Seconds between two audits of what workers left behind. */
  readonly auditPeriod: number;
}
