import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { LambdaFunction } from '../../../src/api/lambda-function.ts';
import { createCertificateAuthority } from '../../support/certificate-authority.ts';
import { textOf } from '../../support/documentation.ts';
import { gatewayDefinitions } from '../../support/operator-definitions.ts';
import type { OwnedProcess } from '../../support/owned-process.ts';
import { streamingRuntime } from '../../support/streaming-runtime.ts';
import { waitFor } from '../../support/wait-for.ts';
import { manifestList } from '../../support/worker-manifests.ts';
import { podRange } from '../cluster-network.ts';
import { chartFolder, type EsbCluster, sampleReference, systemNamespace } from '../esb-cluster.ts';
import type { Report } from '../report.ts';
import { traefikProgram } from '../traefik-program.ts';

/** Kinds of the Gateway API that the controller watches. */
export const routeKinds = [
  ...['backendtlspolicies', 'gatewayclasses', 'gateways', 'grpcroutes', 'httproutes', 'referencegrants', 'tlsroutes'],
];

const NAME = 'web';
const DOMAIN = 'fn.example.com';
const HOST = `${NAME}.default.${DOMAIN}`;
/** Of the controller: the one of Ingresses, and that of a Gateway. */
const PORTS = { ingress: 443, gateway: 8443 } as const;
/** Where callers are, and where the controller is. */
const CALLER = 'node-a';
const PROXY = 'node-b';
const CERTIFICATE = 'function-urls-tls';
/** Bytes of a body whose event is just within Lambda's 6 MiB. */
const BODY_BYTES = 6 * 1024 ** 2 - 8 * 1024;
/** Seconds for which a function is silent: more than {@link READ_TIMEOUT}. */
const SILENCE = 5;
/** Seconds after which the controller gives a silent function up where nothing else is said. */
const READ_TIMEOUT = 2;

/** A runtime that tells its request, after a rest before the answer or within. */
const FUNCTION = streamingRuntime(
  { 'Content-Type': 'application/vnd.awslambda.http-integration-response' },
  `
path = event["rawPath"]
if path == "/silent":
    time.sleep(${SILENCE})
send(json.dumps({"statusCode": 200, "headers": {"Content-Type": "text/plain"}}).encode() + bytes(8))
if path == "/parts":
    send(b"first ")
    time.sleep(${SILENCE})
    send(b"second")
else:
    client = event["requestContext"]["http"]["sourceIp"]
    send(f'{event["requestContext"]["domainName"]} {client} {len(event.get("body", ""))}'.encode())
`,
);

/** Function URLs behind an ingress controller, which reads the examples of the how-to. */
export async function ingressScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab, values } = esb;
  const { kubectl } = lab;
  const { address } = lab.node(PROXY);
  const file = (name: string): string => join(lab.folder, name);
  const curl = (port: number, path: string): readonly string[] => [
    ...['--silent', '--show-error', '--no-buffer', '--max-time', '60', '--cacert', file('urls-ca.crt')],
    ...['--resolve', `${HOST}:${port}:${address}`, `https://${HOST}:${port}${path}`],
  ];
  /** Body and status of the answer; 000 for none. The rest of a body that is refused early makes curl fail. */
  const call = async (port: number, path: string, more: readonly string[] = []): Promise<string> => {
    const args = [...curl(port, path), '--write-out', ' %{http_code}', ...more];
    return (await lab.node(CALLER).run('curl', args, { mayFail: true })).stdout;
  };
  const post = async (port: number, bytes: number): Promise<string> => {
    await writeFile(file('urls-body'), Buffer.alloc(bytes, 'a'));
    const body = [
      '--header',
      'content-type: text/plain',
      '--header',
      'expect:',
      '--data-binary',
      `@${file('urls-body')}`,
    ];
    return call(port, '/', body);
  };
  const expectSame = (what: string, got: string, wanted: string): void => {
    if (got !== wanted) {
      throw new Error(`${what}: ${got.slice(0, 500)}, and not ${wanted}`);
    }
  };
  const upgrade = (settings: readonly string[]): Promise<string> =>
    lab.helm([
      ...['upgrade', 'esb', chartFolder, '-n', systemNamespace, ...values, ...settings],
      ...['--wait', '--timeout', '5m'],
    ]);
  let controller: OwnedProcess | undefined;
  const answers = (port: number): Promise<boolean> =>
    waitFor(
      'an answer',
      async () => {
        if (controller?.ended() !== false) {
          throw new Error(`the controller ended: ${controller?.output()}`);
        }
        return (await call(port, '/')).endsWith(' 200');
      },
      { timeoutMs: 60_000, everyMs: 500 },
    );
  /** Holds a way to the function to all that the how-to wishes of a proxy. */
  const passes = async (port: number): Promise<string> => {
    const { address: client } = lab.node(CALLER);
    await answers(port);
    expectSame('client', await call(port, '/', ['--header', 'x-forwarded-for: 192.0.2.7']), `${HOST} ${client} 0 200`);
    expectSame('a full body', await post(port, BODY_BYTES), `${HOST} ${client} ${BODY_BYTES} 200`);
    expectSame('too large a body', (await post(port, BODY_BYTES + 16 * 1024)).slice(-4), ' 413');
    expectSame('a silent function', await call(port, '/silent'), `${HOST} ${client} 0 200`);
    const streamed = await lab.node(CALLER).start(`parts-${port}`, 'curl', curl(port, '/parts'));
    await waitFor('the first part', () => streamed.output().includes('first'));
    expectSame('the first part', streamed.output(), 'first ');
    await waitFor('the second part', () => streamed.ended());
    expectSame('both parts', streamed.output(), 'first second');
    return `${client} by its Host, ${BODY_BYTES} bytes, ${SILENCE} s of silence, two parts`;
  };

  const definitions = await gatewayDefinitions(routeKinds);
  try {
    const isUp = await report.check('an ingress controller is there, and a function has a URL', async () => {
      await kubectl(['label', 'namespace', 'default', 'esb.dev/public-functions=true']);
      await upgrade([
        ...['--set', 'gateway.functionUrls.enabled=true', '--set', `gateway.functionUrls.domain=${DOMAIN}`],
        ...['--set', `gateway.functionUrls.trustedProxies={${address}/32,${podRange}}`],
      ]);
      for (const definition of definitions) {
        await kubectl(['apply', '--server-side', '-f', definition]);
      }
      await kubectl(['wait', '--for=condition=Established', ...definitions.flatMap((path) => ['-f', path])]);
      await kubectl(['apply', '-f', '-'], manifestList(gatewayObjects));
      const authority = await createCertificateAuthority();
      const { certificate, key } = await authority.issueServer([], [`*.default.${DOMAIN}`]);
      await writeFile(file('urls-ca.crt'), authority.certificate);
      await writeFile(file('urls.crt'), certificate);
      await writeFile(file('urls.key'), key);
      for (const namespace of [systemNamespace, 'gateways']) {
        const files = [`--cert=${file('urls.crt')}`, `--key=${file('urls.key')}`];
        await kubectl(['create', 'secret', 'tls', CERTIFICATE, '-n', namespace, ...files]);
      }
      const { metadata, spec, ...kind } = example<LambdaFunction>('function.yaml');
      const worker = { ...spec.template.spec, image: sampleReference, command: ['python3', '-c', FUNCTION], args: [] };
      const url = { ...spec.url, invokeMode: 'RESPONSE_STREAM' };
      const template = { spec: { ...worker, ephemeralStorage: '16Mi' } };
      await kubectl(
        ['apply', '-f', '-'],
        JSON.stringify({ ...kind, metadata: { ...metadata, name: NAME }, spec: { ...spec, url, template } }),
      );
      await kubectl(['wait', `lf/${NAME}`, '--for=condition=Ready', '--timeout=120s']);
      await kubectl(['wait', `lf/${NAME}`, '--for=condition=UrlServed', '--timeout=60s']);
      const kubeconfig = await lab.controlPlane.kubeconfig('traefik', ['system:masters']);
      controller = await lab.node(PROXY).start('traefik', await traefikProgram(), controllerFlags, {
        KUBECONFIG: kubeconfig,
      });
      return await kubectl(['get', 'lf', NAME, '-o', 'jsonpath={.status.url}']);
    });
    if (!isUp) {
      return;
    }
    const ingress = example<{ readonly metadata: object }>('ingress.yaml');
    await report.check('an Ingress without the annotations of the example does not do', async () => {
      const metadata = { ...ingress.metadata, annotations: {} };
      await kubectl(['apply', '-f', '-'], JSON.stringify({ ...ingress, metadata }));
      await answers(PORTS.ingress);
      const large = (await post(PORTS.ingress, BODY_BYTES)).slice(-3);
      const silent = (await call(PORTS.ingress, '/silent')).slice(-3);
      expectSame('a full body and a silent function', `${large} ${silent}`, '413 504');
      return `a full body ${large}, a silent function ${silent}`;
    });
    await report.check('the Ingress of the example leads to functions', async () => {
      await kubectl(['apply', '-f', '-'], JSON.stringify(ingress));
      await waitFor('the annotations to count', async () => (await post(PORTS.ingress, BODY_BYTES)).endsWith(' 200'), {
        timeoutMs: 60_000,
        everyMs: 500,
      });
      return passes(PORTS.ingress);
    });
    await report.check('the HTTPRoute of the example leads to functions', async () => {
      await kubectl(['apply', '-f', '-'], JSON.stringify(example('httproute.yaml')));
      return passes(PORTS.gateway);
    });
  } finally {
    await controller?.kill();
    const gone = ['--ignore-not-found', '--timeout=120s'];
    await kubectl(['delete', 'secret', CERTIFICATE, '-n', systemNamespace, ...gone]);
    await kubectl(['delete', 'ingress', 'esb-function-urls', '-n', systemNamespace, ...gone]);
    await kubectl(['delete', 'lf', NAME, ...gone]);
    await kubectl(['delete', 'namespace', 'gateways', ...gone]);
    await kubectl(['delete', ...gone, ...definitions.flatMap((path) => ['-f', path])]);
    await kubectl(['label', 'namespace', 'default', 'esb.dev/public-functions-']);
    await upgrade([]);
  }
}

const controllerFlags = [
  '--log.level=INFO',
  '--global.checknewversion=false',
  '--entrypoints.plain.address=:8080',
  `--entrypoints.ingress.address=:${PORTS.ingress}`,
  `--entrypoints.gateway.address=:${PORTS.gateway}`,
  '--providers.kubernetesgateway=true',
  '--providers.kubernetesingressnginx=true',
  '--providers.kubernetesingressnginx.watchingresswithoutclass=true',
  '--providers.kubernetesingressnginx.httpentrypoint=plain',
  '--providers.kubernetesingressnginx.httpsentrypoint=ingress',
  // As ingress-nginx has them by default.
  '--providers.kubernetesingressnginx.proxyrequestbuffering=true',
  '--providers.kubernetesingressnginx.proxybuffering=true',
  `--providers.kubernetesingressnginx.proxyreadtimeout=${READ_TIMEOUT}`,
];

const gatewayGroup = 'gateway.networking.k8s.io/v1';

/** The Gateway that the HTTPRoute names, as an operator of the controller has it. */
const gatewayObjects = [
  { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'gateways' } },
  {
    apiVersion: gatewayGroup,
    kind: 'GatewayClass',
    metadata: { name: 'traefik' },
    spec: { controllerName: 'traefik.io/gateway-controller' },
  },
  {
    apiVersion: gatewayGroup,
    kind: 'Gateway',
    metadata: { name: 'public', namespace: 'gateways' },
    spec: {
      gatewayClassName: 'traefik',
      listeners: [
        {
          name: 'urls',
          protocol: 'HTTPS',
          port: PORTS.gateway,
          hostname: `*.default.${DOMAIN}`,
          tls: { mode: 'Terminate', certificateRefs: [{ name: CERTIFICATE }] },
          allowedRoutes: { namespaces: { from: 'All' } },
        },
      ],
    },
  },
];

function example<T>(name: string): T {
  return parse(textOf(`examples/function-url/${name}`)) as T;
}
