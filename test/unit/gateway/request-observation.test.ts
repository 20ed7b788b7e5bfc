import { connect } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { DEFAULT_LIMIT_FLAGS, gatewayLimits } from '../../../src/gateway/admission/gateway-limits.ts';
import { type GatewayLab, type GatewayLabOptions, gatewayLab } from '../../support/gateway-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

interface ObservedLab {
  readonly lab: GatewayLab;
  /** Operation, result and status of each request, in the order of their ends. */
  readonly seen: readonly (readonly [operation: string, result: string, status: number])[];
}

async function observedLab(options: GatewayLabOptions = {}): Promise<ObservedLab> {
  const seen: [string, string, number][] = [];
  const lab = await gatewayLab({
    ...options,
    gateway: {
      ...options.gateway,
      observation: {
        listeners: [{ answered: ({ info }, { result, status }) => void seen.push([info.operation, result, status]) }],
        tracing: undefined,
        maxFunctions: 10,
      },
    },
  });
  return { lab, seen };
}

const invocations = '/2015-03-31/functions/hello/invocations';

it.each([
  ['a call', 'POST', invocations, '{}', ['Invoke', 'ok', 200]],
  [
    'a call of nobody',
    'POST',
    invocations.replace('hello', 'nobody'),
    '{}',
    ['Invoke', 'ResourceNotFoundException', 404],
  ],
  ['a body that is too large', 'POST', invocations, 'x'.repeat(7_000_000), ['Invoke', 'RequestTooLargeException', 413]],
  ['a read', 'GET', '/2015-03-31/functions/hello', undefined, ['GetFunction', 'ok', 200]],
  ['a write', 'POST', '/2015-03-31/functions', '{}', ['CreateFunction', 'UnsupportedOperationException', 400]],
  ['a path that is none', 'GET', '/', undefined, ['Unknown', 'UnknownOperationException', 404]],
  [
    'a path that cannot be read',
    'GET',
    '/2015-03-31/functions/%ZZ',
    undefined,
    ['Unknown', 'InvalidParameterValueException', 400],
  ],
] as const)('%s is told of once', async (_what, method, path, body, told) => {
  const { lab, seen } = await observedLab();
  await lab.addWorker('hello');
  await fetch(`${lab.url}${path}`, { method, ...(body === undefined ? {} : { body }) });
  // Earlier requests are reported by then.
  await fetch(`${lab.url}/2016-08-19/account-settings`);
  await waitFor('the end of both', () => seen.length >= 2, { everyMs: 5 });
  expect(seen).toEqual([told, ['GetAccountSettings', 'ok', 200]]);
});

it('a request is told of whose client leaves before all of it has come', async () => {
  const { lab, seen } = await observedLab();
  const socket = connect(Number(new URL(lab.url).port), '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  socket.write(`POST ${invocations} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{`);
  // A request on another connection that came later: the first has been begun.
  await fetch(`${lab.url}/2016-08-19/account-settings`);
  socket.destroy();
  await waitFor('the end of both', () => seen.length >= 2, { everyMs: 5 });
  expect(seen.map(([operation]) => operation)).toEqual(['GetAccountSettings', 'Invoke']);
});

it('a request is told of that is refused at the door', async () => {
  const limits = gatewayLimits({ ...DEFAULT_LIMIT_FLAGS, maxRequests: 1 });
  const { lab, seen } = await observedLab({ gateway: { limits } });
  await lab.addWorker('hello');
  const running = Promise.withResolvers<() => void>();
  lab.agent.onInvoke((call) => running.resolve(() => call.answer('{}')));
  const first = lab.invoke('hello');
  const finish = await running.promise;
  await expect(lab.invoke('hello')).rejects.toMatchObject({ name: 'TooManyRequestsException' });
  finish();
  await first;
  await waitFor('the end of both', () => seen.length >= 2, { everyMs: 5 });
  expect(seen).toEqual([
    ['Invoke', 'TooManyRequestsException', 429],
    ['Invoke', 'ok', 200],
  ]);
});
