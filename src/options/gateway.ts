import { ACCESS_KEYS_SECRET } from '../api/name.ts';
import { bytes, choice, list, type OptionsOf, text, toggle, wholeNumber } from './flag.ts';
import { kubeconfig, logLevel, otlpEndpoint, systemNamespace } from './shared.ts';

/** Flags of `esb gateway`. */
export const gatewayFlags = {
  server: {
    logLevel,
    listen: text('--listen <host:port>', 'where the Lambda API is served').or('127.0.0.1:9080'),
    health: text('--health <host:port>', 'where /healthz, /readyz and /metrics are served').or(':9092'),
    stateDir: text('--state-dir <dir>', 'folder for what must outlive a restart').or('/var/lib/esb-gateway'),
  },
  cluster: {
    kubeconfig,
    systemNamespace,
    namespace: text('--namespace <name>', 'namespace whose functions are served').or('default'),
  },
  callers: {
    authentication: choice('--authentication <on|off>', 'whether callers have to prove who they are', ['on', 'off']).or(
      'on',
    ),
    accessKeys: text('--access-keys <name>', 'Secret with the access keys, in the namespace; empty for none').or(
      ACCESS_KEYS_SECRET,
    ),
    hosts: list(
      '--host <name>',
      'name by which callers reach the Lambda API, for which requests may be signed; may be repeated. localhost and addresses always are',
    ),
    tokenAudience: list(
      '--token-audience <name>',
      'audience that bearer tokens have to be for, in place of esb-gateway.NAMESPACE and esb-gateway; may be repeated',
    ),
    cacheSeconds: wholeNumber(
      '--access-cache <seconds>',
      'how long an answer of the API server about a caller is good for',
      1,
    ).or(60),
    graceSeconds: wholeNumber(
      '--access-grace <seconds>',
      'how much longer the last answer does while the API server is away',
      0,
    ).or(3600),
    strangerRate: wholeNumber(
      '--stranger-rate <n>',
      'questions a second to the API server about callers of one address who are not known; 0 for no limit',
      0,
    ).or(100),
  },
  control: {
    api: toggle('--control-api', 'callers may create, change and delete functions where Kubernetes lets them'),
  },
  tls: {
    cert: text('--tls-cert <file>', 'certificate of the Lambda API; without it the API is served without TLS'),
    key: text('--tls-key <file>', 'key of that certificate'),
    clientCa: text('--client-ca <file>', 'authorities whose clients are known by their certificate'),
  },
  limits: {
    maxRequests: wholeNumber('--max-requests <n>', 'requests under way before further ones are refused', 1).or(8192),
    maxHeld: bytes('--max-held <bytes>', 'bytes of bodies and answers held before that').or(512 * 2 ** 20, '512Mi'),
    maxConnections: wholeNumber('--max-connections <n>', 'connections before further ones are closed', 1).or(16384),
    maxConnectionsPerAddress: wholeNumber(
      '--max-connections-per-address <n>',
      'connections of one address before further ones are closed; half of all by default',
      1,
    ),
    maxLoopDelay: wholeNumber(
      '--max-loop-delay <ms>',
      'how late the program may be before requests are refused',
      10,
    ).or(3000),
    maxHeap: wholeNumber('--max-heap <percent>', 'how full the heap may be before requests are refused', 1, 100).or(85),
    maxQueueWait: wholeNumber(
      '--max-queue-wait <seconds>',
      'how long a call waits until its function has a place for it',
      0,
    ).or(300),
    callerRate: wholeNumber(
      '--caller-rate <n>',
      'requests a second of each caller, or of each address without authentication; 0 for no limit',
      0,
    ).or(0),
    callerBurst: wholeNumber(
      '--caller-burst <n>',
      "requests that a caller may make at once after a rest; a second's worth by default",
      1,
    ),
  },
  events: {
    store: choice(
      '--event-store <kind>',
      'where calls of type Event are kept: a file in the state folder, or a database that gateways share',
      ['sqlite', 'postgres'],
    ).or('sqlite'),
    address: text(
      '--events-address <host:port>',
      'role that keeps calls of type Event (`esb events`), in place of this gateway',
    ),
    databaseFile: text(
      '--event-database-file <file>',
      'file with the connection string of that database; else it is in ESB_EVENT_DATABASE',
    ),
    maxEvents: wholeNumber(
      '--max-events <n>',
      'events kept before further ones are refused; a function has at most what stays free',
      1,
    ).or(100_000),
    maxBytes: bytes('--max-event-bytes <bytes>', 'bytes of their payloads before that').or(2 ** 30, '1Gi'),
    egress: choice(
      '--event-egress <class>',
      'egress class of records from functions whose spec.network.egress is absent: the --egress of the agents',
      ['All', 'Internet', 'Cluster', 'None'],
    ).or('All'),
    destinations: list(
      '--event-destination <host|cidr>',
      'where records of events may be posted: a host, *.domain, address or range; may be repeated. Without it anywhere; loopback, link-local, metadata and own addresses only where a range names them',
    ),
  },
  urls: {
    domain: text(
      '--function-url-domain <domain>',
      'domain of the URLs of functions, NAME.NAMESPACE.DOMAIN; without it no function is called by URL',
    ),
    listen: text('--function-url-listen <host:port>', 'where these URLs are served').or('127.0.0.1:9081'),
    rate: wholeNumber('--function-url-rate <n>', 'requests a second of each address to URLs; 0 for no limit', 0).or(
      100,
    ),
    burst: wholeNumber(
      '--function-url-burst <n>',
      "requests that an address may make at once after a rest; a second's worth by default",
      1,
    ),
    proxies: list(
      '--function-url-proxy <cidr>',
      'addresses of proxies in front of URLs, whose X-Forwarded-For names the client; may be repeated',
    ),
  },
  observation: {
    timingHeaders: toggle('--no-timing-headers', 'answers do not tell what a call found and how long it took where'),
    accessLog: toggle('--access-log', 'log a line for each request'),
    otlpEndpoint,
    metricsFunctions: wholeNumber(
      '--metrics-functions <n>',
      'most functions with metrics of their own; the others share theirs',
      0,
    ).or(100),
  },
};

export type GatewayConfig = OptionsOf<typeof gatewayFlags>;
