import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ConformanceLab, parsed, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered } from '../../../support/lambda-caller.ts';
import { patience } from '../../../support/patience.ts';

/**
 * A runtime that answers with what it is given: the headers of the call, the environment, and its clock. `empty` and
 * `type` ask for other answers, `print`, `sleep` and `exit` for what they say.
 */
const RUNTIME = `
import http.client, json, os, time
time.sleep(float(os.environ.get("LOAD", "0")))
waiting = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    waiting.request("GET", "/2018-06-01/runtime/invocation/next")
    got = waiting.getresponse()
    event = json.loads(got.read())
    given = {name.lower(): value for name, value in got.getheaders()}
    print(event.get("print", ""), flush=True)
    time.sleep(event.get("sleep", 0))
    if "exit" in event:
        os._exit(event["exit"])
    answer = b"" if "empty" in event else json.dumps({"headers": given, "env": dict(os.environ), "now": time.time() * 1000})
    path = "/2018-06-01/runtime/invocation/" + given["lambda-runtime-aws-request-id"] + "/response"
    waiting.request("POST", path, answer, {"Content-Type": event.get("type", "application/json")})
    waiting.getresponse().read()
`;
const ARN = 'arn:aws:lambda:us-east-1:012345678912:function:shows';

let lab: ConformanceLab;

beforeAll(async () => {
  lab = await startConformanceLab();
  const shows = { runtimeInterface: 'Lambda', command: ['python3', '-c', RUNTIME], args: [] } as const;
  await lab.apply('shows', { ...shows, timeoutSeconds: 3 });
  await lab.apply('function', { runtimeInterface: 'Lambda' });
  await lab.apply('json', {
    ...shows,
    timeoutSeconds: 1,
    logging: { format: 'JSON', applicationLevel: 'WARN', systemLevel: 'DEBUG' },
  });
});

afterAll(() => lab?.close());

describe.each(['javaScript', 'boto3'] as const)('a runtime behind %s', (which) => {
  const invoke = async (
    FunctionName: string,
    event: object = {},
    more: Readonly<Record<string, unknown>> = {},
    headers: Readonly<Record<string, string>> = {},
  ) =>
    answered(
      await lab.callers[which].call('Invoke', { FunctionName, Payload: JSON.stringify(event), ...more }, { headers }),
    );
  /** The answer, and all that the runtime was given. */
  const shown = async (...args: Parameters<typeof invoke>) => {
    const answer = await invoke(...args);
    const { env, headers, now } = parsed(answer.output.Payload);
    return {
      ...answer,
      given: headers as Readonly<Record<string, string>>,
      env: env as Readonly<Record<string, string>>,
      now: Number(now),
    };
  };
  const tail = async (...[name, event]: Parameters<typeof invoke>) => {
    const { output, requestId } = await invoke(name, event, { LogType: 'Tail' });
    return { output, requestId, text: Buffer.from(String(output.LogResult), 'base64').toString() };
  };

  it('that returns an object with errorType has not failed (row 26)', async () => {
    const error = { errorType: 'Mine', errorMessage: 'no error' };
    const { output } = await invoke('function', { return: error });
    expect(output.FunctionError).toBeUndefined();
    expect(parsed(output.Payload)).toEqual(error);
  });

  it('that answers with nothing has answered (row 27)', async () => {
    const { output, httpStatus } = await invoke('shows', { empty: true });
    expect([httpStatus, output.FunctionError]).toEqual([200, undefined]);
    expect(output.Payload || '').toBe('');
  });

  it('chooses the type of the answer (row 34)', async () => {
    expect((await invoke('shows', { type: 'text/x-tried; charset=utf-8' })).headers['content-type']).toBe(
      'text/x-tried; charset=utf-8',
    );
    expect((await invoke('shows')).headers['content-type']).toBe('application/json');
  });

  it('and its caller always have the same trace, which keeps what the caller says (row 35)', async () => {
    const made = await shown('shows');
    expect(made.given['lambda-runtime-trace-id']).toMatch(
      /^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=1:[0-9a-f]{8}:0$/,
    );
    expect(made.headers['x-amzn-trace-id']).toBe(made.given['lambda-runtime-trace-id']);
    const sent = 'Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:ab:3';
    const kept = await shown('shows', {}, {}, { 'X-Amzn-Trace-Id': sent });
    expect(kept.given['lambda-runtime-trace-id']).toBe(sent);
    expect(kept.headers['x-amzn-trace-id']).toBe(sent);
  });

  it('has no header of the network in front of the caller (row 36)', async () => {
    const { headers } = await shown('shows');
    expect(Object.keys(headers).filter((name) => name.startsWith('x-amzn-remapped'))).toEqual([]);
  });

  it('has a REPORT with figures that are measured (row 37)', async () => {
    const { requestId, text } = await tail('function', { allocate: 60, sleep: 0.2 });
    const report = text.split('\n').find((line) => line.startsWith(`REPORT RequestId: ${requestId}\t`)) ?? '';
    const figures =
      /\tDuration: ([\d.]+) ms\tBilled Duration: (\d+) ms\tMemory Size: 128 MB\tMax Memory Used: (\d+) MB(?:\tInit Duration: [\d.]+ ms)?$/.exec(
        report,
      );
    expect(Number(figures?.[1])).toBeGreaterThan(200);
    expect(Number(figures?.[2])).toBeGreaterThanOrEqual(Number(figures?.[1]));
    expect(Number(figures?.[3])).toBeGreaterThan(60);
    expect(Number(figures?.[3])).toBeLessThan(128);
  });

  it('has the tail of its own call alone, be it after a timeout, of one, or of the end of a process', async () => {
    const late = await tail('json', { print: 'of the late', sleep: 20 });
    const gone = await tail('json', { print: 'of the gone', exit: 3 });
    const good = await tail('json', { print: 'of the good' });
    const told = [late, gone, good].map(({ requestId, text }) => ({
      own: text.match(/of the \w+/g),
      ids: new Set(text.match(/(?<="requestId":")[^"]+/g)),
      requestId,
    }));
    expect(told).toEqual([
      { own: ['of the late'], ids: new Set([late.requestId]), requestId: late.requestId },
      { own: ['of the gone'], ids: new Set([gone.requestId]), requestId: gone.requestId },
      { own: ['of the good'], ids: new Set([good.requestId]), requestId: good.requestId },
    ]);
    expect(parsed(late.output.Payload)).toEqual({
      errorType: 'Sandbox.Timedout',
      errorMessage: `RequestId: ${late.requestId} Error: Task timed out after 1.00 seconds`,
    });
  });

  it('is loaded before its first call, in time of its own (row 84)', async () => {
    const name = `slow-${which.toLowerCase()}`;
    await lab.apply(name, {
      runtimeInterface: 'Lambda',
      command: ['python3', '-c', RUNTIME],
      args: [],
      timeoutSeconds: 1,
      env: [{ name: 'LOAD', value: '5' }],
    });
    const { requestId, text, output } = await tail(name, {});
    expect(output.FunctionError).toBeUndefined();
    const [, run, init] =
      new RegExp(`REPORT RequestId: ${requestId}\\tDuration: ([\\d.]+) ms\\t.*\\tInit Duration: ([\\d.]+) ms`).exec(
        text,
      ) ?? [];
    expect(Number(run)).toBeLessThan(1_000);
    expect(Number(init)).toBeGreaterThan(5_000);
    await lab.agentLab.remove(name);
  });

  it('has the deadline of the call (row 86)', async () => {
    const { given, now } = await shown('shows');
    const left = Number(given['lambda-runtime-deadline-ms']) - now;
    expect(left).toBeGreaterThan(3_000 - 1_000 * patience());
    expect(left).toBeLessThanOrEqual(3_000);
  });

  it('has the ARN that the caller named (row 87)', async () => {
    expect((await shown('shows')).given['lambda-runtime-invoked-function-arn']).toBe(ARN);
    const qualified = await shown('shows', {}, { Qualifier: '$LATEST' });
    expect(qualified.given['lambda-runtime-invoked-function-arn']).toBe(`${ARN}:$LATEST`);
    const named = await shown('function:shows:$LATEST');
    expect(named.given['lambda-runtime-invoked-function-arn']).toBe(`${ARN}:$LATEST`);
  });

  it('has the client context as JSON, and no identity, since no caller has one (row 88)', async () => {
    const context = { custom: { tenant: 'ü' }, env: {} };
    const { given } = await shown(
      'shows',
      {},
      { ClientContext: Buffer.from(JSON.stringify(context)).toString('base64') },
    );
    expect(JSON.parse(given['lambda-runtime-client-context'] ?? '')).toEqual(context);
    expect(given).not.toHaveProperty('lambda-runtime-cognito-identity');
    expect((await shown('shows')).given).not.toHaveProperty('lambda-runtime-client-context');
  });

  it('has the environment of Lambda, and no variable of what is not there', async () => {
    const { env } = await shown('shows');
    const fixed = Object.fromEntries(Object.entries(env).filter(([name]) => /^(?:_|AWS|LAMBDA|TZ$|PATH$)/.test(name)));
    expect(fixed).toEqual({
      _HANDLER: expect.any(String),
      AWS_DEFAULT_REGION: 'us-east-1',
      AWS_EXECUTION_ENV: 'AWS_Lambda_Image',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '128',
      AWS_LAMBDA_FUNCTION_NAME: 'shows',
      AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
      AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
      AWS_LAMBDA_LOG_FORMAT: 'Text',
      AWS_LAMBDA_LOG_GROUP_NAME: '/aws/lambda/shows',
      AWS_LAMBDA_LOG_STREAM_NAME: expect.stringMatching(/^\d{4}\/\d\d\/\d\d\/\[\$LATEST\][0-9a-f]{32}$/),
      AWS_LAMBDA_RUNTIME_API: '127.0.0.1:9001',
      AWS_REGION: 'us-east-1',
      AWS_XRAY_CONTEXT_MISSING: 'LOG_ERROR',
      LAMBDA_RUNTIME_DIR: '/var/runtime',
      LAMBDA_TASK_ROOT: '/var/task',
      PATH: expect.any(String),
      TZ: ':UTC',
    });
    const json = (await shown('json')).env;
    expect(json).toMatchObject({ AWS_LAMBDA_LOG_FORMAT: 'JSON', AWS_LAMBDA_LOG_LEVEL: 'WARN' });
  });

  it('has a log of the format that the function is described with (row 94)', async () => {
    const described = async (FunctionName: string) =>
      answered(await lab.callers[which].call('GetFunctionConfiguration', { FunctionName })).output.LoggingConfig;
    expect(await described('shows')).toEqual({ LogFormat: 'Text', LogGroup: '/aws/lambda/shows' });
    expect(await described('json')).toEqual({
      LogFormat: 'JSON',
      ApplicationLogLevel: 'WARN',
      SystemLogLevel: 'DEBUG',
      LogGroup: '/aws/lambda/json',
    });
    const { requestId, text } = await tail('json', { print: 'as it is' });
    const lines = text.split('\n').filter((line) => line !== '');
    const events = lines.filter((line) => line.startsWith('{')).map((line) => parsed(line));
    expect(events.map(({ record, type }) => [type, (record as { requestId: string }).requestId])).toEqual([
      ['platform.start', requestId],
      ['platform.runtimeDone', requestId],
      ['platform.report', requestId],
    ]);
    expect(lines.filter((line) => !line.startsWith('{'))).toEqual(['as it is']);
  });
});
