import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type GatewayProcess, type LaunchedGateway, startGatewayProcess } from '../../support/gateway-process.ts';
import { waitFor } from '../../support/wait-for.ts';

/** Gateway with a store of its own, whose accepted events the role takes over. */
let old: GatewayProcess;

beforeAll(async () => {
  old = await startGatewayProcess(['--authentication', 'off', '--log-level', 'warn']);
  await old.addWorker('tally');
});

afterAll(() => old.close());

async function call({ port }: Pick<LaunchedGateway, 'port'>, type: 'Event' | 'RequestResponse', number: number) {
  const answer = await fetch(`http://127.0.0.1:${port}/2015-03-31/functions/tally/invocations`, {
    method: 'POST',
    headers: { 'x-amz-invocation-type': type },
    body: JSON.stringify({ number }),
  });
  return { status: answer.status, error: answer.headers.get('x-amzn-errortype'), text: await answer.text() };
}

it('takes over the folder of a gateway, and keeps the events of two that have none', { timeout: 180_000 }, async () => {
  const ran = new Set<number>();
  let refuses = true;
  old.agent.onInvoke((call) => {
    if (refuses) {
      call.refuse('NodeFull', 'on purpose');
      return;
    }
    ran.add((JSON.parse(call.request.payload.toString()) as { number: number }).number);
    call.answer('{}');
  });
  expect(await call(old, 'Event', 1)).toMatchObject({ status: 202 });

  // Both are there for a while, as in an upgrade: the role waits for the folder.
  const role = await old.startRole('state');
  // Nothing may happen meanwhile.
  await delay(2_000);
  expect(role.process.ended()).toBe(false);
  await old.terminate(60_000);
  refuses = false;
  await role.ready();
  const first = await old.startPeer('main', old.roleFlag);
  await waitFor('the event of before', () => ran.has(1), { timeoutMs: 60_000 });

  // Ready means that the first list has come.
  const second = await old.startPeer('main', [...old.roleFlag, '--state-dir', `${first.stateDir}-2`]);
  expect(await call(first, 'Event', 2)).toMatchObject({ status: 202 });
  expect(await call(second, 'Event', 3)).toMatchObject({ status: 202 });
  await waitFor('the events of both gateways', () => ran.has(2) && ran.has(3), { timeoutMs: 60_000 });

  await role.kill();
  expect(await call(first, 'Event', 4)).toMatchObject({ status: 503, error: 'ServiceException' });
  expect(await call(second, 'RequestResponse', 5)).toMatchObject({ status: 200 });
  expect(await first.metric('esb_gateway_event_store_up')).toBe(0);
  await role.start();
  await role.ready();
  expect(await call(first, 'Event', 6)).toMatchObject({ status: 202 });
  await waitFor('the event after that', () => ran.has(6), { timeoutMs: 60_000 });
  expect(await first.metric('esb_gateway_event_store_up')).toBe(1);
});
