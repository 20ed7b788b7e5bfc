import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureSampleImage } from '../../../local/image/sample-image.ts';
import type { LambdaFunctionSpecUrl } from '../../../src/api/lambda-function.ts';
import { createProgress } from '../../../src/cli/progress.ts';
import { type ConformanceLab, startConformanceLab } from '../../support/conformance-lab.ts';
import { ALICE } from '../../support/keyed-access.ts';
import { streamingRuntime } from '../../support/streaming-runtime.ts';
import { layoutImage, withFiles } from '../../support/test-image.ts';
import { toolsFolder } from '../../support/tools.ts';
import { curlUrl } from '../../support/url-curl.ts';
import { giveUrl, URL_FLAGS, URL_PORT } from '../../support/url-function.ts';
import { waitFor } from '../../support/wait-for.ts';
import { checkWebFunction, webFunctionFiles } from '../../support/web-function.ts';

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

const OPEN: LambdaFunctionSpecUrl = { authType: 'NONE', invokeMode: 'BUFFERED' };

let lab: ConformanceLab;
let port: number;

const curl = (name: string, path: string, args?: readonly string[]) => curlUrl(port, name, path, args);

beforeAll(async () => {
  lab = await startConformanceLab(URL_FLAGS);
  port = await lab.reach(URL_PORT);
  const { registry } = lab.agentLab.lab;
  const progress = createProgress({ write: () => undefined });
  const { layout } = await ensureSampleImage('python-base', { progress, tools: toolsFolder() });
  const web = registry.put('web:1', await withFiles(await layoutImage(layout), await webFunctionFiles()));
  await lab.apply('web', {
    image: web,
    handler: 'handler.handler',
    timeoutSeconds: 30,
    resources: { limits: { memory: '256Mi' }, pids: 100 },
  });
  await lab.apply('streams', { command: ['python3', '-c', STREAMS], args: [], timeoutSeconds: 20 });
  await lab.apply('counter', { timeoutSeconds: 20 });
  await giveUrl(lab.agentLab.api, 'web', { ...OPEN, cors: { allowOrigins: ['https://www.example.com'] } });
  await giveUrl(lab.agentLab.api, 'streams', { ...OPEN, invokeMode: 'RESPONSE_STREAM' });
  await giveUrl(lab.agentLab.api, 'counter', { authType: 'AWS_IAM', invokeMode: 'BUFFERED' });
}, 300_000);

afterAll(() => lab?.close());

describe('a function URL', () => {
  it('is closed to everybody until the namespace has the label', async () => {
    expect(await curl('web', '/items/1')).toMatchObject({ status: 403, body: '{"Message":"Forbidden"}' });
    await lab.agentLab.api.kubectl(['label', 'namespace', 'default', 'esb.dev/public-functions=true']);
    await waitFor('the gateway to see the label', async () => (await curl('web', '/items/1')).status === 200, {
      timeoutMs: 10_000,
      everyMs: 500,
    });
  });

  it('serves a FastAPI application as it is, behind Mangum', () =>
    checkWebFunction((path, args) => curl('web', path, args)));

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
    const got = await curl('streams', '/way');
    expect(got).toMatchObject({ status: 202, body: '/way and more' });
    expect(got.headers).toEqual(expect.arrayContaining(['content-type: text/plain', 'set-cookie: a=b']));
    // The function waits for a second in between. An answer that is held back has both at once; a busy machine delays
    // the first.
    expect(got.seconds.last - got.seconds.first).toBeGreaterThan(0.5);
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
