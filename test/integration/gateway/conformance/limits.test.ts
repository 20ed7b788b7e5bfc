import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ConformanceLab, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered, type Outcome, type Refused } from '../../../support/lambda-caller.ts';

let lab: ConformanceLab;

beforeAll(async () => {
  lab = await startConformanceLab();
  await lab.apply('hello', { timeoutSeconds: 30 });
});

afterAll(() => lab?.close());

const callers = ['javaScript', 'boto3'] as const;

function refusalsOf(outcomes: readonly Outcome[]): readonly Refused[] {
  return outcomes.filter((outcome) => outcome.kind === 'refused');
}

const throttle = (reason: string): object => ({
  error: 'TooManyRequestsException',
  modeled: true,
  httpStatus: 429,
  type: 'User',
  reason,
  retryAfterSeconds: expect.stringMatching(/^[1-9]\d*$/),
});

describe('a gateway that allows each caller one request a second', () => {
  beforeAll(async () => {
    await lab.restartGateway(['--caller-rate=1', '--caller-burst=2']);
  });

  it.each(callers)('refuses more of %s with CallerRateLimitExceeded', async (which) => {
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, () =>
        lab.callers[which].call('Invoke', { FunctionName: 'hello', InvocationType: 'DryRun' }),
      ),
    );
    const refusals = refusalsOf(outcomes);
    expect(refusals.length).toBeGreaterThanOrEqual(4);
    for (const refusal of refusals) {
      expect(refusal).toMatchObject(throttle('CallerRateLimitExceeded'));
    }
  });

  it.each(callers)('refuses more reads of %s as well', async (which) => {
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, () => lab.callers[which].call('GetFunction', { FunctionName: 'hello' })),
    );
    expect(refusalsOf(outcomes)[0]).toMatchObject(throttle('CallerRateLimitExceeded'));
  });
});

describe('a gateway that has room for eight requests', () => {
  beforeAll(async () => {
    await lab.restartGateway(['--max-requests=8']);
    await lab.known('hello');
  });

  it.each(callers)(
    'refuses to %s what is more than the share of a function with FunctionInvocationRateLimitExceeded',
    async (which) => {
      const outcomes = await Promise.all(
        Array.from({ length: 8 }, () =>
          lab.callers[which].call('Invoke', { FunctionName: 'hello', Payload: '{"sleep":0.5}' }),
        ),
      );
      const refusals = refusalsOf(outcomes);
      expect(refusals.length).toBeGreaterThanOrEqual(1);
      expect(refusals.length).toBeLessThan(8);
      for (const refusal of refusals) {
        expect(refusal).toMatchObject(throttle('FunctionInvocationRateLimitExceeded'));
      }
    },
  );
});

describe('a gateway without timing headers', () => {
  beforeAll(async () => {
    await lab.restartGateway(['--no-timing-headers']);
    await lab.known('hello');
  });

  it.each(callers)('gives %s none', async (which) => {
    const { headers } = answered(await lab.callers[which].call('Invoke', { FunctionName: 'hello' }));
    expect(headers).not.toHaveProperty('x-esb-start');
    expect(headers).not.toHaveProperty('server-timing');
  });
});

describe('a gateway that keeps one event', () => {
  beforeAll(async () => {
    await lab.restartGateway(['--max-events=1']);
    await lab.known('hello');
  });

  it('refuses both SDKs a second one with ConcurrentInvocationLimitExceeded', async () => {
    // The load stays for as long as the call runs.
    const event = { FunctionName: 'hello', InvocationType: 'Event', Payload: '{"sleep":15}' };
    answered(await lab.callers.boto3.call('Invoke', event));
    for (const which of callers) {
      const outcome = await lab.callers[which].call('Invoke', event);
      expect(outcome).toMatchObject(throttle('ConcurrentInvocationLimitExceeded'));
    }
  });
});
