import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCommand } from '../../../local/common/command.ts';
import { ensureSampleImage } from '../../../local/image/sample-image.ts';
import type { LambdaFunctionSpecUrl } from '../../../src/api/lambda-function.ts';
import { createProgress } from '../../../src/cli/progress.ts';
import { type ConformanceLab, startConformanceLab } from '../../support/conformance-lab.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import { ALICE } from '../../support/keyed-access.ts';
import { streamingRuntime } from '../../support/streaming-runtime.ts';
import { layoutImage, withFiles } from '../../support/test-image.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';
import { webFunctionFiles } from '../../support/web-function.ts';

/** A runtime that streams status and headers, then the path of its request and a part a second later. */
const STREAMS = streamingRuntime(
  { 'Content-Type': 'application/vnd.awslambda.http-integration-response' },
  `
head = {"statusCode": 202, "headers": {"Content-Type": "text/plain"}, "cookies": ["a=b"]}
send(json.dumps(head).encode() + bytes(8))
send(event["rawPath"].encode())
time.sleep(1)
send(b" and more")
`,
);

const FLAGS = ['--function-url-domain=fn.example.com', '--function-url-listen=127.0.0.1:9081'];
const OPEN: LambdaFunctionSpecUrl = { authType: 'NONE', invokeMode: 'BUFFERED' };

let lab: ConformanceLab;
let port: number;

/** Status, headers and body as curl, which knows nothing of ESB, shows them. */
async function curl(name: string, path: string, args: readonly string[] = []) {
  const { stdout } = await runCommand('curl', [
    ...['--silent', '--show-error', '--include', '--no-buffer', '--max-time', '60'],
    ...['--connect-to', `::127.0.0.1:${port}`, ...args],
    `http://${name}.default.fn.example.com${path}`,
  ]);
  const [head = '', ...body] = stdout.split('\r\n\r\n');
  const [line = '', ...fields] = head.split('\r\n');
  return {
    status: Number(line.split(' ')[1]),
    headers: fields.map((field) => field.toLowerCase()),
    body: body.join('\r\n\r\n'),
  };
}

async function giveUrl(name: string, url: LambdaFunctionSpecUrl): Promise<void> {
  const { spec } = functionFixture({ name, spec: { url } });
  // No controller runs here: the workers are those of the test.
  const object = {
    apiVersion: 'esb.dev/v1alpha1',
    kind: 'LambdaFunction',
    metadata: { name, namespace: 'default' },
    spec,
  };
  await lab.agentLab.api.kubectl(['apply', '-f', '-'], JSON.stringify(object));
}

beforeAll(async () => {
  lab = await startConformanceLab(FLAGS);
  port = await lab.reach(9081);
  const { registry } = lab.agentLab.lab;
  const progress = createProgress({ write: () => undefined });
  const { layout } = await ensureSampleImage('python-base', { progress, tools: toolsFolder() });
  const web = registry.put('web:1', await withFiles(await layoutImage(layout), await webFunctionFiles()));
  await lab.apply('web', {
    image: web,
    handler: 'app.handler',
    timeoutSeconds: 30,
    resources: { limits: { memory: '256Mi' }, pids: 100 },
  });
  await lab.apply('streams', { command: ['python3', '-c', STREAMS], args: [], timeoutSeconds: 20 });
  await lab.apply('counter', { timeoutSeconds: 20 });
  await giveUrl('web', { ...OPEN, cors: { allowOrigins: ['https://www.example.com'] } });
  await giveUrl('streams', { ...OPEN, invokeMode: 'RESPONSE_STREAM' });
  await giveUrl('counter', { authType: 'AWS_IAM', invokeMode: 'BUFFERED' });
}, 300_000);

afterAll(() => lab?.close());

describe('a function URL', () => {
  it('is closed to everybody until the namespace has the label', async () => {
    expect(await curl('web', '/items/1')).toMatchObject({ status: 403, body: '{"Message":"Forbidden"}' });
    await lab.agentLab.api.kubectl(['label', 'namespace', 'default', 'esb.dev/public-functions=true']);
    await waitFor('the gateway to see the label', async () => (await curl('web', '/items/1')).status === 200, {
      timeoutMs: 60_000,
      everyMs: 500,
    });
  }, 90_000);

  it('serves a FastAPI application as it is', async () => {
    const got = await curl('web', '/items/a%20b?tags=x&tags=y', ['--user-agent', 'curious']);
    expect(JSON.parse(got.body)).toMatchObject({ item: 'a b', tags: 'y', agent: 'curious', client: '127.0.0.1' });
    const made = await curl('web', '/items', ['--json', '{"name":"värde"}', '--cookie', 'two=2']);
    expect(made).toMatchObject({ status: 201, body: '{"made":{"name":"värde"}}' });
    expect(made.headers.filter((field) => field.startsWith('set-cookie')).length).toBe(2);
    expect((await curl('web', '/old')).headers).toContain('location: /items/new');
    expect(await curl('web', '/nothing')).toMatchObject({ status: 404 });
    expect(await curl('web', '/broken')).toMatchObject({ status: 500 });
    expect(await curl('web', '/items/1', ['--head'])).toMatchObject({ status: 405, body: '' });
  });

  it('carries bytes in both directions', async () => {
    const got = await curl('web', '/bytes', [
      '--request',
      'PUT',
      '--header',
      'content-type: application/x-own',
      '--data-binary',
      'abc',
    ]);
    expect(got).toMatchObject({ status: 200, body: 'cba' });
  });

  it('answers a preflight of a page', async () => {
    const got = await curl('web', '/items', [
      ...['--request', 'OPTIONS', '--header', 'origin: https://www.example.com'],
      ...['--header', 'access-control-request-method: POST'],
    ]);
    expect(got.status).toBe(200);
    expect(got.headers).toContain('access-control-allow-origin: https://www.example.com');
  });

  it('wakes a worker that rests', async () => {
    await lab.agentLab.api.kubectl([
      'patch',
      'lambdaworker',
      'web',
      '--type=merge',
      '-p',
      '{"spec":{"desiredState":"Paused"}}',
    ]);
    await lab.agentLab.waitForPhase('web', 'Paused');
    expect(await curl('web', '/items/1')).toMatchObject({ status: 200 });
  });

  it('streams as the function writes', async () => {
    const begun = performance.now();
    const got = await curl('streams', '/way', ['--write-out', ' %{time_starttransfer}']);
    expect(performance.now() - begun).toBeGreaterThan(1_000);
    expect(got.status).toBe(202);
    expect(got.headers).toEqual(expect.arrayContaining(['content-type: text/plain', 'set-cookie: a=b']));
    const [, first = ''] = /^\/way and more ([\d.]+)$/.exec(got.body) ?? [];
    expect(Number(first)).toBeLessThan((performance.now() - begun) / 1_000 - 0.9);
  });

  it('takes what curl has signed with a key whose user may call', async () => {
    const { accessKeyId, secretAccessKey } = ALICE;
    const entry = JSON.stringify({ secretAccessKey, user: 'alice', groups: ['system:masters'] });
    await lab.agentLab.api.kubectl([
      'create',
      'secret',
      'generic',
      'esb-access-keys',
      `--from-literal=${accessKeyId}=${entry}`,
    ]);
    const sign = (secret: string) => ['--aws-sigv4', 'aws:amz:us-east-1:lambda', '--user', `${accessKeyId}:${secret}`];
    // Closed to all where authentication is off.
    expect(await curl('counter', '/', sign(secretAccessKey))).toMatchObject({ status: 403 });
    await lab.restartGateway(['--authentication=on']);
    expect(await curl('counter', '/')).toMatchObject({ status: 403, body: '{"Message":"Forbidden"}' });
    expect(await curl('counter', '/', sign('another-secret-of-forty-characters-01234'))).toMatchObject({ status: 403 });
    const got = await curl('counter', '/?a=b', sign(secretAccessKey));
    expect(got.status).toBe(200);
    expect(JSON.parse(got.body)).toMatchObject({ counter: 1 });
  }, 90_000);
});
