import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ensureSampleImage } from '../../../../local/image/sample-image.ts';
import type { LambdaWorkerSpec } from '../../../../src/api/lambda-worker.ts';
import { createProgress } from '../../../../src/cli/progress.ts';
import { type ConformanceLab, parsed, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered } from '../../../support/lambda-caller.ts';
import { patience } from '../../../support/patience.ts';
import { layoutImage, type TestImage, type TestImageFile, withFiles } from '../../../support/test-image.ts';
import { toolsFolder } from '../../../support/tools.ts';
import { waitFor } from '../../../support/wait-for.ts';

/** A runtime that tries to register names as extensions within its process, and answers with what it was told. */
const INTERNAL = `
import http.client, json, os, threading
API = os.environ["AWS_LAMBDA_RUNTIME_API"]
told = []
def ask(method, path, headers={}, body=None):
    connection = http.client.HTTPConnection(API)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer, answer.read()
def register(name, events):
    answer, body = ask("POST", "/2020-01-01/extension/register", {"Lambda-Extension-Name": name}, json.dumps({"events": events}))
    told.append(json.loads(body).get("errorType", answer.status))
    return answer.headers["Lambda-Extension-Identifier"]
def listen(identifier):
    while True:
        _, event = ask("GET", "/2020-01-01/extension/event/next", {"Lambda-Extension-Identifier": identifier})
        print("inside:", json.loads(event)["eventType"], flush=True)
register("wrong", ["INVOKE", "SHUTDOWN"])
for number in range(11):
    identifier = register(f"inside-{number}", ["INVOKE"])
    if identifier is not None:
        threading.Thread(target=listen, args=[identifier], daemon=True).start()
while True:
    call, _ = ask("GET", "/2018-06-01/runtime/invocation/next")
    register("late", ["INVOKE"])
    ask("POST", f"/2018-06-01/runtime/invocation/{call.headers['Lambda-Runtime-Aws-Request-Id']}/response", {}, json.dumps(told))
`;

describe('a worker with extensions', () => {
  let lab: ConformanceLab;
  let sample: TestImage;
  let program: string;
  let image: string;

  const put = async (name: string, files: readonly TestImageFile[]): Promise<string> =>
    lab.agentLab.lab.registry.put(`${name}:1`, await withFiles(sample, files));
  const at = (name: string, mode = 0o755, content = program): TestImageFile => ({
    path: `/opt/extensions/${name}`,
    content,
    mode,
  });

  beforeAll(async () => {
    program = await readFile(fileURLToPath(new URL('../../init/fixtures/extension.py', import.meta.url)), 'utf8');
    lab = await startConformanceLab();
    const progress = createProgress({ write: () => undefined });
    sample = await layoutImage((await ensureSampleImage('python-counter', { progress, tools: toolsFolder() })).layout);
    image = await put('alpha', [at('alpha')]);
  });
  afterAll(() => lab?.close());

  const spec = (wishes: unknown, more: Partial<LambdaWorkerSpec> = {}): Partial<LambdaWorkerSpec> => ({
    image,
    runtimeInterface: 'Lambda',
    env: [{ name: 'EXTENSIONS', value: JSON.stringify({ alpha: wishes }) }],
    ...more,
  });
  const apply = async (name: string, ...[wishes, more]: Parameters<typeof spec>): Promise<string> => {
    const worker = await lab.apply(name, spec(wishes, more));
    onTestFinished(() => lab.agentLab.remove(name));
    return worker.status?.containerID ?? '';
  };
  const call = async (name: string, event: unknown = {}) => {
    const begun = performance.now();
    const result = answered(
      await lab.callers.javaScript.call('Invoke', { FunctionName: name, Payload: JSON.stringify(event) }),
    );
    return {
      payload: parsed(result.output.Payload),
      functionError: result.output.FunctionError,
      requestId: result.requestId,
      seconds: (performance.now() - begun) / 1_000,
    };
  };
  const logOf = (containerId: string): string => join(lab.agentLab.stateDir, 'logs', `${containerId}.log`);

  it('has them started before the runtime, and told of each call; of the end, and of no pause', async () => {
    const containerId = await apply('heard', {}, { idlePolicy: { pauseAfterSeconds: 1 }, desiredState: 'Paused' });
    const first = await call('heard');
    expect(first.payload).toMatchObject({ counter: 1 });
    await lab.agentLab.waitForPhase('heard', 'Paused');
    const second = await call('heard');
    expect(second.payload).toMatchObject({ counter: 2 });
    const before = await lab.logged('heard', `ends INVOKE`);
    expect(before).not.toContain('SHUTDOWN ');
    const kept = await open(logOf(containerId));
    onTestFinished(() => kept.close());
    await lab.agentLab.patch('heard', { spec: { desiredState: 'Absent' } });
    await lab.agentLab.waitForPhase('heard', 'Absent');
    const lines = (await kept.readFile('utf8')).split('\n').filter((line) => /^(alpha|EXTENSION|START)/.test(line));
    const ofCall = ({ requestId }: typeof first) => [
      `START RequestId: ${requestId} Version: $LATEST`,
      `alpha: INVOKE ${requestId}`,
      'alpha: ends INVOKE',
    ];
    expect(lines).toEqual([
      'alpha: starts',
      'alpha: registered',
      'EXTENSION\tName: alpha\tState: Ready\tEvents: [INVOKE,SHUTDOWN]',
      ...ofCall(first),
      ...ofCall(second),
      'alpha: SHUTDOWN spindown',
      'alpha: ends SHUTDOWN',
    ]);
  });

  it('is answered while an extension still works, and frozen once it waits', async () => {
    const wishes = { INVOKE: { sleep: 4 * patience() } };
    const containerId = await apply('slow', wishes, { idlePolicy: { pauseAfterSeconds: 1 }, desiredState: 'Paused' });
    const { seconds } = await call('slow');
    expect(seconds).toBeLessThan(3 * patience());
    await waitFor('the freeze', async () => (await lab.agentLab.taskState(containerId)) === 'PAUSED');
    expect(await readFile(logOf(containerId), 'utf8')).toContain('ends INVOKE');
  });

  it.each([
    ['ends', { exit: 2 }, 'Extension.Crash', 'exit status 2'],
    ['leaves', { exit: 0 }, 'Extension.Crash', 'exit code 0'],
    ['reports an error', { exitError: 6 }, 'Extension.ExitError', 'exit status 6'],
  ])('fails a call in which one %s, and takes the next', async (what, wish, errorType, why) => {
    const name = `one-${what.replaceAll(' ', '-')}`;
    const containerId = await apply(name, { INVOKE: wish });
    const failed = await call(name, { sleep: 20 });
    expect(failed.functionError).toBe('Unhandled');
    expect(failed.payload).toEqual({ errorType, errorMessage: `RequestId: ${failed.requestId} Error: ${why}` });
    expect((await call(name)).payload).toMatchObject({ counter: 1 });
    expect((await lab.agentLab.worker(name)).status).toMatchObject({ containerID: containerId, restartCount: 0 });
  });

  it.each([
    [
      'ends before it registers',
      { register: 4 },
      undefined,
      'Extension.Crash',
      'exit status 4',
      '; its last output: EXTENSION\tName: alpha\tState: Exited',
    ],
    ['reports an error', { initError: 5 }, undefined, 'Extension.InitError', 'exit status 5', ''],
    [
      'never registers',
      { register: 'never' },
      undefined,
      'Sandbox.Timedout',
      'Task timed out after 3.00 seconds: extension alpha has not asked for an event',
      '',
    ],
    [
      'is no program',
      {},
      () => put('no-program', [at('alpha', 0o644)]),
      'Extension.LaunchError',
      'fork/exec /opt/extensions/alpha: permission denied',
      '',
    ],
    [
      'is one too many',
      {},
      () =>
        put(
          'many',
          Array.from({ length: 11 }, (_, index) => at(`each-${index + 10}`)),
        ),
      'Extension.LaunchError',
      'Extension limit (10) reached',
      '',
    ],
  ])('does not start where one %s, and says so', async (what, wishes, from, errorType, why, more) => {
    const name = `init-${what.replaceAll(' ', '-')}`;
    const words = `${errorType}: ${why}${more}`;
    const own = await from?.();
    await lab.agentLab.apply(name, spec(wishes, { startup: { timeoutSeconds: 3 }, ...(own && { image: own }) }));
    onTestFinished(() => lab.agentLab.remove(name));
    await lab.agentLab.waitForWorker(name, 'to tell of it', ({ status }) =>
      (status?.conditions ?? []).some(({ reason, message }) => reason === 'InitFailed' && message.includes(words)),
    );
    await lab.known(name);
    const { functionError, payload, requestId } = await call(name);
    expect(functionError).toBe('Unhandled');
    expect(payload).toEqual({ errorType, errorMessage: `RequestId: ${requestId} Error: ${why}` });
  });

  it('gives those that do not end two seconds before the next start, whatever grace the worker has', async () => {
    const wishes = { SHUTDOWN: { sleep: 600 } };
    const containerId = await apply('deaf', wishes, { timeoutSeconds: 1, terminationGracePeriodSeconds: 60 });
    expect((await call('deaf', { sleep: 600 })).payload).toMatchObject({ errorType: 'Sandbox.Timedout' });
    const { payload, seconds } = await call('deaf');
    expect(payload).toMatchObject({ counter: 1 });
    expect(seconds).toBeGreaterThan(1.5);
    expect(seconds).toBeLessThan(20);
    expect(await readFile(logOf(containerId), 'utf8')).toContain('alpha: SHUTDOWN timeout');
    await lab.agentLab.patch('deaf', { spec: { terminationGracePeriodSeconds: 1 } });
  });

  it('tells them of what they registered for, and of nothing else', async () => {
    await apply('quiet', { events: ['SHUTDOWN'] }, { timeoutSeconds: 1 });
    expect((await call('quiet')).payload).toMatchObject({ counter: 1 });
    expect((await call('quiet', { sleep: 600 })).payload).toMatchObject({ errorType: 'Sandbox.Timedout' });
    expect((await call('quiet')).payload).toMatchObject({ counter: 1 });
    const log = await lab.logged('quiet', 'alpha: ends SHUTDOWN');
    expect(log).toContain('alpha: SHUTDOWN timeout');
    expect(log).not.toContain('INVOKE');
  });

  it('answers those that ask for telemetry as the emulator of AWS does, and they go on', async () => {
    await apply('telemetry', { telemetry: true });
    expect((await call('telemetry')).payload).toMatchObject({ counter: 1 });
    const log = await lab.logged('telemetry', 'ends INVOKE');
    for (const [path, kind] of [
      ['/2022-07-01/telemetry', 'Telemetry'],
      ['/2020-08-15/logs', 'Logs'],
    ]) {
      const [, body] = new RegExp(`alpha: ${path} 202 (.*)`).exec(log) ?? [];
      expect(JSON.parse(body ?? '')).toEqual({
        errorType: `${kind}.NotSupported`,
        errorMessage: `${kind} API is not supported`,
      });
    }
  });

  it('may have some within the process of its runtime, which hear of calls', async () => {
    await lab.apply('inside', { runtimeInterface: 'Lambda', command: ['python3', '-c', INTERNAL], args: [] });
    onTestFinished(() => lab.agentLab.remove('inside'));
    expect((await call('inside')).payload).toEqual([
      'Extension.InvalidEventType',
      ...Array.from({ length: 10 }, () => 200),
      'Extension.TooManyExtensions',
      'Extension.RegistrationClosed',
    ]);
    const log = await waitFor('each to hear of the call', async () => {
      const text = await lab.logged('inside', 'inside: INVOKE');
      return text.split('inside: INVOKE').length === 11 && text;
    });
    expect(log).toContain('EXTENSION\tName: inside-9\tState: Ready\tEvents: [INVOKE]\n');
  });
});
