import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { NetworkGarbageCollector } from '../../../src/agent/gc/network-gc.ts';
import { lastLines } from '../../../src/agent/logs/log-query.ts';
import { createAgentMetrics } from '../../../src/agent/metrics.ts';
import { ClusterCidrs } from '../../../src/agent/node/cluster-cidrs.ts';
import type { Health } from '../../../src/common/health.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { startHealthServer } from '../../../src/common/net/health-server.ts';
import { ApiError } from '../../../src/kube/api/api-error.ts';
import type { ConfigMap, Node } from '../../../src/kube/api/resource-types.ts';
import { createObjectCache } from '../../../src/kube/cache/object-cache.ts';
import type { WorkerInfo } from '../../../src/runtime/contract/runtime.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { manualClock, settle } from '../../support/manual-clock.ts';

describe('what the network was left with', () => {
  function world() {
    const clock = manualClock();
    const attached = new Set<string>();
    const containers = new Set<string>();
    const kept: string[][] = [];
    let meanwhile = async (): Promise<void> => undefined;
    const repair = new NetworkGarbageCollector(
      {
        list: async () => [...attached].map((containerId) => ({ containerId, netnsPath: '', ip: '' })),
        async repair(inUse, { unclaimed } = {}) {
          kept.push([...inUse].toSorted());
          for (const id of attached) {
            if (!inUse.has(id) && (unclaimed?.has(id) ?? true)) {
              attached.delete(id);
            }
          }
          return [];
        },
      },
      {
        list: async () => {
          await meanwhile();
          return [...containers].map((containerId) => ({ containerId }) as WorkerInfo);
        },
      },
      clock,
    );
    return {
      clock,
      attached,
      containers,
      kept,
      repair,
      whileListing: (action: () => Promise<void>) => {
        meanwhile = action;
      },
    };
  }

  it('keeps an attachment whose worker is in the making, and takes one that nobody claims in the end', async () => {
    const { clock, attached, containers, kept, repair } = world();
    attached.add('used').add('making').add('left');
    containers.add('used');
    await repair.look();
    expect(kept.at(-1)).toEqual(['left', 'making', 'used']);
    containers.add('making');
    await clock.advance(60_000);
    await repair.look();
    expect(kept.at(-1)).toEqual(['left', 'making', 'used']);
    await clock.advance(61_000);
    await repair.look();
    expect(kept.at(-1)).toEqual(['making', 'used']);
  });

  it('leaves alone what is attached while containers are listed', async () => {
    const { attached, repair, whileListing } = world();
    attached.add('early');
    whileListing(async () => {
      attached.add('late');
    });
    await repair.look();
    expect([...attached].toSorted()).toEqual(['early', 'late']);
  });

  it('begins to wait anew when a container came and went in between', async () => {
    const { clock, attached, containers, kept, repair } = world();
    attached.add('a');
    await repair.look();
    containers.add('a');
    await clock.advance(100_000);
    await repair.look();
    containers.delete('a');
    await clock.advance(100_000);
    await repair.look();
    expect(kept.at(-1)).toEqual(['a']);
  });
});

describe('ranges of the cluster', () => {
  async function temporaryFolder(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'esb-ranges-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    return folder;
  }

  it('are those given, of the own Node, of all Nodes as published, and of Services once they can be read', async () => {
    const clock = manualClock();
    let fault: Error | undefined = ApiError.unreachable('list', new Error('refused'));
    const asked: string[] = [];
    const ownNode = createObjectCache<Node>();
    const published = createObjectCache<ConfigMap>();
    const ranges = new ClusterCidrs({
      client: {
        list: (async (type: { readonly kind: string }) => {
          asked.push(type.kind);
          if (fault !== undefined) {
            throw fault;
          }
          return { items: [{ metadata: { name: 'kubernetes' }, spec: { cidrs: ['10.96.0.0/16'] } }] };
        }) as never,
      },
      given: ['10.100.0.0/16'],
      ownNode,
      published,
      hasSynced: () => false,
      file: join(await temporaryFolder(), 'ranges'),
      clock,
      logger: silentLogger(),
      random: () => 0,
    });
    const stop = new AbortController();
    const running = ranges.run(stop.signal).catch(() => undefined);
    await settle();
    expect(ranges.current().map(({ cidr }) => cidr)).toEqual(['10.100.0.0/16']);
    fault = undefined;
    await clock.advance(10_000);
    ownNode.set({ metadata: { name: 'n1' }, spec: { podCIDRs: ['10.1.0.0/24', 'fd00::/64'] } });
    const withoutController = [
      { cidr: '10.100.0.0/16', what: 'a Service range' },
      { cidr: '10.1.0.0/24', what: 'the Pod range of node n1' },
      { cidr: 'fd00::/64', what: 'the Pod range of node n1' },
      { cidr: '10.96.0.0/16', what: 'the Service range kubernetes' },
    ];
    expect(ranges.current()).toEqual(withoutController);
    published.set({
      metadata: { name: 'esb-cluster-ranges', namespace: 'esb-system' },
      data: { podCIDRs: '10.1.0.0/24\n10.1.1.0/24\nnonsense\n' },
    });
    expect(ranges.current()).toEqual([
      ...withoutController.slice(0, 3),
      { cidr: '10.1.1.0/24', what: 'a Pod range of the cluster' },
      ...withoutController.slice(3),
    ]);
    await clock.advance(1_200_000);
    expect(new Set(asked)).toEqual(new Set(['ServiceCIDR']));
    stop.abort();
    await running;
  });

  it('are those of an earlier run until all were read again', async () => {
    const file = join(await temporaryFolder(), 'ranges');
    const clock = manualClock();
    const start = (services: () => Promise<readonly string[]>) => {
      const [ownNode, stop] = [createObjectCache<Node>(), new AbortController()];
      let hasSynced = false;
      const list = async () => ({ items: [{ metadata: { name: 'kubernetes' }, spec: { cidrs: await services() } }] });
      const ranges = new ClusterCidrs({
        client: { list: list as never },
        given: [],
        ownNode,
        published: createObjectCache<ConfigMap>(),
        hasSynced: () => hasSynced,
        file,
        clock,
        logger: silentLogger(),
      });
      const running = ranges.run(stop.signal).catch(() => undefined);
      onTestFinished(async () => {
        stop.abort();
        await running;
      });
      return {
        current: () => ranges.current().map(({ cidr }) => cidr),
        sync: (podCIDRs: readonly string[]) => {
          ownNode.set({ metadata: { name: 'n1' }, spec: { podCIDRs } });
          hasSynced = true;
        },
      };
    };
    const earlier = start(() => Promise.resolve(['10.96.0.0/16']));
    earlier.sync(['10.1.0.0/24']);
    await vi.waitFor(async () => expect(await readFile(file, 'utf8')).toBe('10.1.0.0/24\n10.96.0.0/16'));

    const away = start(() => Promise.reject(ApiError.unreachable('list', new Error('refused'))));
    expect(away.current()).toEqual(['10.1.0.0/24', '10.96.0.0/16']);

    const later = start(() => Promise.resolve(['10.98.0.0/16']));
    await settle();
    // Without the Pods of the Node, which another request brings.
    expect(later.current()).toEqual(['10.98.0.0/16', '10.1.0.0/24', '10.96.0.0/16']);
    later.sync(['10.2.0.0/24']);
    expect(later.current()).toEqual(['10.2.0.0/24', '10.98.0.0/16']);
    await clock.advance(10_000);
    await vi.waitFor(async () => expect(await readFile(file, 'utf8')).toBe('10.2.0.0/24\n10.98.0.0/16'));
  });
});

describe('health over HTTP', () => {
  it('tells life, readiness and metrics apart', async () => {
    let ready: Health = { ok: false, reason: 'Starting', message: 'not yet' };
    const fleet = fakeFleet();
    fleet.show(viewFixture({ inFlight: 2 }));
    fleet.show(viewFixture({ uid: 'u2', name: 'other', phase: 'Paused' }));
    const metrics = createAgentMetrics('1.2.3');
    metrics.observe({
      fleet,
      health: { conditions: () => ({ Ready: { status: 'False', reason: 'Starting', message: '' } }) },
      slots: () => ({ ready: 3, wanted: 4 }),
      eventLoop: () => ({ mean: 0, p50: 0, p99: 0.002, max: 0.02 }),
      heldBytes: () => 4_711,
      refusals: () => Promise.resolve({ node: 1, metadata: 2, worker: 0, range: 0, source: 0, egress: 0 }),
      images: () => ({
        usedPercent: 79.5,
        removed: 2,
        freedBytes: 4_096,
        failed: 1,
        underPressure: false,
      }),
    });
    metrics.stage('thaw', 0.4);
    metrics.limitReached('processes', 3);
    metrics.pullBegan();
    metrics.pullBegan();
    metrics.pullEnded(1_500, 'ok');
    metrics.pullEnded(10, 'ImageNotFound');
    metrics.action('Start', 120, 'ok');
    metrics.action('Start', 120, 'CreateFailed');
    metrics.leftoverFound('cgroup');
    metrics.leftoverRemoved('cgroup');
    metrics.leftoverFailed('mount');
    metrics.orphan('found', 'a-00000001');
    metrics.audited(20, true);
    metrics.invoked({ kind: 'Refused', reason: 'Fenced', message: '' });
    metrics.invoked({
      kind: 'Answered',
      stamp: '',
      timings: { queued: 10, wake: 900, run: 2_000, start: 'paused' },
    });
    metrics.statusWritten('written');
    const server = await startHealthServer(
      { host: '127.0.0.1', port: 0 },
      {
        ready: () => ready,
        metricsPage: () => metrics.page(),
      },
    );
    onTestFinished(() => server.close());
    const get = async (path: string): Promise<string> => {
      const answer = await fetch(`http://127.0.0.1:${server.address.port}${path}`);
      return `${answer.status} ${await answer.text()}`;
    };
    expect(await get('/healthz')).toBe('200 ok\n');
    expect(await get('/readyz')).toBe('503 Starting: not yet\n');
    ready = { ok: true };
    expect(await get('/readyz')).toBe('200 ok\n');
    const page = await get('/metrics');
    for (const line of [
      'esb_agent_workers{phase="Running"} 1',
      'esb_agent_workers{phase="Paused"} 1',
      'esb_agent_in_flight_calls 2',
      'esb_agent_node_condition{type="Ready"} 0',
      'esb_agent_invocations_total{outcome="Refused",reason="Fenced"} 1',
      'esb_agent_invocations_total{outcome="Answered",reason=""} 1',
      'esb_agent_wake_seconds_count{start="paused"} 1',
      'esb_agent_status_writes_total{result="written"} 1',
      'esb_agent_lease_renewals_total{result="failed"} 0',
      'esb_agent_queued_calls 1',
      'esb_agent_starts_total{kind="resumed"} 1',
      'esb_agent_starts_total{kind="cold"} 0',
      'esb_agent_start_stage_seconds_bucket{le="0.0005",stage="thaw"} 1',
      'esb_agent_start_stage_seconds_count{stage="network"} 0',
      'esb_agent_pulls_in_progress 0',
      'esb_agent_pulls_total{result="ok"} 1',
      'esb_agent_pulls_total{result="ImageNotFound"} 1',
      'esb_agent_pull_seconds_count 1',
      'esb_agent_image_disk_used_ratio 0.795',
      'esb_agent_images_removed_total 2',
      'esb_agent_image_bytes_freed_total 4096',
      'esb_agent_image_removals_failed_total 1',
      'esb_agent_action_seconds_count{action="Start",result="failed"} 1',
      'esb_agent_action_failures_total{action="Start",code="CreateFailed"} 1',
      'esb_agent_network_slots{state="ready"} 3',
      'esb_agent_network_slots{state="wanted"} 4',
      'esb_agent_leaks_found_total{kind="cgroup"} 1',
      'esb_agent_leaks_found_total{kind="container"} 1',
      'esb_agent_leaks_repaired_total{kind="cgroup"} 1',
      'esb_agent_leaks_repaired_total{kind="address"} 0',
      'esb_agent_leaks_failed_total{kind="mount"} 1',
      'esb_agent_audits_total{result="ok"} 1',
      'esb_agent_event_loop_delay_seconds{statistic="p99"} 0.002',
      `esb_agent_build_info{version="1.2.3",node_version="${process.versions.node}"} 1`,
    ]) {
      expect(page).toContain(line);
    }
    await expect(
      startHealthServer(server.address, { ready: () => ready, metricsPage: () => metrics.page() }),
    ).rejects.toMatchObject({ code: 'AddressInUse' });
  });
});

describe('the last lines of a log', () => {
  it.each([
    ['a\nb\nc\n', 2, 'b\nc\n'],
    ['a\nb\nc', 1, 'c'],
    ['a\nb\n', 5, 'a\nb\n'],
    ['a\nb\n', 0, 'a\nb\n'],
    ['', 3, ''],
    ['\n\n\n', 1, '\n'],
  ])('of %j, %i of them, are %j', (text, count, expected) => {
    expect(lastLines(Buffer.from(text), count).toString()).toBe(expected);
  });
});
