import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type ConformanceLab, parsed, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered, type LambdaCaller, refused } from '../../../support/lambda-caller.ts';

/** Limits of AWS for a payload, and for that of an Event, in bytes. */
const PAYLOAD_LIMIT = 6 * 1024 * 1024;
const EVENT_LIMIT = 1024 * 1024;

let lab: ConformanceLab;

beforeAll(async () => {
  lab = await startConformanceLab();
  await lab.apply('hello-worker', { functionName: 'hello' });
  await lab.apply('second');
  await lab.apply('quick', { timeoutSeconds: 3 });
});

afterAll(() => lab?.close());

/** JSON of exactly so many bytes. */
function payloadOf(bytes: number): string {
  return JSON.stringify({ padding: 'x'.repeat(bytes - '{"padding":""}'.length) });
}

function base64(value: unknown): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64');
}

describe.each(['javaScript', 'boto3'] as const)('Invoke by %s', (which) => {
  let caller: LambdaCaller;
  beforeAll(() => {
    caller = lab.callers[which];
  });
  const invoke = async (input: Readonly<Record<string, unknown>>, headers?: Record<string, string>) =>
    answered(
      await caller.call('Invoke', { FunctionName: 'hello', ...input }, headers === undefined ? {} : { headers }),
    );
  const invokeRefused = async (input: Readonly<Record<string, unknown>>) =>
    refused(await caller.call('Invoke', { FunctionName: 'hello', ...input }));
  const event = (value: unknown): string => JSON.stringify(value);

  describe('FunctionName', () => {
    it.each([
      ['a bare name', 'hello'],
      ['a name with a qualifier', 'hello:$LATEST'],
      ['function: and a name', 'function:hello'],
      ['an account and a name', '123456789012:hello'],
      ['a partial ARN', '123456789012:function:hello'],
      ['a partial ARN with a qualifier', '123456789012:function:hello:$LATEST'],
      ['a region, an account and a name', 'eu-west-1:123456789012:function:hello'],
      ['an ARN', 'arn:aws:lambda:us-east-1:123456789012:function:hello'],
      ['an ARN with a qualifier', 'arn:aws:lambda:us-east-1:123456789012:function:hello:$LATEST'],
      ['an ARN of another region and account', 'arn:aws:lambda:ap-south-1:999999999999:function:hello'],
      ['an ARN of another partition', 'arn:aws-cn:lambda:cn-north-1:123456789012:function:hello'],
    ])('is %s', async (_what, name) => {
      const { output, httpStatus } = await invoke({ FunctionName: name, Payload: event({ echo: name }) });
      expect(httpStatus).toBe(200);
      expect(output).toMatchObject({ StatusCode: 200, ExecutedVersion: '$LATEST' });
      expect(parsed(output.Payload)).toMatchObject({ message: 'hello from hello', echo: name });
    });

    it('is the name of the worker where that has no other', async () => {
      const { output } = await invoke({ FunctionName: 'second' });
      expect(parsed(output.Payload).message).toBe('hello from second');
    });
  });

  describe('Qualifier', () => {
    it('is $LATEST', async () => {
      const { output, headers } = await invoke({ Qualifier: '$LATEST' });
      expect(output.ExecutedVersion).toBe('$LATEST');
      expect(headers['x-amz-executed-version']).toBe('$LATEST');
    });

    it('may say again what the name has said', async () => {
      const answer = await invoke({ FunctionName: 'hello:$LATEST', Qualifier: '$LATEST' });
      expect(answer.output.ExecutedVersion).toBe('$LATEST');
    });

    it.each([
      ['a version', { Qualifier: '7' }, 'hello:7'],
      ['an alias', { Qualifier: 'prod' }, 'hello:prod'],
      ['a version in the name', { FunctionName: '123456789012:function:hello:7' }, 'hello:7'],
    ])('that is %s finds no function', async (_what, input, name) => {
      expect(await invokeRefused(input)).toMatchObject({
        error: 'ResourceNotFoundException',
        modeled: true,
        httpStatus: 404,
        type: 'User',
        message: `Function not found: arn:aws:lambda:us-east-1:012345678912:function:${name}`,
      });
    });
  });

  describe('InvocationType', () => {
    it('RequestResponse gives the answer of the function', async () => {
      const given = { nested: [1, 'ü', null] };
      const { output } = await invoke({
        InvocationType: 'RequestResponse',
        Payload: event({ echo: given }),
      });
      expect(output.StatusCode).toBe(200);
      expect(output.FunctionError).toBeUndefined();
      expect(parsed(output.Payload).echo).toEqual(given);
    });

    it('Event is answered with 202 and nothing, and runs once, with the request id of the answer', async () => {
      const word = randomUUID();
      const { output, httpStatus, requestId } = await invoke({
        FunctionName: 'second',
        InvocationType: 'Event',
        Payload: event({ print: word }),
      });
      expect(httpStatus).toBe(202);
      expect(output.StatusCode).toBe(202);
      expect(output.Payload ?? '').toBe('');
      expect(requestId).toBeDefined();
      const log = await lab.logged('second', word);
      expect(log.split(word)).toHaveLength(2);
      expect(log).toContain(`START RequestId: ${requestId}`);
    });

    it('InvokeAsync, its predecessor, is an Event', async () => {
      const word = randomUUID();
      const outcome = await caller.call('InvokeAsync', {
        FunctionName: 'second',
        InvokeArgs: Buffer.from(event({ print: word })),
      });
      expect(answered(outcome).output.Status).toBe(202);
      await lab.logged('second', word);
    });

    it('DryRun is answered with 204 and runs nothing', async () => {
      const before = parsed((await invoke({})).output.Payload);
      const { output, httpStatus } = await invoke({ InvocationType: 'DryRun' });
      expect(httpStatus).toBe(204);
      expect(output.StatusCode).toBe(204);
      const after = parsed((await invoke({})).output.Payload);
      expect(after.counter).toBe(Number(before.counter) + 1);
    });
  });

  describe('LogType', () => {
    const word = 'a line of the function';
    const tailOf = (output: Readonly<Record<string, unknown>>): string =>
      Buffer.from(String(output.LogResult), 'base64').toString();

    it('Tail gives what the function wrote during this call, under its request id', async () => {
      await invoke({ Payload: event({ print: 'a line of an earlier call' }) });
      const { output, requestId } = await invoke({ LogType: 'Tail', Payload: event({ print: word }) });
      const tail = tailOf(output);
      expect(tail).toContain(word);
      expect(tail).toContain(`START RequestId: ${requestId}`);
      expect(tail).not.toContain('an earlier call');
    });

    it('Tail gives the last 4 KB', async () => {
      const { output } = await invoke({
        LogType: 'Tail',
        Payload: event({ print: `${'y'.repeat(8_000)}\n${word}` }),
      });
      const tail = Buffer.from(String(output.LogResult), 'base64');
      expect(tail).toHaveLength(4_096);
      expect(tail.toString()).toContain(word);
    });

    it('Tail tells what a failing function wrote', async () => {
      const { output } = await invoke({
        LogType: 'Tail',
        Payload: event({ print: word, raise: 'no' }),
      });
      expect(output.FunctionError).toBe('Unhandled');
      expect(tailOf(output)).toContain(word);
    });

    it('None, as without one, gives no log', async () => {
      const { output } = await invoke({ LogType: 'None', Payload: event({ print: word }) });
      expect(output.LogResult).toBeUndefined();
    });
  });

  describe('ClientContext', () => {
    it('comes to the function', async () => {
      const { output } = await invoke({ ClientContext: base64({ custom: { tenant: 'blue' } }) });
      expect(parsed(output.Payload).clientContext).toEqual({ tenant: 'blue' });
    });

    it('may have 3,583 bytes', async () => {
      // Of the lengths that base64 has, the last one that is allowed.
      const room = Math.floor(3_583 / 4) * 3;
      const custom = { custom: { filler: '' } };
      custom.custom.filler = 'z'.repeat(room - JSON.stringify(custom).length);
      expect(base64(custom)).toHaveLength(3_580);
      const { output } = await invoke({ ClientContext: base64(custom) });
      expect(parsed(output.Payload).clientContext).toEqual(custom.custom);
      const more = base64({ custom: { filler: `${custom.custom.filler}zzz` } });
      expect(more).toHaveLength(3_584);
      expect(await invokeRefused({ ClientContext: more })).toMatchObject({
        error: 'InvalidParameterValueException',
        httpStatus: 400,
      });
    });
  });

  describe('Payload', () => {
    it('that is missing counts as an empty object', async () => {
      const { output } = await invoke({ Payload: undefined });
      expect(parsed(output.Payload).message).toBe('hello from hello');
    });

    it.each([
      ['a string', '"text"', 'text'],
      ['a number', '17', 17],
      ['a list', '[1,2]', [1, 2]],
      ['null', 'null', null],
    ])('may be %s', async (_what, payload, value) => {
      const { output } = await invoke({ Payload: payload });
      expect(parsed(output.Payload).echo).toEqual(value);
    });

    it('may have 6 MB', async () => {
      const { output } = await invoke({ Payload: payloadOf(PAYLOAD_LIMIT) });
      expect(output.FunctionError).toBeUndefined();
      expect(parsed(output.Payload).message).toBe('hello from hello');
    });

    it('of an Event may have 1 MB', async () => {
      const { httpStatus } = await invoke({
        InvocationType: 'Event',
        Payload: payloadOf(EVENT_LIMIT),
      });
      expect(httpStatus).toBe(202);
    });
  });

  describe('the answer', () => {
    it('may have nearly 6 MB', async () => {
      const { output } = await invoke({ Payload: event({ size: 6_291_000 }) });
      expect(output.FunctionError).toBeUndefined();
      expect(String(parsed(output.Payload).padding)).toHaveLength(6_291_000);
    });

    it('has a request id of its own, which the function sees', async () => {
      const first = await invoke({});
      const second = await invoke({});
      expect(first.requestId).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
      expect(first.requestId).not.toBe(second.requestId);
      expect(parsed(first.output.Payload).requestId).toBe(first.requestId);
      expect(first.headers['x-amzn-requestid']).toBe(first.requestId);
    });

    it('has the trace id of the call', async () => {
      const traceId = 'Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1';
      const { headers } = await invoke({}, { 'X-Amzn-Trace-Id': traceId });
      expect(headers['x-amzn-trace-id']).toContain('Root=1-5759e988-bd862e3fe1be46a994272793');
    });

    it.each([
      ['warm', 'Running', 'running'],
      ['resumed', 'Paused', 'paused'],
      ['cold', 'Absent', 'absent'],
    ] as const)('says %s where the worker was %s', async (start, desiredState, found) => {
      const name = `${start}-${which.toLowerCase()}`;
      await lab.agentLab.apply(name, { image: lab.image, desiredState });
      onTestFinished(() => lab.agentLab.remove(name));
      await lab.agentLab.waitForPhase(name, desiredState);
      await lab.known(name);
      const { headers } = await invoke({ FunctionName: name });
      expect(headers['x-esb-start']).toBe(start);
      expect(headers['server-timing']).toContain(`start;desc="${found}"`);
    });

    it('tells how long the parts of the call took', async () => {
      const { headers } = await invoke({});
      expect(headers['server-timing']).toMatch(
        /queue;dur=[\d.]+, wake;dur=[\d.]+, run;dur=[\d.]+, start;desc="running"/,
      );
    });
  });

  describe('a function error is status 200, FunctionError Unhandled and', () => {
    const failing = async (input: Readonly<Record<string, unknown>>) => {
      const { output, httpStatus, requestId } = await invoke(input);
      expect(httpStatus).toBe(200);
      expect(output).toMatchObject({
        StatusCode: 200,
        FunctionError: 'Unhandled',
        ExecutedVersion: '$LATEST',
      });
      return { error: parsed(output.Payload), requestId };
    };

    it('the own error of a function that raises', async () => {
      const { error } = await failing({ Payload: event({ raise: 'out of cheese' }) });
      expect(error).toMatchObject({ errorType: 'ValueError', errorMessage: 'out of cheese' });
      expect(error.stackTrace).toBeInstanceOf(Array);
    });

    it('Sandbox.Timedout of one that runs longer than its time, whose worker serves the next call', async () => {
      const { error, requestId } = await failing({ FunctionName: 'quick', Payload: event({ sleep: 15 }) });
      expect(error.errorType).toBe('Sandbox.Timedout');
      expect(error.errorMessage).toBe(`RequestId: ${requestId} Error: Task timed out after 3.00 seconds`);
      const { output } = await invoke({ FunctionName: 'quick' });
      expect(parsed(output.Payload).message).toBe('hello from quick');
    });

    it('Runtime.ExitError of one whose process ends, whose worker serves the next call', async () => {
      const { error, requestId } = await failing({ FunctionName: 'second', Payload: event({ exit: 3 }) });
      expect(error.errorType).toBe('Runtime.ExitError');
      expect(error.errorMessage).toMatch(new RegExp(`^RequestId: ${requestId} Error: Runtime exited`));
      const { output } = await invoke({ FunctionName: 'second' });
      expect(parsed(output.Payload).counter).toBe(1);
    });

    it('Function.ResponseSizeTooLarge of one that answers with more than 6 MB', async () => {
      const { error } = await failing({ Payload: event({ size: 6_300_000 }) });
      expect(error).toEqual({
        errorType: 'Function.ResponseSizeTooLarge',
        errorMessage: 'Response payload size exceeded maximum allowed payload size (6291556 bytes).',
      });
    });
  });
});
