import { Counter, Gauge, type Registry } from 'prom-client';
import type { SlotCounts } from '../cni/contract.ts';
import type { Refusals } from '../cni/host/nftables.ts';
import type { ImageCollection } from './gc/image-gc.ts';
import type { Fleet } from './model/fleet.ts';
import type { EventLoopDelay } from './node/event-loop.ts';
import type { NodeHealth } from './node/node-health.ts';

const phases = [
  'Pending',
  'Pulling',
  'Creating',
  'Running',
  'Pausing',
  'Paused',
  'Resuming',
  'Terminating',
  'Absent',
  'Failed',
  'Unknown',
] as const;

/** The parts of the agent that metrics are read from, each time that a page is asked for. */
export interface MetricSources {
  readonly fleet: Pick<Fleet, 'views'>;
  readonly health: Pick<NodeHealth, 'conditions'>;
  readonly slots: () => SlotCounts;
  readonly eventLoop: () => EventLoopDelay;
  /** Bytes of payloads and answers. */
  readonly heldBytes: () => number;
  /** Packets that the rules of the node refused workers; undefined without rules. */
  readonly refusals: () => Promise<Refusals | undefined>;
  readonly images: () => ImageCollection;
}

/** Adds the metrics that are read when a page is asked for. */
export function addGauges(registry: Registry, sources: MetricSources): void {
  addFleetGauges(registry, sources);
  addNodeGauges(registry, sources);
  addImageMetrics(registry, sources);
  addRefusals(registry, sources);
}

type Reading = number | readonly (readonly [label: string, value: number])[];

/** Adds a gauge with at most one label. */
export function addGauge(registry: Registry, name: string, help: string, read: () => Reading, label?: string): void {
  new Gauge({
    name,
    help,
    labelNames: label === undefined ? [] : [label],
    registers: [registry],
    collect() {
      const value = read();
      if (typeof value === 'number') {
        this.set(value);
      } else {
        for (const [of, each] of value) {
          this.set({ [label ?? '']: of }, each);
        }
      }
    },
  });
}

function addFleetGauges(registry: Registry, { fleet, heldBytes }: MetricSources): void {
  addGauge(
    registry,
    'esb_agent_workers',
    'Workers of this node by phase.',
    () => {
      const counts = new Map<string, number>(phases.map((phase) => [phase, 0]));
      for (const { phase } of fleet.views()) {
        counts.set(phase, (counts.get(phase) ?? 0) + 1);
      }
      return [...counts];
    },
    'phase',
  );
  addGauge(registry, 'esb_agent_in_flight_calls', 'Calls in workers or waiting for them.', () =>
    fleet.views().reduce((sum, { inFlight }) => sum + inFlight, 0),
  );
  addGauge(
    registry,
    'esb_agent_queued_calls',
    'Calls that wait: for a place in their worker, or for the worker to be ready.',
    () =>
      fleet
        .views()
        .reduce(
          (sum, { inFlight, phase, places = 1 }) => sum + Math.max(0, inFlight - (phase === 'Running' ? places : 0)),
          0,
        ),
  );
  addGauge(
    registry,
    'esb_agent_held_bytes',
    'Bytes of payloads and answers that calls hold, and room kept for payloads that are being read.',
    heldBytes,
  );
}

function addNodeGauges(registry: Registry, { eventLoop, health, slots }: MetricSources): void {
  addGauge(
    registry,
    'esb_agent_network_slots',
    'Network attachments prepared in advance: how many there are, and how many are asked for.',
    () => Object.entries(slots()),
    'state',
  );
  addGauge(
    registry,
    'esb_agent_node_condition',
    'Conditions of this node: 1 for True, 0 for anything else.',
    () => Object.entries(health.conditions()).map(([type, { status }]) => [type, status === 'True' ? 1 : 0]),
    'type',
  );
  addGauge(
    registry,
    'esb_agent_event_loop_delay_seconds',
    'How late the event loop of the agent was since the last page.',
    () => Object.entries(eventLoop()),
    'statistic',
  );
}

function addRefusals(registry: Registry, { refusals }: MetricSources): void {
  new Counter({
    name: 'esb_agent_refused_packets_total',
    help: 'Packets of workers that the rules of the node refused, by where they were to go; source: those with a foreign sender; egress: what spec.network.egress does not let. Starts at zero when the rules are written again.',
    labelNames: ['destination'],
    registers: [registry],
    async collect() {
      // A node without rules has no counters; its condition says why.
      const counts = await refusals().catch(() => undefined);
      if (counts !== undefined) {
        this.reset();
        for (const [destination, packets] of Object.entries(counts)) {
          this.inc({ destination }, packets);
        }
      }
    },
  });
}

function addImageMetrics(registry: Registry, { images }: MetricSources): void {
  const registers = [registry];
  new Gauge({
    name: 'esb_agent_image_disk_used_ratio',
    help: 'Part of the file system of the images that is taken, from 0 to 1; absent where it cannot be seen.',
    registers,
    collect() {
      const { usedPercent } = images();
      this.remove();
      if (usedPercent !== undefined) {
        this.set(usedPercent / 100);
      }
    },
  });
  const total = (name: string, help: string, read: (images: ImageCollection) => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read(images()));
      },
    });
  };
  total('esb_agent_images_removed_total', 'Images removed to make room.', ({ removed }) => removed);
  total('esb_agent_image_bytes_freed_total', 'Bytes freed by that.', ({ freedBytes }) => freedBytes);
  total('esb_agent_image_removals_failed_total', 'Images that could not be removed.', ({ failed }) => failed);
}
