import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { AgentClient } from './support/agent-client.ts';
import { instance } from './support/instance.ts';
import { Parts } from './support/parts.ts';

/** Five minutes in full (`ESB_OUTAGE_SECONDS=300`). */
const outageSeconds = Number(process.env.ESB_OUTAGE_SECONDS ?? 20);

describe('two nodes', () => {
  const esb = instance();
  const parts = new Parts(esb);

  const assignmentsOf = async (names: readonly string[]) =>
    Promise.all(names.map(async (name) => (await esb.worker(name)).status?.assignment));

  /** Four workers of one function each, wherever the controller puts them. */
  async function fourWorkers(prefix: string): Promise<readonly string[]> {
    const names = [1, 2, 3, 4].map((index) => `${prefix}-${index}`);
    for (const name of names) {
      await esb.apply(name);
    }
    for (const name of names) {
      await esb.ready(name);
    }
    return names;
  }

  /** Placement prefers a node that has the image, and a node tells of its images once a minute. */
  async function imageOnBoth(): Promise<void> {
    for (const nodeName of ['node-1', 'node-2']) {
      await esb.apply(`image-${nodeName}`, { nodeName });
      await esb.ready(`image-${nodeName}`);
      await esb.delete(`image-${nodeName}`);
    }
    for (const nodeName of ['node-1', 'node-2']) {
      await waitFor(
        `${nodeName} to tell of the image`,
        async () => {
          const { stdout } = await esb.kubectl(['get', 'lambdanode', nodeName, '-o', 'jsonpath={.status.images}']);
          return stdout.includes(esb.image('python-counter'));
        },
        { timeoutMs: 90_000 },
      );
    }
  }

  it('share the workers', async () => {
    await imageOnBoth();
    const nodes = (await assignmentsOf(await fourWorkers('shared'))).map((found) => found?.nodeName);
    expect(new Set(nodes)).toEqual(new Set(['node-1', 'node-2']));
  });

  it('a cordoned node gets no new worker and keeps the ones it has', async () => {
    await esb.kubectl(['patch', 'lambdanode', 'node-1', '--type=merge', '-p', '{"spec":{"unschedulable":true}}']);
    onTestFinished(async () => {
      await esb.kubectl(['patch', 'lambdanode', 'node-1', '--type=merge', '-p', '{"spec":{"unschedulable":false}}']);
    });
    const nodes = (await assignmentsOf(await fourWorkers('cordon'))).map((found) => found?.nodeName);
    expect(nodes).toEqual(['node-2', 'node-2', 'node-2', 'node-2']);
  });

  it(`an API server frozen for ${outageSeconds} s moves nobody`, {
    timeout: (outageSeconds + 120) * 1_000,
  }, async () => {
    const names = await fourWorkers('frozen');
    const before = await assignmentsOf(names);
    {
      await using _frozen = await parts.freeze('apiserver');
      // The length of the outage is what is tested.
      await delay(outageSeconds * 1_000);
    }
    // A controller reads the Leases of nodes every five seconds.
    await delay(6_000);
    expect(await assignmentsOf(names)).toEqual(before);
    for (const name of names) {
      expect((await esb.invoke(name)).payload.message).toBe(`hello from ${name}`);
    }
  });

  it('a lost node is taken over within 90 s, and answers nothing of the old when it returns', {
    tags: ['P30'],
  }, async () => {
    await imageOnBoth();
    const names = await fourWorkers('lost');
    const before = await Promise.all(names.map((name) => esb.worker(name)));
    const moved = before.filter((worker) => worker.status?.assignment?.nodeName === 'node-2');
    expect(moved.length).toBeGreaterThan(0);
    const boot = new Map<string, string>();
    for (const { metadata } of moved) {
      boot.set(metadata.name, (await esb.invoke(metadata.name)).payload.bootId);
    }
    onTestFinished(async () => {
      await parts.start('containerd-node-2');
      await parts.start('agent-node-2');
    }, 60_000);
    await parts.kill('agent-node-2');
    await parts.kill('containerd-node-2');
    const lostAt = performance.now();
    for (const { metadata } of moved) {
      await waitFor(
        `${metadata.name} to serve from the other node`,
        async () => (await esb.invoke(metadata.name)).payload.bootId !== boot.get(metadata.name),
        { timeoutMs: 90_000 - (performance.now() - lostAt), everyMs: 500 },
      );
    }
    const after = await Promise.all(moved.map(({ metadata }) => esb.worker(metadata.name)));
    for (const [index, worker] of after.entries()) {
      expect(worker.status?.assignment?.nodeName).toBe('node-1');
      expect(worker.status?.assignment?.epoch).toBeGreaterThan(moved[index]?.status?.assignment?.epoch ?? 0);
    }
    await parts.start('containerd-node-2');
    await parts.start('agent-node-2');
    const agent = await AgentClient.of(esb, 'node-2');
    const [first] = moved;
    const stale = {
      namespace: 'default',
      name: first?.metadata.name ?? '',
      uid: first?.metadata.uid ?? '',
    };
    const outcomes = new Set<string>();
    await waitFor(
      'the leftovers to be removed',
      async () => {
        const { outcome, reason } = await agent.invoke(stale, first?.status?.assignment?.epoch ?? 0);
        outcomes.add(`${outcome} ${reason}`);
        const { stdout } = await esb.ctr(['containers', 'ls', '-q'], 'node-2');
        return moved.every((worker) => !stdout.includes(worker.status?.containerID ?? 'none'));
      },
      { timeoutMs: 120_000, everyMs: 300 },
    );
    const { outcome, reason } = await agent.invoke(stale, first?.status?.assignment?.epoch ?? 0);
    outcomes.add(`${outcome} ${reason}`);
    const answered = [...outcomes].filter((text) => !/^(OUTCOME_REFUSED|UNREACHABLE)/.test(text));
    expect(answered).toEqual([]);
    expect(outcome).toBe('OUTCOME_REFUSED');
    for (const { metadata } of moved) {
      expect((await esb.invoke(metadata.name)).payload.bootId).not.toBe(boot.get(metadata.name));
    }
  });
});
