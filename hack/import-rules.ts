/** One room of the source: its content, and the rooms beside it that its files may import from. */
export interface Room {
  readonly holds: string;
  readonly imports: readonly string[];
}

/** The rooms of one folder, by name. Files beside the rooms put them together, and may import from all of them. */
export interface RoomTable {
  readonly rooms: Readonly<Record<string, Room>>;
  /** Files beside the rooms that a room may import from all the same; each names the rooms that may. */
  readonly shared?: Readonly<Record<string, readonly string[]>>;
}

const common: RoomTable = {
  rooms: {
    bounds: { holds: 'rates and tables of bounded size', imports: [] },
    exec: { holds: 'running programs, in this process or in one beside it', imports: [] },
    net: { holds: 'addresses, listening, the HTTP server of probes and metrics', imports: [] },
    tracing: { holds: 'spans, trace contexts, and the way of spans to a collector', imports: [] },
  },
  shared: {
    'clock.ts': ['tracing'],
    'deadline.ts': ['exec', 'tracing'],
    'errors.ts': ['exec', 'net', 'tracing'],
    'health.ts': ['net'],
    'host-port.ts': ['net'],
    'logger.ts': ['exec', 'tracing'],
    'tally.ts': ['net'],
  },
};

const kube: RoomTable = {
  rooms: {
    api: { holds: 'types of objects and of the client, paths, errors of the API', imports: [] },
    client: { holds: 'HTTP client, kubeconfig, watch streams, server-side apply', imports: ['api'] },
    cache: { holds: 'list and watch, and the cache that they keep', imports: ['api'] },
    controller: { holds: 'work queue, reconciler, leader election', imports: ['api'] },
    events: { holds: 'Events and their limits', imports: ['api', 'client'] },
  },
};

const cni: RoomTable = {
  rooms: {
    spec: { holds: "libcni's side of CNI 1.1: configuration, results, their cache", imports: [] },
    host: { holds: 'bridges, routes, nftables, network namespaces, host-local', imports: ['spec'] },
    attachments: {
      holds: 'the attachments of a node: pool, index, store, removal',
      imports: ['spec', 'host'],
    },
    gc: { holds: 'audit, orphans, uninstall', imports: ['spec', 'host', 'attachments'] },
  },
};

const runtime: RoomTable = {
  rooms: {
    contract: { holds: '`ContainerRuntime` and the types that it speaks in', imports: [] },
    start: { holds: 'host ports, readiness, errors of a start', imports: ['contract'] },
    images: { holds: 'pulls, credentials, the images of a node', imports: ['contract'] },
    logs: { holds: 'the logs of workers: rotation, reading', imports: ['contract'] },
    lifecycle: {
      holds: 'the lifecycle of workers, one for both backends: order and deadlines',
      imports: ['contract', 'start', 'logs'],
    },
    tmp: { holds: 'the files on disk that are `/tmp` of workers', imports: ['contract', 'images'] },
    containerd: {
      holds: 'the backend over containerd',
      imports: ['contract', 'start', 'images', 'lifecycle', 'tmp'],
    },
    docker: {
      holds: 'the backend over Docker',
      imports: ['contract', 'start', 'images', 'logs', 'lifecycle'],
    },
  },
};

const agent: RoomTable = {
  rooms: {
    model: {
      holds: 'pure: desired worker, goal, plan, idle policy, conditions, adoption, backoff',
      imports: [],
    },
    logs: { holds: 'queries of logs, and the calls in them', imports: [] },
    secrets: { holds: 'Secrets that a namespace grants', imports: ['model'] },
    step: { holds: 'pure: the state of one worker, its events, and what they lead to', imports: ['model'] },
    invoke: { holds: 'clients of init and emulator, in-flight marks, stamps of calls', imports: ['model', 'logs'] },
    sync: { holds: 'resource to desired worker, view to status', imports: ['model'] },
    rpc: { holds: 'gRPC server, its streams and its TLS port', imports: ['model', 'logs'] },
    worker: {
      holds: 'one worker on this node, and all of them',
      imports: ['model', 'logs', 'secrets', 'step', 'invoke'],
    },
    gc: { holds: 'collection of leftovers and images', imports: ['model', 'invoke', 'worker'] },
    node: {
      holds: 'LambdaNode, Lease, health, leaving a node',
      imports: ['model', 'invoke', 'worker'],
    },
  },
};

const controller: RoomTable = {
  rooms: {
    metrics: { holds: 'metrics', imports: [] },
    nodes: { holds: 'liveness of nodes, and their state as LambdaNodes show it', imports: [] },
    scheduling: { holds: 'nodes as they are seen, placement', imports: ['nodes'] },
    certificates: { holds: 'the client authority, certificates of gateways', imports: [] },
    quota: { holds: 'quotas of namespaces', imports: ['scheduling'] },
    workers: {
      holds: 'assignment, moves and deletion of workers',
      imports: ['nodes', 'scheduling', 'metrics', 'quota'],
    },
    load: { holds: 'the calls of gateways, by function and version', imports: ['certificates'] },
    functions: { holds: 'workers and versions of each LambdaFunction', imports: ['load'] },
    reservation: {
      holds: 'Pods that are kept for nodes: guards, reservations, and those that ask for nodes',
      imports: ['nodes', 'scheduling'],
    },
  },
};

const gateway: RoomTable = {
  rooms: {
    lambda: { holds: 'types and errors of the Lambda API, which all rooms speak in', imports: [] },
    access: { holds: 'who a caller is, and what it may', imports: ['lambda'] },
    agents: { holds: 'agents, workers, versions and routes', imports: ['lambda'] },
    admission: { holds: 'limits', imports: ['lambda', 'access', 'agents'] },
    dispatch: {
      holds: 'calls on their way: the workers that a reference names, what is tried again, and the answer',
      imports: ['lambda', 'agents', 'admission'],
    },
    telemetry: { holds: 'metrics, access log, spans', imports: ['access'] },
    events: { holds: 'calls of type Event, kept until they have run', imports: ['lambda', 'agents'] },
    control: {
      holds: 'requests that change functions, and their writes to LambdaFunctions',
      imports: ['lambda', 'agents'],
    },
    http: {
      holds: 'what callers see',
      imports: ['lambda', 'access', 'agents', 'admission', 'dispatch', 'telemetry', 'control'],
    },
    url: {
      holds: 'function URLs: their listener, requests to events, answers to responses, CORS',
      imports: ['lambda', 'access', 'agents', 'admission', 'dispatch', 'telemetry', 'http'],
    },
    load: { holds: 'the way of load to the leading controller', imports: ['admission'] },
    handover: {
      holds: 'events on their way from gateways to the role that keeps them',
      imports: ['lambda', 'agents', 'admission', 'events', 'http'],
    },
  },
};

const cli: RoomTable = {
  rooms: {
    build: { holds: 'the image of a function, from its folder to its registry', imports: [] },
    deploy: { holds: '`init` and `deploy`: a first function, and its LambdaFunction', imports: ['build'] },
    doctor: { holds: 'what keeps an agent from working on a node', imports: [] },
    rollout: { holds: '`rollout`: changes of a function, followed, listed and undone', imports: ['deploy'] },
  },
  shared: {
    'age.ts': ['rollout'],
    'command-context.ts': ['deploy', 'doctor', 'rollout'],
    'invoke.ts': ['deploy'],
    'kube-client.ts': ['deploy', 'rollout'],
    'progress.ts': ['build', 'deploy'],
    'retry.ts': ['build'],
    'table.ts': ['doctor', 'rollout'],
    'wait.ts': ['build', 'deploy', 'rollout'],
  },
};

const shared = ['api', 'common'];

/** The folders of `src/`. */
export const source: RoomTable = {
  rooms: {
    api: {
      holds: 'resource types, generated from `crds/`; conditions, labels, shape hash; the wait for the definitions',
      imports: ['common', 'kube'],
    },
    common: { holds: 'errors, deadlines, clock, task group, gates, logger', imports: [] },
    protocol: {
      holds: 'types of the protocol between gateway and agent, generated from `proto/esb`, and its loader',
      imports: ['common'],
    },
    peers: {
      holds: 'mutual TLS between gateways, agents, controllers and the role of events: names and authorities',
      imports: ['api', 'common'],
    },
    options: {
      holds: 'the flags of each role, declared once: type, default, variable, check and help',
      imports: ['api'],
    },
    kube: {
      holds:
        'Kubernetes client and controller machinery: list and watch, work queue, leader election, Events; free of our resources',
      imports: ['common'],
    },
    containerd: {
      holds: 'one file for each containerd service; errors are converted here',
      imports: ['common'],
    },
    docker: { holds: 'the client of the Docker Engine API', imports: ['common'] },
    oci: {
      holds: 'image references and configuration, layers, the client of registries, the runtime spec, seccomp',
      imports: [...shared, 'init'],
    },
    cni: {
      holds: 'the network of workers: CNI 1.1, bridges, network namespaces, prepared slots, nftables',
      imports: ['common'],
    },
    init: { holds: "the agent's side of the protocol with the init of a worker", imports: ['common'] },
    runtime: {
      holds: '`ContainerRuntime`, over containerd and over Docker',
      imports: [...shared, 'containerd', 'docker', 'oci', 'cni', 'init'],
    },
    agent: {
      holds: 'the workers of one node: plan, calls, adoption, idle policy, status, gRPC server',
      imports: [...shared, 'peers', 'options', 'protocol', 'kube', 'cni', 'init', 'runtime'],
    },
    controller: {
      holds:
        'which worker lives on which node: placement, liveness, drains, hold Pods, finalizers, the client authority',
      imports: [...shared, 'peers', 'options', 'kube'],
    },
    gateway: {
      holds: 'the Lambda API: callers, limits, kept calls, routes to agents',
      imports: [...shared, 'peers', 'options', 'protocol', 'kube'],
    },
    cli: {
      holds:
        'what people run against any cluster, and what Pods run: `init`, `deploy`, `rollout`, `invoke`, `ps`, `logs`, `retire`, `doctor node`, `hold`',
      imports: [...shared, 'protocol', 'kube', 'containerd', 'oci', 'cni', 'runtime', 'agent'],
    },
  },
};

/** The folders of `src/` that have rooms of their own. */
export const foldersWithRooms: Readonly<Record<string, RoomTable>> = {
  common,
  kube,
  cni,
  runtime,
  agent,
  controller,
  gateway,
  cli,
};

/**
 * The folders of `local/`. Each of its files may import from `src/` as well; no file of `src/` imports from `local/`.
 */
export const local: RoomTable = {
  rooms: {
    common: {
      holds: 'folder and files of an instance, its processes and mounts; programs, locks, progress, retries',
      imports: [],
    },
    network: {
      holds: 'nodes beside the first: addresses, network namespaces, relays',
      imports: ['common'],
    },
    tools: { holds: 'third-party programs and Debian packages: found, built, kept', imports: ['common'] },
    image: {
      holds: 'layers and layouts of images, the sample images, made without a container engine',
      imports: ['common', 'tools'],
    },
    supervisor: {
      holds: 'the process that starts the parts of an instance and looks after them',
      imports: ['common', 'network'],
    },
    instance: {
      holds: 'one instance: its parts, state, certificates, sample; what commands know of it',
      imports: ['common', 'network', 'supervisor'],
    },
    commands: {
      holds: '`up`, `down`, `status`, `doctor`',
      imports: ['common', 'network', 'tools', 'image', 'supervisor', 'instance'],
    },
  },
};
