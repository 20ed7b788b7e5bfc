import { GetFunctionCommand } from '@aws-sdk/client-lambda';
import { describe, expect, it } from 'vitest';
import type { LambdaFunction } from '../../../src/api/lambda-function.ts';
import { functionFixture, versionFixture } from '../../support/function-fixture.ts';
import { type GatewayLab, type GatewayLabOptions, gatewayLab } from '../../support/gateway-lab.ts';
import { inThreadEventStore } from '../../support/in-thread-event-store.ts';
import { manualClock } from '../../support/manual-clock.ts';

const key = { namespace: 'default', name: 'hello' } as const;
const HOUR_MS = 3_600_000;

function condition(type: string, reason: string, message = '') {
  return { type, status: 'True', reason, message, lastTransitionTime: '2026-11-01T00:00:00Z' } as const;
}

const ready = { observedGeneration: 1, conditions: [condition('Ready', 'Ready')] };
const refused = {
  observedGeneration: 1,
  conditions: [condition('Stalled', 'WorkerRefused', 'admission webhook says no')],
};
const aliased: LambdaFunction = functionFixture({
  spec: { aliases: [{ name: 'live', version: 1 }] },
  status: { latestVersion: 1, aliases: [{ name: 'live', version: 1 }] },
});

interface Way {
  readonly owner: LambdaFunction;
  /** Prepares the gateway before the function is there. */
  readonly prepare?: (lab: GatewayLab) => Promise<void> | void;
  /** Takes place once the function is there. */
  readonly afterwards?: (lab: GatewayLab) => void;
  readonly Qualifier?: string;
  /** Of a call that has waited in vain. */
  readonly error: { readonly name: string; readonly message: unknown; readonly status: number };
}

const pending = { name: 'ResourceConflictException', message: expect.stringMatching(/state: Pending$/), status: 409 };

/** The ways in which a function has no worker. */
const ways: Readonly<Record<string, Way>> = {
  'was created a moment ago': { owner: functionFixture({ status: {} }), error: pending },
  'has lost its only worker': {
    owner: functionFixture({ minWorkers: 1, status: ready }),
    prepare: (lab) => lab.addWorker('hello'),
    afterwards: (lab) => lab.workers.remove(key),
    error: pending,
  },
  'is switched off by no workers': {
    owner: functionFixture({ minWorkers: 0, status: ready }),
    error: { name: 'ServiceException', message: expect.stringContaining('has no worker (Inactive)'), status: 503 },
  },
  'has a controller that is away': { owner: functionFixture({ metadata: { generation: 2 } }), error: pending },
  'gets workers that an admission refuses': {
    owner: functionFixture({ status: refused }),
    error: {
      name: 'ServiceException',
      message: expect.stringContaining('(Failed): WorkerRefused: admission webhook says no'),
      status: 503,
    },
  },
  'has an alias of a version without workers': {
    owner: aliased,
    prepare: (lab) => lab.versions.put(versionFixture(aliased, 1)),
    Qualifier: 'live',
    error: { name: 'ServiceException', message: 'No worker took the call.', status: 503 },
  },
};

async function without({ owner, prepare, afterwards }: Way, options: GatewayLabOptions = {}): Promise<GatewayLab> {
  const lab = await gatewayLab({ maxWaitMs: 100, ...options });
  await prepare?.(lab);
  lab.functions.put(owner);
  afterwards?.(lab);
  return lab;
}

const qualified = ({ Qualifier }: Way) => (Qualifier === undefined ? {} : { Qualifier });

describe.each(Object.entries(ways))('a function that %s', (_, way) => {
  it('exists, and tells a call of its state after a wait', async () => {
    const lab = await without(way);
    await lab.client.send(new GetFunctionCommand({ FunctionName: 'hello', ...qualified(way) }));
    const error = await lab.invoke('hello', qualified(way)).catch((thrown: unknown) => thrown);
    const { name, message, status } = way.error;
    expect(error).toMatchObject({ name, message, $metadata: { httpStatusCode: status } });
    expect(error).toMatchObject({ $response: { headers: { 'retry-after': '1' } } });
  });

  it('keeps an event for an hour, and runs it once there is a worker', async () => {
    const clock = manualClock();
    const store = inThreadEventStore({ now: () => clock.now() });
    const lab = await without(way, { gateway: { clock, events: { kind: 'Here', store } } });
    await lab.invoke('hello', { InvocationType: 'Event', ...qualified(way) });
    await clock.advance(HOUR_MS);
    expect(store.load().events).toBe(1);
    const version = way.Qualifier === undefined ? {} : { version: 1 };
    await lab.addWorker('hello', { epoch: 2, ...version });
    for (let waited = 0; store.load().events > 0 && waited < HOUR_MS; waited += 1_000) {
      await clock.advance(1_000);
    }
    expect(store.load().events).toBe(0);
    expect(lab.agent.calls).toHaveLength(1);
  });
});

describe('a call of a function without workers', () => {
  it('goes to the first worker that comes, and is load until then', async () => {
    const lab = await gatewayLab();
    lab.functions.put(
      functionFixture({ spec: { scaling: { mode: 'Auto', minWorkers: 0, maxWorkers: 4, spareWorkers: 0 } as never } }),
    );
    const answer = lab.invoke('hello');
    await expect.poll(() => lab.gateway.loadMeter.all()).toMatchObject([{ functionName: 'hello', calls: 1 }]);
    await lab.addWorker('hello');
    expect((await answer).StatusCode).toBe(200);
    expect(lab.agent.calls).toHaveLength(1);
  });

  it('is told that there is no such function only where there is no resource either', async () => {
    const lab = await without({ owner: functionFixture(), error: pending });
    lab.functions.remove(key);
    await expect(lab.invoke('hello')).rejects.toMatchObject({ name: 'ResourceNotFoundException' });
    // There may be one that the gateway has not heard of.
    lab.functions.setCurrent(false);
    await expect(lab.invoke('hello')).rejects.toMatchObject({ name: 'ServiceException' });
  });
});
