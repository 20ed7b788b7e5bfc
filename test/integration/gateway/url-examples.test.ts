import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { functionOfHost } from '../../../src/api/function-url.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { objectsIn, renderChart } from '../../support/chart.ts';
import { gatewayDefinitions } from '../../support/operator-definitions.ts';

const root = join(import.meta.dirname, '../../..');
const example = (name: string): string => join(root, 'examples/function-url', name);
const dryRun = ['apply', '--server-side', '--validate=strict', '--dry-run=server'] as const;
const withUrls = ['--set', 'gateway.functionUrls.enabled=true', '--set', 'gateway.functionUrls.domain=fn.example.com'];

interface Ingress {
  readonly metadata: { readonly namespace: string };
  readonly spec: {
    readonly rules: readonly {
      readonly host: string;
      readonly http: {
        readonly paths: readonly [
          {
            readonly backend: { readonly service: { readonly name: string; readonly port: { readonly name: string } } };
          },
        ];
      };
    }[];
  };
}

interface Route {
  readonly metadata: { readonly namespace: string };
  readonly spec: {
    readonly hostnames: readonly string[];
    readonly rules: readonly { readonly backendRefs: readonly { readonly name: string; readonly port: number }[] }[];
  };
}

interface Service {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: {
    readonly ports: readonly { readonly name: string; readonly port: number; readonly targetPort: string }[];
  };
}

async function serviceOf(name: string, namespace: string): Promise<Service | undefined> {
  const objects = objectsIn(await renderChart(withUrls)) as unknown as readonly Service[];
  return objects.find(
    ({ kind, metadata }) => kind === 'Service' && metadata.name === name && metadata.namespace === namespace,
  );
}

describe('the examples of function URLs', () => {
  let server: ApiServer;

  beforeAll(async () => {
    server = await startApiServer();
    const files = ['crds', 'manifests/namespace.yaml'].map((part) => join(root, part));
    for (const file of [...files, ...(await gatewayDefinitions(['httproutes']))]) {
      await server.kubectl(['apply', '--server-side', '-f', file]);
    }
    await server.kubectl(['wait', '--for=condition=Established', '--all', 'crd']);
  });

  afterAll(() => server?.stop());

  it.each(['function.yaml', 'ingress.yaml', 'httproute.yaml'])('%s is what the API server takes', async (name) => {
    expect(await server.kubectl([...dryRun, '-f', example(name)])).toContain('serverside-applied');
  });

  it.each([
    ['function.yaml', 'authType: NONE', 'authType: OPEN', 'authType'],
    ['ingress.yaml', 'pathType: Prefix', 'pathType: Begin', 'pathType'],
    ['httproute.yaml', 'request: 930s', 'request: long', 'timeouts'],
    ['httproute.yaml', 'backendRefs', 'backends', 'backends'],
  ])('%s is refused with a fault: %s', async (name, right, wrong, told) => {
    const text = await readFile(example(name), 'utf8');
    expect(text).toContain(right);
    await expect(server.kubectl([...dryRun, '-f', '-'], text.replace(right, wrong))).rejects.toThrow(told);
  });

  it('the Ingress leads the hosts of the functions to the port of URLs, and to no other', async () => {
    const ingress = parse(await readFile(example('ingress.yaml'), 'utf8')) as Ingress;
    const [rule] = ingress.spec.rules;
    const { name, port } = rule?.http.paths[0].backend.service ?? { name: '', port: { name: '' } };
    const service = await serviceOf(name, ingress.metadata.namespace);
    expect(service?.spec.ports).toEqual([expect.objectContaining({ name: port.name, targetPort: 'urls' })]);
    expect(functionOfHost(rule?.host.replace('*', 'hello') ?? '', 'default', 'fn.example.com')).toBe('hello');
  });

  it('the HTTPRoute does the same', async () => {
    const route = parse(await readFile(example('httproute.yaml'), 'utf8')) as Route;
    const [backend] = route.spec.rules[0]?.backendRefs ?? [];
    const service = await serviceOf(backend?.name ?? '', route.metadata.namespace);
    expect(service?.spec.ports).toEqual([expect.objectContaining({ port: backend?.port, targetPort: 'urls' })]);
    expect(functionOfHost(route.spec.hostnames[0]?.replace('*', 'hello') ?? '', 'default', 'fn.example.com')).toBe(
      'hello',
    );
  });

  it('a function whose name cannot be a host gets no URL', async () => {
    const text = (await readFile(example('function.yaml'), 'utf8')).replace('name: hello', 'name: hello.world');
    const named = text.replace('spec:\n', 'spec:\n  functionName: hello\n');
    await expect(server.kubectl([...dryRun, '-f', '-'], named)).rejects.toThrow('write a name without dots');
  });

  const withOrigin = async (origin: string): Promise<string> =>
    (await readFile(example('function.yaml'), 'utf8')).replace('https://www.example.com', origin);

  it.each([
    'https://*.example.com',
    'https://Example.com',
    'HTTPS://example.com',
    'https://example.com/',
    'https://example.com:443',
    'http://example.com:80',
    'https://bücher.example',
    'null',
  ])('an origin that no browser sends is refused: %s', async (origin) => {
    await expect(server.kubectl([...dryRun, '-f', '-'], await withOrigin(origin))).rejects.toThrow(
      'an origin is what browsers send',
    );
  });

  it.each([
    '*',
    'http://localhost:3000',
    'https://[2001:db8::1]:8443',
    'https://xn--bcher-kva.example',
    'chrome-extension://abcdefghijklmnop',
  ])('an origin that browsers send is taken: %s', async (origin) => {
    expect(await server.kubectl([...dryRun, '-f', '-'], await withOrigin(origin))).toContain('serverside-applied');
  });

  it('pages of all origins get no cookies along', async () => {
    const text = (await readFile(example('function.yaml'), 'utf8')).replace(
      'allowOrigins: ["https://www.example.com"]',
      'allowOrigins: ["*"]\n      allowCredentials: true',
    );
    await expect(server.kubectl([...dryRun, '-f', '-'], text)).rejects.toThrow('name the origins');
  });
});
