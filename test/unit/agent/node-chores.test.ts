import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ClusterRanges } from '../../../src/agent/cluster-ranges.ts';
import { startHealthServer } from '../../../src/agent/health-server.ts';
import { lastLines } from '../../../src/agent/log-stream.ts';
import { createAgentMetrics } from '../../../src/agent/metrics.ts';
import { NetworkRepair } from '../../../src/agent/network-repair.ts';
import { forWorkers, refreshResolvConf } from '../../../src/agent/resolv-conf.ts';
import type { Health } from '../../../src/common/health.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { ApiError } from '../../../src/kube/api-error.ts';
import type { WorkerInfo } from '../../../src/runtime/container-runtime.ts';
import { fakeFleet, viewFixture } from '../../support/fake-fleet.ts';
import { manualClock, settle } from '../../support/manual-clock.ts';

describe('what the network was left with', () => {
  function world() {
    const clock = manualClock();
    const attached = new Set<string>();
    const containers = new Set<string>();
    const kept: string[][] = [];
    const repair = new NetworkRepair(
      {
        list: async () => [...attached].map((containerId) => ({ containerId, netnsPath: '', ip: '' })),
        async repair(inUse) {
          kept.push([...inUse].toSorted());
          for (const id of attached) {
            if (!inUse.has(id)) {
              attached.delete(id);
            }
          }
          return [];
        },
      },
      { list: async () => [...containers].map((containerId) => ({ containerId }) as WorkerInfo) },
      clock,
    );
    return { clock, attached, containers, kept, repair };
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

describe('the resolv.conf of workers', () => {
  it('has no servers that only the machine itself can reach', () => {
    expect(forWorkers('# by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.2\n\nsearch example.org\n')).toBe(
      'nameserver 10.0.0.2\nsearch example.org\n',
    );
  });

  it('is taken from the first file with a server that is of use, and rewritten in place', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'esb-resolv-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const [stub, real, path] = ['stub', 'real', 'out'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(stub, 'nameserver 127.0.0.53\n');
    writeFileSync(real, 'nameserver 192.0.2.1\n');
    await refreshResolvConf(path, [stub, real]);
    expect(readFileSync(path, 'utf8')).toBe('nameserver 192.0.2.1\n');
    const { ino } = statSync(path);
    writeFileSync(stub, 'nameserver 192.0.2.9\n');
    await refreshResolvConf(path, [stub, real]);
    expect(readFileSync(path, 'utf8')).toBe('nameserver 192.0.2.9\n');
    expect(statSync(path).ino).toBe(ino);
    await refreshResolvConf(path, [join(folder, 'none')]);
    expect(readFileSync(path, 'utf8')).toBe('\n');
  });
});

describe('ranges of the cluster', () => {
  it('are those given and, once they can be read, those of Nodes and Services', async () => {
    const clock = manualClock();
    let fault: Error | undefined = ApiError.unreachable('list', new Error('refused'));
    const ranges = new ClusterRanges({
      client: {
        list: (async (type: { readonly kind: string }) => {
          if (fault !== undefined) {
            throw fault;
          }
          return type.kind === 'Node'
            ? { items: [{ metadata: { name: 'n1' }, spec: { podCIDRs: ['10.1.0.0/24', 'fd00::/64'] } }] }
            : { items: [{ metadata: { name: 'kubernetes' }, spec: { cidrs: ['10.96.0.0/16'] } }] };
        }) as never,
      },
      given: ['10.100.0.0/16'],
      clock,
      logger: silentLogger(),
    });
    const stop = new AbortController();
    const running = ranges.run(stop.signal).catch(() => undefined);
    await settle();
    expect(ranges.current().map(({ cidr }) => cidr)).toEqual(['10.100.0.0/16']);
    fault = undefined;
    await clock.advance(10_000);
    expect(ranges.current()).toEqual([
      { cidr: '10.100.0.0/16', what: 'a Service range' },
      { cidr: '10.1.0.0/24', what: 'the Pod range of node n1' },
      { cidr: '10.96.0.0/16', what: 'the Service range kubernetes' },
    ]);
    stop.abort();
    await running;
  });
});

describe('health over HTTP', () => {
  it('tells life, readiness and metrics apart', async () => {
    let ready: Health = { ok: false, reason: 'Starting', message: 'not yet' };
    const fleet = fakeFleet();
    fleet.show(viewFixture({ inFlight: 2 }));
    fleet.show(viewFixture({ uid: 'u2', name: 'other', phase: 'Paused' }));
    const metrics = createAgentMetrics({
      fleet: () => fleet,
      health: { conditions: () => [{ type: 'Ready', status: 'False', reason: 'Starting', message: '' }] },
    });
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
