import { describe, expect, it, onTestFinished } from 'vitest';
import { DEFAULT_LIMIT_FLAGS, gatewayLimits } from '../../../src/gateway/admission/gateway-limits.ts';
import { writeOperations } from '../../../src/gateway/http/control-routes.ts';
import { lambdaOperations } from '../../../src/gateway/lambda/generated/operations.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import type { GatewayLab } from '../../support/gateway-lab.ts';
import { openSocket } from '../../support/raw-http.ts';
import { waitFor } from '../../support/wait-for.ts';
import { type ApiRoute, apiRoutes } from '../../support/worst-bodies.ts';
import { writingLab } from '../../support/writing-lab.ts';

/** Operations whose answers are empty. */
const EMPTY: ReadonlySet<string> = new Set([
  'InvokeAsync',
  'DeleteFunction',
  ...writeOperations.map(({ name }) => name).filter((name) => lambdaOperations[name].status === 204),
]);

/** Bytes that a gateway of these tests holds at most. */
const MAX_HELD = 16 * 2 ** 20;

const routes = apiRoutes.filter(({ operation }) => !EMPTY.has(operation));

/** A version that is published is waited for, as no controller makes it: this one is refused. */
function bodyOf({ method, operation }: Pick<ApiRoute, 'method' | 'operation'>): string {
  return method === 'GET' ? '' : operation === 'PublishVersion' ? '{"RevisionId":"other"}' : '{}';
}

function requestOf(route: Pick<ApiRoute, 'method' | 'operation' | 'path'>): string {
  const body = bodyOf(route);
  const { method, path } = route;
  return `${method} ${path} HTTP/1.1\r\nhost: gateway.example\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
}

/** Requests, and bytes of them, that the room of a gateway counts. */
async function heldBy({ gateway }: Pick<GatewayLab, 'gateway'>): Promise<{ requests: number; bytes: number }> {
  const { text } = await gateway.metrics.page();
  const read = (name: string): number => Number(new RegExp(`^esb_gateway_${name} (\\d+)`, 'm').exec(text)?.[1]);
  return { requests: read('requests'), bytes: read('held_bytes') };
}

describe('an answer that cannot go out to its client', () => {
  it('is counted for every operation, until its connection ends', { timeout: 60_000 }, async () => {
    const lab = await writingLab({ maxWaitMs: 100 });
    await lab.addWorker('hello-0', { functionName: 'hello' });
    await lab.addWorker('endless');
    lab.agent.onInvoke((call) => (call.request.worker.name === 'endless' ? undefined : call.answer('"hello"')));
    for (const [at, route] of routes.entries()) {
      lab.functions.put(functionFixture());
      const socket = await openSocket(Number(new URL(lab.url).port));
      onTestFinished(() => void socket.destroy());
      // Answers go out in the order of their requests.
      socket.write(
        requestOf({ operation: 'Invoke', method: 'POST', path: '/2015-03-31/functions/endless/invocations' }),
      );
      await waitFor(
        'the call before',
        () => lab.agent.calls.filter(({ worker }) => worker.name === 'endless').length > at,
        { everyMs: 1 },
      );
      const before = await heldBy(lab);
      socket.write(requestOf(route));
      await waitFor(
        `${route.operation} to be counted`,
        async () => {
          const { bytes, requests } = await heldBy(lab);
          return requests === before.requests + 1 && bytes > before.bytes + bodyOf(route).length;
        },
        { everyMs: 1 },
      );
      socket.destroy();
      await waitFor('nothing to be held', async () => (await heldBy(lab)).bytes === 0, { everyMs: 1 });
      expect((await heldBy(lab)).requests).toBe(0);
    }
  });

  it.each([
    { operation: 'Invoke', path: '/2015-03-31/functions/large/invocations', method: 'POST' },
    { operation: 'GetFunctionConfiguration', path: '/2015-03-31/functions/hello/configuration', method: 'GET' },
  ])('leaves room for calls of other functions ($operation)', async (route) => {
    const limits = gatewayLimits({ ...DEFAULT_LIMIT_FLAGS, maxHeld: MAX_HELD });
    const lab = await writingLab({ gateway: { limits } });
    const env = [{ name: 'TEXT', value: 'v'.repeat(1_000_000) }];
    const { spec } = functionFixture();
    lab.functions.put(functionFixture({ spec: { ...spec, template: { spec: { ...spec.template.spec, env } } } }));
    await lab.addWorker('endless');
    await lab.addWorker('large');
    await lab.addWorker('other');
    lab.agent.onInvoke((call) => {
      const { name } = call.request.worker;
      if (name !== 'endless') {
        call.answer(name === 'large' ? Buffer.alloc(1_000_000, ' ') : '"hello"');
      }
    });
    const socket = await openSocket(Number(new URL(lab.url).port));
    onTestFinished(() => void socket.destroy());
    const endless = { operation: 'Invoke', method: 'POST', path: '/2015-03-31/functions/endless/invocations' };
    socket.write(requestOf(endless) + requestOf(route).repeat(30));
    await waitFor(
      'every answer to be made or refused',
      async () => {
        const { text } = await lab.gateway.metrics.page();
        const counts = text.matchAll(
          new RegExp(
            `^esb_gateway_requests_total\\{operation="${route.operation}",status="(?:200|429)"\\} (\\d+)$`,
            'gm',
          ),
        );
        return [...counts].reduce((sum, [, count]) => sum + Number(count), 0) === 30;
      },
      { everyMs: 5 },
    );
    // Half of the room, and a little more by calls that were under way at once.
    const { bytes } = await heldBy(lab);
    expect(bytes).toBeGreaterThan(0.4 * MAX_HELD);
    expect(bytes).toBeLessThan(0.8 * MAX_HELD);
    const answer = await fetch(`${lab.url}/2015-03-31/functions/other/invocations`, { method: 'POST' });
    expect(`${answer.status} ${await answer.text()}`).toBe('200 "hello"');
  });
});
