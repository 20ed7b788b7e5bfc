import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { listenOn } from '../../../src/common/net/listen.ts';
import { openEventStore } from '../../../src/gateway/events/event-store-choice.ts';
import { runGateway } from '../../../src/gateway/main.ts';
import { gatewayFlags } from '../../../src/options/gateway.ts';
import { freePort } from '../../support/free-port.ts';
import { kubeconfigFor } from '../../support/kubeconfig.ts';
import { optionsOf } from '../../support/options.ts';

it('a gateway whose state folder another one has is told so', async () => {
  const stateDir = await mkdtemp(join(tmpdir(), 'esb-gateway-main-'));
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }));
  const { events } = optionsOf(gatewayFlags, []);
  const context = { env: {}, clock: systemClock, logger: silentLogger() };
  const store = await openEventStore({ stateDir, namespace: 'default', events }, context);
  onTestFinished(() => store.close());
  await expect(openEventStore({ stateDir, namespace: 'default', events }, context)).rejects.toMatchObject({
    code: 'EventStoreLocked',
    message: expect.stringContaining('give each its own --state-dir'),
  });
});

it('a gateway that cannot start lets go of its events', async () => {
  const stateDir = await mkdtemp(join(tmpdir(), 'esb-gateway-main-'));
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }));
  const port = await freePort();
  const other = createServer();
  await listenOn(other, { host: '127.0.0.1', port });
  onTestFinished(() => void other.close());
  const config = optionsOf(gatewayFlags, [
    ...['--state-dir', stateDir, '--kubeconfig', kubeconfigFor('http://127.0.0.1:9')],
    ...['--listen', '127.0.0.1:0', '--health', `127.0.0.1:${port}`],
  ]);
  const logger = silentLogger();
  const running = runGateway(config, { signal: new AbortController().signal, logger });
  await expect(running).rejects.toMatchObject({ code: 'AddressInUse' });
  const store = await openEventStore(
    { stateDir, namespace: 'default', events: config.events },
    { env: {}, clock: systemClock, logger },
  );
  expect(store.health()).toEqual({ ok: true });
  await store.close();
});

it('a gateway that asks no caller who it is lets none change functions', async () => {
  const config = optionsOf(gatewayFlags, ['--control-api', '--authentication=off']);
  const running = runGateway(config, { signal: new AbortController().signal, logger: silentLogger() });
  await expect(running).rejects.toMatchObject({
    code: 'InvalidArgument',
    message: expect.stringContaining('--control-api needs --authentication on'),
  });
});

it.each(['--event-store=postgres', '--event-database-file=/etc/esb/event-database/url'])(
  'a gateway that is to keep its events in two places does not start: %s beside a role',
  async (flag) => {
    const config = optionsOf(gatewayFlags, [flag, '--events-address=127.0.0.1:9444']);
    const running = runGateway(config, { signal: new AbortController().signal, logger: silentLogger() });
    await expect(running).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: expect.stringContaining('has no meaning with --events-address: the role there keeps the events'),
    });
  },
);
