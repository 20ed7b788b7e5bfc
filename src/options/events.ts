import { type OptionsOf, text } from './flag.ts';
import { gatewayFlags } from './gateway.ts';
import { logLevel, otlpEndpoint } from './shared.ts';

/** Flags of `esb events`. */
export const eventsFlags = {
  server: {
    logLevel,
    listen: text('--listen <host:port>', 'where gateways hand over calls of type Event').or(':9444'),
    health: text('--health <host:port>', 'where /healthz, /readyz and /metrics are served').or(':9092'),
    stateDir: text('--state-dir <dir>', 'folder with the events').or('/var/lib/esb-gateway'),
  },
  cluster: gatewayFlags.cluster,
  events: {
    maxEvents: gatewayFlags.events.maxEvents,
    maxBytes: gatewayFlags.events.maxBytes,
    egress: gatewayFlags.events.egress,
    destinations: gatewayFlags.events.destinations,
  },
  observation: { otlpEndpoint, metricsFunctions: gatewayFlags.observation.metricsFunctions },
};

export type EventsConfig = OptionsOf<typeof eventsFlags>;
