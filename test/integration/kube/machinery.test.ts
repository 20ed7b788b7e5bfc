import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { silentLogger } from '../../../src/common/logger.ts';
import { configMaps, events } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { fencedClient } from '../../../src/kube/client/fenced-client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { createStatusApplier } from '../../../src/kube/client/status-apply.ts';
import { LeaderElector } from '../../../src/kube/controller/leader-elector.ts';
import { EventRecorder } from '../../../src/kube/events/event-recorder.ts';
import { referenceTo } from '../../../src/kube/events/event-series.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { waitFor } from '../../support/wait-for.ts';
import { installWidgets, type Widget, widgets } from './support/widget.ts';

const namespace = 'default';
const logger = silentLogger();

let server: ApiServer;
let client: KubeClient;

beforeAll(async () => {
  server = await startApiServer();
  client = createKubeClient({ source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }) });
  await installWidgets(client);
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

describe('status apply', () => {
  const agent = { fieldManager: 'agent', fields: ['phase'], conditions: ['Ready'] };
  const controller = { fieldManager: 'controller', fields: ['place'], conditions: ['Scheduled'] };
  const read = async (name: string): Promise<Widget> => {
    const found = await client.get(widgets, { namespace, name });
    expect(found).toBeDefined();
    return found as Widget;
  };

  test('two writers share a status, each with its own fields and conditions', { tags: ['P24'] }, async () => {
    const object = await client.create(widgets, { metadata: { namespace, name: 'shared' } });
    const ofAgent = createStatusApplier(client, widgets, agent);
    const ofController = createStatusApplier(client, widgets, controller);
    await ofController.apply(object, { place: 'a', conditions: [{ type: 'Scheduled', status: 'True' }] });
    const status = { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] };
    // Behind by one version: a conflict, which is overcome.
    expect((await ofAgent.apply(object, status)).kind).toBe('written');
    const both = await read('shared');
    expect(both.status).toMatchObject({ place: 'a', phase: 'Running' });
    expect(both.status?.conditions).toHaveLength(2);
    expect((await ofAgent.apply(both, status)).kind).toBe('unchanged');
    expect((await ofAgent.apply(both, {})).kind).toBe('written');
    expect((await read('shared')).status).toEqual({
      place: 'a',
      conditions: [{ type: 'Scheduled', status: 'True' }],
    });
  });

  test('an object made again under the name is not told its predecessor’s story', {
    tags: ['M18'],
  }, async () => {
    const first = await client.create(widgets, { metadata: { namespace, name: 'again' } });
    await client.delete(widgets, { namespace, name: 'again' });
    const applier = createStatusApplier(client, widgets, agent);
    expect(await applier.apply(first, { phase: 'Running' })).toEqual({ kind: 'gone' });
    await client.create(widgets, { metadata: { namespace, name: 'again' } });
    expect(await applier.apply(first, { phase: 'Running' })).toEqual({ kind: 'gone' });
    expect((await read('again')).status).toBeUndefined();
  });
});

describe('events', () => {
  test('are shown by kubectl describe, with their count', async () => {
    const object = await client.create(configMaps, { metadata: { namespace, name: 'eventful' } });
    const recorder = new EventRecorder({
      client,
      controller: 'test.dev/tester',
      instance: 'tester-1',
      logger,
    });
    recorder.start();
    const event = {
      regarding: referenceTo(configMaps, object),
      type: 'Warning',
      reason: 'Unwell',
      action: 'Look',
      note: 'it looks unwell',
    } as const;
    recorder.record(event);
    await waitFor('the event', async () => (await client.list(events, { namespace })).items.length === 1);
    recorder.record(event);
    recorder.record(event);
    await recorder.stop(10_000);
    const [stored] = (await client.list(events, { namespace })).items;
    expect(stored).toMatchObject({ reason: 'Unwell', type: 'Warning', regarding: { name: 'eventful' } });
    expect(stored?.series?.count).toBe(3);
    const printed = await server.kubectl(['get', 'events', '-n', namespace]);
    expect(printed).toContain('it looks unwell');
  });
});

describe('leases', () => {
  test('of two candidates one writes, the other follows, and the first one’s writes are fenced', async () => {
    const lease = { namespace: 'kube-system', name: 'leader' };
    const times = { leaseDurationMs: 4000, renewDeadlineMs: 3000, retryMs: 300 };
    const led: string[] = [];
    const candidate = (
      identity: string,
    ): { elector: LeaderElector; writer: KubeClient; leave: () => Promise<void> } => {
      const elector = new LeaderElector({ client, lease, identity, logger, ...times });
      const life = new AbortController();
      const running = elector.run(life.signal, async (signal) => {
        led.push(identity);
        const over = Promise.withResolvers<void>();
        signal.addEventListener('abort', () => over.resolve(), { once: true });
        await over.promise;
      });
      const leave = async (): Promise<void> => {
        life.abort();
        await running;
      };
      onTestFinished(leave);
      return { elector, writer: fencedClient(client, () => elector.isLeader()), leave };
    };
    const one = candidate('one');
    await waitFor('the first leader', () => one.elector.isLeader());
    const two = candidate('two');
    await one.writer.create(configMaps, { metadata: { namespace, name: 'by-one' } });
    await expect(two.writer.create(configMaps, { metadata: { namespace, name: 'by-two' } })).rejects.toMatchObject({
      code: 'NotLeader',
    });
    await one.leave();
    await waitFor('the second leader', () => two.elector.isLeader());
    await expect(one.writer.delete(configMaps, { namespace, name: 'by-one' })).rejects.toMatchObject({
      code: 'NotLeader',
    });
    await two.writer.delete(configMaps, { namespace, name: 'by-one' });
    expect(led).toEqual(['one', 'two']);

    server.pause();
    try {
      await waitFor('the end of the term', () => !two.elector.isLeader());
    } finally {
      server.continue();
    }
    await waitFor('the next term', () => two.elector.isLeader());
  });
});
