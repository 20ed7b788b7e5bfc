import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createProgress } from '../../../../local/common/progress.ts';
import { ensureSampleImage } from '../../../../local/image/sample-image.ts';
import type { LambdaWorkerSpec } from '../../../../src/api/lambda-worker.ts';
import { type ConformanceLab, parsed, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered } from '../../../support/lambda-caller.ts';
import { patience } from '../../../support/patience.ts';
import { layoutImage, withFiles } from '../../../support/test-image.ts';
import { toolsFolder } from '../../../support/tools.ts';

/** A runtime that answers with nothing, or with the `half` of an answer. */
const RUNTIME = `
import http.client, json, os, time
api = os.environ["AWS_LAMBDA_RUNTIME_API"]
waiting = http.client.HTTPConnection(api)
while True:
    waiting.request("GET", "/2018-06-01/runtime/invocation/next")
    got = waiting.getresponse()
    event = json.loads(got.read())
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
        # The end of the connection and the next request must not come to the init as one.
        time.sleep(0.2)
    else:
        answer.getresponse().read()
`;

describe('with the interface Lambda', () => {
  let lab: ConformanceLab;
  let image: string;

  beforeAll(async () => {
    lab = await startConformanceLab();
    const progress = createProgress({ write: () => undefined });
    const { layout } = await ensureSampleImage('python-counter', { progress, tools: toolsFolder() });
    const wrong = { path: '/var/task/wrong.py', content: 'def handler(event, context)\n' };
    image = lab.agentLab.lab.registry.put('ends:1', await withFiles(await layoutImage(layout), [wrong]));
    const runtimeInterface = 'Lambda' as const;
    await lab.apply('ends', {
      image,
      runtimeInterface,
      timeoutSeconds: 2 * patience(),
      resources: { limits: { memory: '128Mi' }, pids: 256 },
    });
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
      'ends',
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

  const python = (code: string): Partial<LambdaWorkerSpec> => ({ command: ['python3', '-c', code], args: [] });

  it.each([
    ['module', { args: ['nowhere.handler'] }, "Runtime.ImportModuleError: Unable to import module 'nowhere'"],
    ['handler', { args: ['lambda_function.nobody'] }, "Runtime.HandlerNotFound: Handler 'nobody' missing on module"],
    ['syntax', { args: ['wrong.handler'] }, "Runtime.UserCodeSyntaxError: Syntax error in module 'wrong'"],
    ['program', { command: ['/no/such'] }, 'Runtime.InvalidEntrypoint: fork/exec /no/such: no such file or directory'],
    ['exit', python('exit(7)'), 'Runtime.ExitError: Runtime exited with error: exit status 7'],
    ['leave', python('exit(0)'), 'Runtime.ExitError: Runtime exited without providing a reason'],
    ['memory', python('bytearray(512 << 20)'), 'Runtime.ExitError: Runtime exited with error: signal: killed'],
    ['hang', python('import time; time.sleep(600)'), 'Sandbox.Timedout: Init did not end within 4 seconds'],
  ])('a start without its %s is told in the words of Lambda', async (what, spec, words) => {
    const name = `start-${what}`;
    await lab.agentLab.apply(name, {
      image,
      runtimeInterface: 'Lambda',
      startup: { timeoutSeconds: 4 },
      resources: { limits: { memory: '128Mi' }, pids: 256 },
      ...spec,
    });
    onTestFinished(() => lab.agentLab.remove(name));
    await lab.agentLab.waitForWorker(name, 'to tell of it', ({ status }) =>
      (status?.conditions ?? []).some(({ reason, message }) => reason === 'InitFailed' && message.includes(words)),
    );
    expect(await lab.agentLab.api.kubectl(['describe', 'lambdaworker', name])).toContain(words);
    await lab.known(name);
    const told = await lab.callers.javaScript.call('Invoke', { FunctionName: name });
    expect(JSON.stringify(told)).toContain(JSON.stringify(words).slice(1, -1));
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
