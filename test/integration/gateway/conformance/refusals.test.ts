import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createOpenAccess } from '../../../../src/gateway/access/access.ts';
import { type ConformanceLab, parsed, startConformanceLab } from '../../../support/conformance-lab.ts';
import { gatewayLab } from '../../../support/gateway-lab.ts';
import { answered, type LambdaCaller, type Outcome, type Refused, refused } from '../../../support/lambda-caller.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';

const PAYLOAD_LIMIT = 6 * 1024 * 1024;
const EVENT_LIMIT = 1024 * 1024;

let lab: ConformanceLab;

beforeAll(async () => {
  lab = await startConformanceLab();
  await lab.apply('hello', { timeoutSeconds: 30 });
});

afterAll(() => lab?.close());

function payloadOf(bytes: number): string {
  return JSON.stringify('x'.repeat(bytes - 2));
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

/**
 * Applies a worker that never becomes ready, or that rests, and waits until calls of it get beyond "no such function".
 */
async function applyUnready(name: string, spec: Parameters<ConformanceLab['apply']>[1]): Promise<void> {
  await lab.agentLab.apply(name, spec);
  onTestFinished(() => lab.agentLab.remove(name));
  await lab.known(name);
}

/** A way to a gateway that takes the heads of requests and keeps their bodies. Ends with the test. */
async function headsAlone(port: number): Promise<string> {
  const end = Buffer.from('\r\n\r\n');
  const sockets = new Set<Socket>();
  const server = createServer((inbound) => {
    const outbound = connect(port, '127.0.0.1');
    let head = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      if (head.includes(end)) {
        inbound.off('data', onData).resume();
        outbound.write(head.subarray(0, head.indexOf(end) + end.length));
      }
    };
    inbound.on('data', onData);
    outbound.pipe(inbound);
    for (const socket of [inbound, outbound]) {
      sockets.add(socket.on('error', () => undefined));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe.each(['javaScript', 'boto3'] as const)('a call by %s is refused with', (which) => {
  let caller: LambdaCaller;
  beforeAll(() => {
    caller = lab.callers[which];
  });
  const refusalOf = async (input: Readonly<Record<string, unknown>>): Promise<Refused> =>
    refused(await caller.call('Invoke', { FunctionName: 'hello', ...input }));

  /** Fields of every refusal, beside its name. */
  function expectRefusal(
    refusal: Refused,
    error: string,
    httpStatus: number,
    type: 'User' | 'Service',
    message: string | RegExp,
  ): void {
    expect(refusal).toMatchObject({ error, code: error, modeled: true, httpStatus, type });
    expect(refusal.requestId).toMatch(/^[0-9a-f-]{36}$/);
    expect(refusal.message).toMatch(message);
  }

  describe('InvalidParameterValueException (400) for', () => {
    it.each([
      ['a name with a character that no name has', { FunctionName: 'hello world' }, 'functionName'],
      ['a name of more than 64 characters', { FunctionName: 'n'.repeat(65) }, '64'],
      ['an identifier of more than 256 characters', { FunctionName: 'n'.repeat(257) }, '256'],
      ['an ARN of something else', { FunctionName: 'arn:aws:s3:::bucket' }, 'functionName'],
      ['a qualifier with a character that none has', { Qualifier: 'a b' }, 'qualifier'],
      ['a qualifier of more than 128 characters', { Qualifier: 'q'.repeat(129) }, 'qualifier'],
      ['a qualifier that is not that of the name', { FunctionName: 'hello:1', Qualifier: '2' }, 'derived qualifier'],
      ['a TenantId', { TenantId: 'blue' }, 'TenantId'],
      ['a DurableExecutionName', { DurableExecutionName: 'once' }, 'DurableExecutionName'],
      ['an InvocationType that there is not', { InvocationType: 'Sometimes' }, 'invocationType'],
      ['a LogType that there is not', { LogType: 'Head' }, 'logType'],
      [
        'a ClientContext of more than 3,583 bytes',
        { ClientContext: base64(JSON.stringify({ custom: 'c'.repeat(2_700) })) },
        '3583 bytes',
      ],
    ])('%s', async (_what, input, message) => {
      const refusal = await refusalOf(input);
      expectRefusal(refusal, 'InvalidParameterValueException', 400, 'User', message);
    });
  });

  describe('InvalidRequestContentException (400) for', () => {
    it.each([
      ['a payload that ends too early', { Payload: '{"a":' }],
      ['a payload that is two documents', { Payload: '{}{}' }],
      ['a payload that is no text', { Payload: Buffer.from([0x22, 0xff, 0xfe, 0x22]) }],
      ['a payload that is no JSON, of an Event', { Payload: 'hello', InvocationType: 'Event' }],
      ['a client context that is not base64', { ClientContext: 'no base64 at all' }],
      ['a client context that is not JSON', { ClientContext: base64('hello') }],
      ['a client context that is not an object', { ClientContext: base64('17') }],
    ])('%s', async (_what, input) => {
      const refusal = await refusalOf(input);
      expectRefusal(refusal, 'InvalidRequestContentException', 400, 'User', /./);
    });
  });

  describe('ResourceNotFoundException (404) for', () => {
    it.each(['RequestResponse', 'Event', 'DryRun'])(
      'a %s call of a function that there is not',
      async (InvocationType) => {
        const refusal = await refusalOf({ FunctionName: 'nobody', InvocationType });
        expectRefusal(
          refusal,
          'ResourceNotFoundException',
          404,
          'User',
          /^Function not found: arn:aws:lambda:.*:function:nobody$/,
        );
      },
    );
  });

  describe('RequestTooLargeException (413) for', () => {
    it('a payload of one byte more than 6 MB', async () => {
      const refusal = await refusalOf({ Payload: payloadOf(PAYLOAD_LIMIT + 1) });
      expectRefusal(refusal, 'RequestTooLargeException', 413, 'User', String(PAYLOAD_LIMIT));
    });

    it('an Event of one byte more than 1 MB', async () => {
      const refusal = await refusalOf({ InvocationType: 'Event', Payload: payloadOf(EVENT_LIMIT + 1) });
      expectRefusal(refusal, 'RequestTooLargeException', 413, 'User', String(EVENT_LIMIT));
    });
  });

  it('ResourceConflictException (409) while the owner has paused the function for everybody', async () => {
    const name = `sealed-${which.toLowerCase()}`;
    await applyUnready(name, { desiredState: 'Paused', wakePolicy: 'Never' });
    await lab.agentLab.waitForPhase(name, 'Paused');
    const refusal = await refusalOf({ FunctionName: name });
    expectRefusal(refusal, 'ResourceConflictException', 409, 'User', 'paused by its owner');
  });

  describe('TooManyRequestsException (429) and the reason', () => {
    function expectThrottle(refusal: Refused, reason: string): void {
      expectRefusal(refusal, 'TooManyRequestsException', 429, 'User', /./);
      expect(refusal.reason).toBe(reason);
      expect(Number(refusal.retryAfterSeconds)).toBeGreaterThanOrEqual(1);
    }

    it('ReservedFunctionConcurrentInvocationLimitExceeded while as many calls run as may and none may wait', async () => {
      const name = `busy-${which.toLowerCase()}`;
      await lab.apply(name, { timeoutSeconds: 30, concurrency: { reserved: 1, queueDepth: 0 } });
      onTestFinished(() => lab.agentLab.remove(name));
      const call = { FunctionName: name, Payload: '{"sleep":2}' };
      const outcomes = await Promise.all([caller.call('Invoke', call), caller.call('Invoke', call)]);
      const [loser] = outcomes.filter(({ kind }) => kind === 'refused');
      expect(outcomes.filter(({ kind }) => kind === 'answered')).toHaveLength(1);
      if (loser === undefined) {
        throw new Error('no call was refused');
      }
      expectThrottle(refused(loser), 'ReservedFunctionConcurrentInvocationLimitExceeded');
    });

    it('ReservedFunctionConcurrentInvocationLimitExceeded for a function that is switched off', async () => {
      const name = `off-${which.toLowerCase()}`;
      await lab.apply(name, { concurrency: { reserved: 0, queueDepth: 100 } });
      onTestFinished(() => lab.agentLab.remove(name));
      expectThrottle(await refusalOf({ FunctionName: name }), 'ReservedFunctionConcurrentInvocationLimitExceeded');
    });

    it('ConcurrentInvocationLimitExceeded while the node has no room for the worker', async () => {
      const name = `large-${which.toLowerCase()}`;
      await applyUnready(name, { resources: { limits: { memory: '8Gi' }, pids: 64 } });
      await lab.agentLab.waitForWorker(name, 'to find no room', ({ status }) =>
        (status?.conditions ?? []).some(({ reason }) => reason === 'NodeFull'),
      );
      expectThrottle(await refusalOf({ FunctionName: name }), 'ConcurrentInvocationLimitExceeded');
    });

    it('is what the SDK tries again by itself, until there is room', async () => {
      const name = `again-${which.toLowerCase()}`;
      await lab.apply(name, { timeoutSeconds: 30, concurrency: { reserved: 1, queueDepth: 0 } });
      onTestFinished(() => lab.agentLab.remove(name));
      const call = { FunctionName: name, Payload: '{"sleep":1}' };
      const outcomes = await Promise.all([1, 2].map(() => caller.call('Invoke', call, { maxAttempts: 8 })));
      const counters = outcomes.map((outcome) => parsed(answered(outcome).output.Payload).counter);
      expect(new Set(counters)).toEqual(new Set([1, 2]));
    });
  });

  it('ResourceNotReadyException (502) where the image of the worker cannot be had', async () => {
    const name = `imageless-${which.toLowerCase()}`;
    await applyUnready(name, { image: `${lab.agentLab.lab.registry.host}/nothing:here` });
    await lab.agentLab.waitForWorker(name, 'to have failed', ({ status }) =>
      (status?.conditions ?? []).some(({ type, status: is }) => type === 'Ready' && is === 'False'),
    );
    const refusal = await refusalOf({ FunctionName: name });
    expectRefusal(refusal, 'ResourceNotReadyException', 502, 'Service', 'nothing:here');
  });
});

describe('what nobody can tell', () => {
  it.each(['javaScript', 'boto3'] as const)(
    'is an answer that %s does not try again: the agent was killed under the call',
    async (which) => {
      const name = `lost-${which.toLowerCase()}`;
      await lab.apply(name, { timeoutSeconds: 30 });
      const before = parsed(answered(await lab.callers[which].call('Invoke', { FunctionName: name })).output.Payload);
      const call = lab.callers[which].call(
        'Invoke',
        { FunctionName: name, Payload: '{"print":"it has begun","sleep":4}' },
        { maxAttempts: 4 },
      );
      await lab.logged(name, 'it has begun');
      await lab.agentLab.killAgent();
      const { output, httpStatus, headers } = answered(await call);
      await lab.agentLab.startAgent();
      await lab.agentLab.untilServing();
      expect(httpStatus).toBe(200);
      expect(output.FunctionError).toBe('Unhandled');
      expect(headers['x-esb-outcome']).toBe('unknown');
      expect(parsed(output.Payload)).toMatchObject({
        errorType: 'Esb.OutcomeUnknown',
        errorMessage: expect.stringContaining('The outcome is unknown'),
      });
      await lab.known(name);
      const after = parsed(answered(await lab.callers[which].call('Invoke', { FunctionName: name })).output.Payload);
      // The call ran once: in a process that went on this is the third, and in a new one the first.
      expect(after.counter).toBe(after.bootId === before.bootId ? 3 : 1);
    },
  );

  it.each(['javaScript', 'boto3'] as const)(
    'is Runtime.Unknown to %s where the emulator answers with a status that it should not',
    async (which) => {
      const name = `odd-${which.toLowerCase()}`;
      await lab.apply(name, { image: lab.agentLab.lab.image, runtimeInterface: 'Emulator' });
      const { output, httpStatus, requestId } = answered(
        await lab.callers[which].call('Invoke', { FunctionName: name, Payload: '{"status":418}' }),
      );
      expect(httpStatus).toBe(200);
      expect(output.FunctionError).toBe('Unhandled');
      expect(parsed(output.Payload)).toEqual({
        errorType: 'Runtime.Unknown',
        errorMessage: `RequestId: ${requestId} Error: the emulator in the worker answered with status 418`,
      });
    },
  );
});

describe('RequestTimeoutException (408)', () => {
  it('tells both SDKs that the body did not arrive in time', async () => {
    const clock = manualClock();
    const gateway = await gatewayLab({ gateway: { clock } });
    await gateway.addWorker('hello');
    const endpoint = await headsAlone(Number(new URL(gateway.url).port));
    for (const caller of Object.values(lab.callers)) {
      const call = caller.call('Invoke', { FunctionName: 'hello', Payload: '{"a":1}' }, { endpoint });
      let outcome: Outcome | undefined;
      void call.then((settled) => {
        outcome = settled;
      });
      await waitFor(`the gateway to refuse the body of ${caller.name}`, async () => {
        await clock.advance(1_000);
        return outcome;
      });
      // The service model has no class for this error: the code is what both SDKs tell.
      expect(refused(await call)).toMatchObject({
        code: 'RequestTimeoutException',
        httpStatus: 408,
        message: 'The body of the request did not arrive in time.',
      });
    }
  });
});

describe('ServiceException (500)', () => {
  it('tells both SDKs of a fault of the gateway, and nothing of what it is', async () => {
    // No real part can be made to show one.
    const faulty = await gatewayLab({
      gateway: {
        access: {
          identify: createOpenAccess(() => false).identify,
          authorize: () => {
            throw new TypeError('undefined is not a function in 10.1.2.3');
          },
        },
      },
    });
    for (const caller of Object.values(lab.callers)) {
      const refusal = refused(await caller.call('Invoke', { FunctionName: 'hello' }, { endpoint: faulty.url }));
      expect(refusal).toMatchObject({
        error: 'ServiceException',
        modeled: true,
        httpStatus: 500,
        type: 'Service',
        message: expect.stringContaining('The service encountered an internal error.'),
      });
      expect(JSON.stringify(refusal)).not.toContain('10.1.2.3');
    }
  });
});

describe('ServiceException (503)', () => {
  const expectUnavailable = (refusal: Refused, message: RegExp): void => {
    expect(refusal).toMatchObject({
      error: 'ServiceException',
      modeled: true,
      httpStatus: 503,
      type: 'Service',
    });
    expect(refusal.message).toMatch(message);
    expect(refusal.headers['retry-after']).toBe('1');
  };

  it('tells both SDKs that the node of the worker cannot be reached', async () => {
    await lab.restartGateway([], { program: 'hasty' });
    await lab.known('hello');
    await lab.agentLab.stopAgent();
    try {
      const outcomes = await Promise.all(
        Object.values(lab.callers).map((each) => each.call('Invoke', { FunctionName: 'hello' })),
      );
      for (const outcome of outcomes) {
        expectUnavailable(refused(outcome), /cannot be reached/);
      }
    } finally {
      await lab.agentLab.startAgent();
      await lab.agentLab.untilServing();
      await lab.restartGateway();
    }
  });

  it('tells both SDKs that the gateway has heard nothing yet, and calls are served once it has', async () => {
    lab.agentLab.api.pause();
    try {
      await lab.restartGateway([], { untilReady: false });
      for (const each of Object.values(lab.callers)) {
        const outcome = await each.call('Invoke', { FunctionName: 'hello' });
        expectUnavailable(refused(outcome), /has just started/);
      }
    } finally {
      lab.agentLab.api.continue();
    }
    const outcome = await lab.callers.boto3.call('Invoke', { FunctionName: 'hello' }, { maxAttempts: 10 });
    expect(parsed(answered(outcome).output.Payload).message).toBe('hello from hello');
  });
});
