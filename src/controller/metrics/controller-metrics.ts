import { Counter, Gauge, type Registry } from 'prom-client';

/** Counters of the controller's decisions. */
export interface ControllerMetrics {
  written(cause: WriteCause): void;
  released(): void;
  signed(): void;
  leader(isLeader: boolean): void;
  loadStreams(count: number): void;
  loadDropped(): void;
}

const causes = ['assigned', 'moved', 'refused', 'unassigned', 'lost', 'told', 'shared'] as const;

/** The reason for a write to a worker; each has its Event and its metric. */
export type WriteCause = (typeof causes)[number];

/** The values of the gauges: one phase for each worker, one liveness for each node. */
export interface FleetSource {
  readonly phases: () => readonly string[];
  readonly livenesses: () => readonly string[];
}

/** Registers the controller's metrics, each label set at zero from the start. */
export function registerControllerMetrics(registry: Registry, fleet: FleetSource): ControllerMetrics {
  const registers = [registry];
  const writes = new Counter({
    name: 'esb_controller_status_writes_total',
    help: 'Writes to the status of workers, by cause.',
    labelNames: ['cause'],
    registers,
  });
  for (const cause of causes) {
    writes.inc({ cause }, 0);
  }
  const releases = new Counter({
    name: 'esb_controller_finalizers_removed_total',
    help: 'Workers whose deletion was let through.',
    registers,
  });
  const signatures = new Counter({
    name: 'esb_controller_certificate_requests_total',
    help: 'Certificate requests that were settled.',
    registers,
  });
  const leader = new Gauge({
    name: 'esb_controller_leader',
    help: 'Whether this controller is the leader.',
    registers,
  });
  leader.set(0);
  const streams = new Gauge({
    name: 'esb_controller_demand_streams',
    help: 'Streams by which gateways tell the leader of their calls.',
    registers,
  });
  const dropped = new Counter({
    name: 'esb_controller_demand_dropped_total',
    help: 'Connections and streams of gateways that the leader refused for their number.',
    registers,
  });
  const gauge = (name: string, help: string, label: string, values: () => readonly string[]): void => {
    // Registers itself.
    void new Gauge({
      name,
      help,
      labelNames: [label],
      registers,
      collect() {
        this.reset();
        for (const [value, all] of Map.groupBy(values(), (one) => one)) {
          this.set({ [label]: value }, all.length);
        }
      },
    });
  };
  gauge('esb_workers', 'LambdaWorkers, by phase.', 'phase', fleet.phases);
  gauge('esb_nodes', 'LambdaNodes, by what their Leases say.', 'liveness', fleet.livenesses);
  return {
    written: (cause) => writes.inc({ cause }),
    released: () => releases.inc(),
    signed: () => signatures.inc(),
    leader: (isLeader) => leader.set(isLeader ? 1 : 0),
    loadStreams: (count) => streams.set(count),
    loadDropped: () => dropped.inc(),
  };
}
