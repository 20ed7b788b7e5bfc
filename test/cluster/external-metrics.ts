import { createServer } from 'node:https';
import { createCertificateAuthority } from '../support/certificate-authority.ts';
import { manifestList } from '../support/worker-manifests.ts';
import type { ClusterLab } from './cluster-lab.ts';
import { labAddress } from './cluster-network.ts';

/** Values of external metrics for horizontal autoscalers, as an adapter of a monitoring system gives them. */
export interface ExternalMetrics {
  /** The value from now on. */
  set(value: number): void;
  /** How often an autoscaler has asked since the start. */
  asked(): number;
  stop(): Promise<void>;
}

const GROUP_VERSION = 'external.metrics.k8s.io/v1beta1';
const service = { namespace: 'default', name: 'external-metrics' };

/** Serves one metric at the address of the lab, and registers the server as an APIService. */
export async function startExternalMetrics(
  { kubectl }: Pick<ClusterLab, 'kubectl'>,
  metricName: string,
): Promise<ExternalMetrics> {
  const authority = await createCertificateAuthority();
  const { certificate, key } = await authority.issueServer([labAddress]);
  const root = `/apis/${GROUP_VERSION}`;
  let value = 0;
  let asked = 0;
  const server = createServer({ cert: certificate, key }, (request, response) => {
    const { pathname } = new URL(request.url ?? '', 'https://metrics.invalid');
    const isQuestion = pathname === `${root}/namespaces/default/${metricName}`;
    asked += isQuestion ? 1 : 0;
    const answer = isQuestion ? valueList(metricName, value) : pathname === root ? RESOURCES : undefined;
    response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer ?? {}));
  });
  const listening = Promise.withResolvers<void>();
  server.once('error', listening.reject);
  server.listen(0, labAddress, () => listening.resolve());
  await listening.promise;
  const address = server.address();
  const objects = manifestList(registration(typeof address === 'object' ? (address?.port ?? 0) : 0));
  const stop = async (): Promise<void> => {
    // First the APIService: while its server is away, no namespace can be deleted.
    await kubectl(['delete', '--ignore-not-found', '-f', '-'], objects);
    server.closeAllConnections();
    server.close();
  };
  try {
    await kubectl(['apply', '-f', '-'], objects);
    await kubectl(['wait', `apiservice/${apiServiceName}`, '--for=condition=Available', '--timeout=60s']);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    set(next) {
      value = next;
    },
    asked: () => asked,
    stop,
  };
}

const RESOURCES = { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: GROUP_VERSION, resources: [] };
const apiServiceName = GROUP_VERSION.split('/').toReversed().join('.');

function valueList(metricName: string, value: number): object {
  return {
    kind: 'ExternalMetricValueList',
    apiVersion: GROUP_VERSION,
    metadata: {},
    items: [{ metricName, metricLabels: {}, timestamp: new Date().toISOString(), value: String(value) }],
  };
}

/** The APIService, and a Service of no Pods that leads to the lab. */
function registration(port: number): readonly object[] {
  const [group, version] = GROUP_VERSION.split('/');
  return [
    {
      apiVersion: 'apiregistration.k8s.io/v1',
      kind: 'APIService',
      metadata: { name: apiServiceName },
      spec: {
        ...{ group, version, service: { ...service, port: 443 } },
        // The server's certificate does not name the Service.
        ...{ insecureSkipTLSVerify: true, groupPriorityMinimum: 100, versionPriority: 100 },
      },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: service,
      spec: { ports: [{ name: 'https', port: 443, targetPort: port }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { ...service, labels: { 'kubernetes.io/service-name': service.name } },
      addressType: 'IPv4',
      ports: [{ name: 'https', port, protocol: 'TCP' }],
      endpoints: [{ addresses: [labAddress], conditions: { ready: true } }],
    },
  ];
}
