import { Registry } from 'prom-client';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Health } from '../../../../src/common/health.ts';
import { startHealthServer } from '../../../../src/common/net/health-server.ts';
import { registerControllerMetrics } from '../../../../src/controller/metrics/controller-metrics.ts';
import { registerReconcilerMetrics } from '../../../../src/controller/metrics/reconciler-metrics.ts';

describe('the health server', () => {
  it('tells life, readiness and metrics', async () => {
    let health: Health = {
      ok: false,
      reason: 'DefinitionMissing',
      message: 'apply the resource definitions in crds/',
    };
    const registry = new Registry();
    const metrics = registerControllerMetrics(registry, {
      phases: () => ['Running', 'Running', 'Running'],
      livenesses: () => ['fresh', 'fresh'],
    });
    registerReconcilerMetrics(registry).reconciled('workers', 'success', 12);
    metrics.written('moved');
    metrics.leader(true);
    const metricsPage = async () => ({ contentType: registry.contentType, text: await registry.metrics() });
    const server = await startHealthServer({ host: '127.0.0.1', port: 0 }, { ready: () => health, metricsPage });
    onTestFinished(() => server.close());
    const get = async (path: string) => {
      const answer = await fetch(`http://127.0.0.1:${server.address.port}${path}`);
      return { status: answer.status, text: await answer.text() };
    };

    expect(await get('/healthz')).toEqual({ status: 200, text: 'ok\n' });
    expect(await get('/readyz')).toEqual({
      status: 503,
      text: 'DefinitionMissing: apply the resource definitions in crds/\n',
    });
    health = { ok: true };
    expect((await get('/readyz')).status).toBe(200);
    const { text } = await get('/metrics');
    for (const line of [
      'esb_controller_status_writes_total{cause="moved"} 1',
      'esb_controller_status_writes_total{cause="assigned"} 0',
      'esb_controller_leader 1',
      'esb_workers{phase="Running"} 3',
      'esb_nodes{liveness="fresh"} 2',
      'esb_reconcile_total{name="workers",outcome="success"} 1',
      'esb_reconcile_total{name="certificate-requests",outcome="error"} 0',
      'esb_workqueue_depth{name="workers"} 0',
    ]) {
      expect(text).toContain(line);
    }
    await expect(startHealthServer(server.address, { ready: () => health, metricsPage })).rejects.toMatchObject({
      code: 'AddressInUse',
    });
  });
});
