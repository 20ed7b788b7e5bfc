import { choice, type OptionsOf, text } from './flag.ts';
import { kubeconfig, logLevel, systemNamespace } from './shared.ts';

/** Flags of `esb controller`. */
export const controllerFlags = {
  server: {
    logLevel,
    health: text('--health <host:port>', 'where /healthz, /readyz and /metrics are served').or(':9091'),
    identity: text('--identity <name>', 'name in the leader election; host name and process id by default'),
  },
  cluster: { kubeconfig, systemNamespace },
  demand: {
    listen: text('--demand-listen <host:port>', 'where the leader takes the demand of gateways').or(':9445'),
    advertise: text(
      '--demand-advertise <host:port>',
      'address of that for gateways, which the Lease has; the first of the machine by default',
    ),
  },
  placement: {
    strategy: choice(
      '--placement <strategy>',
      'which of the nodes that would do gets a worker: the fullest or the emptiest',
      ['pack', 'spread'],
    ).or('pack'),
  },
  urls: {
    domain: text(
      '--function-url-domain <domain>',
      'domain of the URLs of functions, as that of the gateways; their status tells none without it',
    ),
  },
  hold: {
    image: text(
      '--hold-image <image>',
      "this program's image, for the guard and the reservation of each node; no such Pods without it",
    ),
    pullPolicy: choice('--hold-pull-policy <policy>', 'when that image is pulled', [
      'Always',
      'IfNotPresent',
      'Never',
    ]).or('IfNotPresent'),
    priorityClass: text('--hold-priority-class <name>', 'priority class of those Pods'),
    demandClass: text(
      '--demand-priority-class <name>',
      'priority class of Pods that ask autoscalers for nodes where workers find no room; no such Pods without it',
    ),
  },
};

export type ControllerConfig = OptionsOf<typeof controllerFlags>;
