import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ensureSampleImage } from '../../../../local/image/sample-image.ts';
import type { LambdaWorkerSpec } from '../../../../src/api/lambda-worker.ts';
import { createProgress } from '../../../../src/cli/progress.ts';
import { type ConformanceLab, parsed, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered } from '../../../support/lambda-caller.ts';
import { patience } from '../../../support/patience.ts';
import { layoutImage, withFiles } from '../../../support/test-image.ts';
import { toolsFolder } from '../../../support/tools.ts';

/** A runtime that writes its event to its log, and answers with nothing or with the `half` of an answer. */
const RUNTIME = `
import http.client, json, os
api = os.environ["AWS_LAMBDA_RUNTIME_API"]
waiting = http.client.HTTPConnection(api)
while True:
    waiting.request("GET", "/2018-06-01/runtime/invocation/next")
    got = waiting.getresponse()
    text = got.read()
    print(text.decode(), flush=True)
    event = json.loads(text)
    answer = http.client.HTTPConnection(api)
    answer.putrequest("POST", f"/2018-06-01/runtime/invocation/{got.headers['Lambda-Runtime-Aws-Request-Id']}/response")
    answer.putheader("Content-Length", "100" if "half" in event else "0")
    answer.endheaders()
    if "half" in event:
        answer.send(b"half")
    if "exit" in event:
        os._exit(event["exit"])
    if "half" in event:
        answer.close()
    else:
        answer.getresponse().read()
`;

interface Ends {
  readonly InvokeComplete?: Readonly<Record<string, string>>;
}

describe('with the interface Lambda', () => {
  let lab: ConformanceLab;
  let image: string;

  beforeAll(async () => {
    lab = await startConformanceLab();
    const progress = createProgress({ write: () => undefined });
    const { layout } = await ensureSampleImage('python-counter', { progress, tools: toolsFolder() });
    const wrong = { path: '/var/task/wrong.py', content: 'def handler(event, context)\n' };
    const raises = { path: '/var/task/raises.py', content: 'raise ValueError("out of cheese")\n' };
    image = lab.agentLab.lab.registry.put('ends:1', await withFiles(await layoutImage(layout), [wrong, raises]));
    const runtimeInterface = 'Lambda' as const;
    const resources = { limits: { memory: '128Mi' }, pids: 256 };
    await lab.apply('ends', { image, runtimeInterface, timeoutSeconds: 2 * patience(), resources });
    await lab.apply('eats', { image, runtimeInterface, timeoutSeconds: 60, resources });
    await lab.apply('raw', { image, runtimeInterface, command: ['python3', '-c', RUNTIME], args: [] });
  });
  afterAll(() => lab?.close());

  const call = async (name: string, event: unknown = {}) => {
    const outcome = await lab.callers.javaScript.call('Invoke', { FunctionName: name, Payload: JSON.stringify(event) });
    const { output, requestId, headers } = answered(outcome);
    // An SDK has null for a payload of nothing.
    return {
      payload: String(output.Payload).replace(/^null$/, ''),
      functionError: output.FunctionError,
      requestId,
      headers,
    };
  };

  it.each([
    ['takes too long', 'ends', { sleep: 600 }, 'Sandbox.Timedout', `Task timed out after ${2 * patience()}.00 seconds`],
    ['ends its process', 'ends', { exit: 3 }, 'Runtime.ExitError', 'Runtime exited with error: exit status 3'],
    ['ends in good order', 'ends', { exit: 0 }, 'Runtime.ExitError', 'Runtime exited without providing a reason'],
    [
      'takes too much memory',
      'eats',
      { allocate: 512 },
      'Runtime.ExitError',
      'Runtime exited with error: signal: killed',
    ],
    [
      'ends its process in its answer',
      'raw',
      { half: true, exit: 4 },
      'Runtime.ExitError',
      'Runtime exited with error: exit status 4',
    ],
    ['breaks its answer off', 'raw', { half: true }, 'Runtime.TruncatedResponse', 'the runtime broke its answer off'],
  ])('a function that %s has the error of Lambda, and the next call', async (_, name, event, errorType, why) => {
    const { functionError, payload, requestId } = await call(name, event);
    expect(functionError).toBe('Unhandled');
    expect(parsed(payload)).toEqual({ errorType, errorMessage: `RequestId: ${requestId} Error: ${why}` });
    expect((await call(name)).functionError).toBeUndefined();
    expect((await lab.agentLab.worker(name)).status?.restartCount).toBe(0);
  });

  it('an answer of nothing is one', async () => {
    const { functionError, headers, payload } = await call('raw');
    expect({ functionError, payload }).toEqual({ functionError: undefined, payload: '' });
    expect(headers['content-length']).toBe('0');
  });

  /** The answer of an SDK to a call of a function that cannot be initialized, and the end of its stream. */
  const failed = async (which: 'javaScript' | 'boto3', FunctionName: string) => {
    const caller = lab.callers[which];
    const { headers, httpStatus, output, requestId } = answered(await caller.call('Invoke', { FunctionName }));
    expect([httpStatus, output.FunctionError, headers['x-esb-start']]).toEqual([200, 'Unhandled', undefined]);
    const streamed = answered(await caller.call('InvokeWithResponseStream', { FunctionName }));
    const [{ InvokeComplete: end } = {}, ...more] = streamed.output.EventStream as readonly Ends[];
    expect([end?.ErrorCode, more]).toEqual(['Unhandled', []]);
    const told = (payload: unknown, id: string | undefined): Record<string, unknown> =>
      parsed(String(payload).replaceAll(id ?? '', 'REQUEST'));
    const error = told(output.Payload, requestId);
    expect(told(end?.ErrorDetails, streamed.requestId)).toEqual(error);
    return error;
  };

  const python = (code: string): Partial<LambdaWorkerSpec> => ({ command: ['python3', '-c', code], args: [] });

  const own = (why: string): string => `RequestId: REQUEST Error: ${why}`;

  it.each([
    ['module', { args: ['nowhere.handler'] }, 'Runtime.ImportModuleError', "Unable to import module 'nowhere'", 1],
    [
      'handler',
      { args: ['lambda_function.nobody'] },
      'Runtime.HandlerNotFound',
      "Handler 'nobody' missing on module",
      1,
    ],
    ['syntax', { args: ['wrong.handler'] }, 'Runtime.UserCodeSyntaxError', "Syntax error in module 'wrong'", 1],
    ['import', { args: ['raises.handler'] }, 'ValueError', 'out of cheese', 1],
    [
      'program',
      { command: ['/no/such'] },
      'Runtime.InvalidEntrypoint',
      'fork/exec /no/such: no such file or directory',
      1,
    ],
    ['status', python('exit(7)'), 'Runtime.ExitError', 'Runtime exited with error: exit status 7', 7],
    ['reason', python('exit(0)'), 'Runtime.ExitError', 'Runtime exited without providing a reason', 0],
    ['memory', python('bytearray(512 << 20)'), 'Runtime.ExitError', 'Runtime exited with error: signal: killed', 137],
    ['time', python('import time; time.sleep(600)'), 'Sandbox.Timedout', 'Task timed out after 4.00 seconds', 1],
  ])('a start without its %s is told in the words of Lambda', async (what, spec, errorType, why, exitCode) => {
    const name = `start-${what}`;
    const words = `${errorType}: ${why}`;
    await lab.agentLab.apply(name, {
      image,
      runtimeInterface: 'Lambda',
      startup: { timeoutSeconds: 4 },
      resources: { limits: { memory: '128Mi' }, pids: 256 },
      ...spec,
    });
    onTestFinished(() => lab.agentLab.remove(name));
    await lab.known(name);
    // The first one waits for the start.
    const error = await failed('javaScript', name);
    expect(error).toMatchObject({ errorType, errorMessage: expect.stringContaining(why) });
    if (!('stackTrace' in error)) {
      expect(error).toEqual({ errorType, errorMessage: own(why) });
    }
    expect(await failed('boto3', name)).toEqual(error);
    const { status } = await lab.agentLab.waitForWorker(name, 'to tell of it', ({ status }) =>
      (status?.conditions ?? []).some(({ reason, message }) => reason === 'InitFailed' && message.includes(words)),
    );
    expect(status?.lastTermination).toMatchObject({ exitCode, message: expect.stringContaining(words) });
    expect(await lab.agentLab.api.kubectl(['describe', 'lambdaworker', name])).toContain(words);
  });

  it('a start that fails is told to no caller while another worker of the function takes calls', async () => {
    const pair = { image, runtimeInterface: 'Lambda', functionName: 'pair' } as const;
    await lab.agentLab.apply('pair-broken', { ...pair, args: ['raises.handler'] });
    onTestFinished(() => lab.agentLab.remove('pair-broken'));
    await lab.known('pair');
    expect(await failed('javaScript', 'pair')).toMatchObject({ errorMessage: 'out of cheese' });
    await lab.apply('pair-whole', pair);
    onTestFinished(() => lab.agentLab.remove('pair-whole'));
    for (let counter = 1; counter <= 5; counter += 1) {
      expect(parsed((await call('pair')).payload)).toMatchObject({ counter });
    }
  });

  it('a start that fails is the failure of an Event, whose record has the error', async () => {
    await lab.agentLab.apply('start-event', {
      image,
      runtimeInterface: 'Lambda',
      args: ['raises.handler'],
      asyncInvoke: { maximumRetryAttempts: 0, maximumEventAgeSeconds: 60, onFailure: { functionName: 'raw' } },
    });
    onTestFinished(() => lab.agentLab.remove('start-event'));
    await lab.known('start-event');
    answered(await lab.callers.javaScript.call('Invoke', { FunctionName: 'start-event', InvocationType: 'Event' }));
    const log = await lab.logged('raw', 'out of cheese');
    expect(log).toContain('RetriesExhausted');
  });

  it('the answer of an Event goes to its destination, with what was asked', async () => {
    await lab.apply('event-done', {
      image,
      runtimeInterface: 'Lambda',
      asyncInvoke: { maximumRetryAttempts: 0, maximumEventAgeSeconds: 60, onSuccess: { functionName: 'raw' } },
    });
    onTestFinished(() => lab.agentLab.remove('event-done'));
    const input = { FunctionName: 'event-done', InvocationType: 'Event', Payload: '{"order":4711}' };
    const { requestId } = answered(await lab.callers.javaScript.call('Invoke', input));
    const log = await lab.logged('raw', String(requestId));
    expect(log).toContain('Success');
    expect(log).toContain('4711');
    expect(log).toContain('counter');
  });

  it('a function that loads for five seconds has none of them in a call', async () => {
    const load = 'import runpy, time; time.sleep(5); runpy.run_module("awslambdaric", run_name="__main__")';
    await lab.agentLab.apply('load', {
      image,
      runtimeInterface: 'Lambda',
      command: ['python3', '-c', load, 'lambda_function.handler'],
      timeoutSeconds: 1,
      desiredState: 'Paused',
    });
    onTestFinished(() => lab.agentLab.remove('load'));
    const worker = await lab.agentLab.waitForPhase('load', 'Paused');
    expect(await lab.agentLab.taskState(worker.status?.containerID ?? '')).toBe('PAUSED');
    await lab.known('load');
    const { headers, payload } = await call('load');
    expect(parsed(payload)).toMatchObject({ counter: 1 });
    expect(headers['x-esb-start']).toBe('resumed');
    const [, run] = /run;dur=([\d.]+)/.exec(headers['server-timing'] ?? '') ?? [];
    expect(Number(run)).toBeLessThan(500 * patience());
  });
});
