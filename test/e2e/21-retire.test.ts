import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { LambdaNode } from '../../src/api/lambda-node.ts';
import { namespacePrefix } from '../../src/cni/attachments/attachment-store.ts';
import { run } from '../support/command.ts';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';

const program = resolve(import.meta.dirname, '../../local/main.ts');
const placedOn = { 'retire-1': 'node-1', 'retire-2': 'node-2', 'retire-3': 'node-1', 'retire-4': 'node-2' };
const names = Object.keys(placedOn);
const conditionOf = (node: LambdaNode, type: string) =>
  node.status?.conditions?.find((condition) => condition.type === type);

describe('a node that ESB is to leave', () => {
  const esb = instance();

  const node = async (name: string): Promise<LambdaNode> =>
    JSON.parse((await esb.kubectl(['get', 'lambdanode', name, '-o', 'json'])).stdout) as LambdaNode;
  const nodesOf = async (): Promise<readonly (string | undefined)[]> =>
    Promise.all(names.map(async (name) => (await esb.worker(name)).status?.assignment?.nodeName));
  const onNode2 = async (...command: readonly string[]): Promise<string> =>
    (await run('nsenter', ['--net=/run/netns/esb-node-2', ...command])).stdout;

  it('gives its workers to the other node while they are called, is left without a trace, and can come back', {
    timeout: 240_000,
  }, async () => {
    for (const [name, nodeName] of Object.entries(placedOn)) {
      // The first call starts the runtime, here and on the other node, while everything else is called.
      await esb.apply(name, { nodeName, timeoutSeconds: 20 });
    }
    for (const name of names) {
      await esb.ready(name);
      // The pin gives the first place alone. Without it all would go to one node where no other has the image yet.
      await esb.patch(name, { nodeName: null });
    }
    for (const name of names) {
      await esb.waitForWorker(
        name,
        'seen without its pin',
        ({ metadata, status }) => status?.observedGeneration === metadata.generation,
      );
    }
    expect(await nodesOf()).toEqual(Object.values(placedOn));
    const state = join(esb.home, 'nodes', 'node-2', 'agent');
    expect(existsSync(state)).toBe(true);
    // Longer than the grace period of its process, which is 10 seconds.
    await esb.apply('retire-long', { nodeName: 'node-2', timeoutSeconds: 60 });
    const { status } = await esb.ready('retire-long');
    const long = esb.invoke('retire-long', { print: 'in the middle', sleep: 15 });
    await waitFor('the long call to be in its worker', async () =>
      (await esb.workerLog(status?.containerID ?? '', 'node-2')).includes('in the middle'),
    );

    const client = esb.lambda();
    let retired = false;
    const calls = names.map(async (name) => {
      const failures: string[] = [];
      let answered = 0;
      while (!retired) {
        try {
          const { payload } = await esb.invoke(name, {}, { client });
          if (payload.message === `hello from ${name}`) {
            answered += 1;
          } else {
            failures.push(JSON.stringify(payload));
          }
        } catch (error) {
          failures.push(String(error));
        }
        // Without it four callers take the processors that the workers start on.
        await delay(20);
      }
      return { answered, failures };
    });
    try {
      const { stdout } = await run(process.execPath, [program, 'retire', 'node-2', '--timeout', '120'], {
        env: { ...process.env, ESB_HOME: esb.home },
        timeoutMs: 150_000,
      });
      expect(stdout).toMatch(/node-2: left\n$/);
    } finally {
      retired = true;
    }
    for (const { answered, failures } of await Promise.all(calls)) {
      expect(failures).toEqual([]);
      expect(answered).toBeGreaterThan(0);
    }
    expect((await long).payload, 'a call is not cut off by a move').toMatchObject({
      message: 'hello from retire-long',
      counter: 1,
    });

    expect(await nodesOf()).toEqual(['node-1', 'node-1', 'node-1', 'node-1']);
    expect(conditionOf(await node('node-2'), 'Ready')).toMatchObject({ status: 'True', reason: 'Left' });
    expect(existsSync(state)).toBe(false);
    expect(await onNode2('ip', '-o', 'link', 'show', 'type', 'bridge')).toBe('');
    expect(await onNode2('nft', 'list', 'tables')).toBe('');
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(namespacePrefix(state)))).toEqual([]);
    expect((await esb.ctr(['namespaces', 'list', '-q'], 'node-2')).stdout).not.toContain('esb');

    await esb.kubectl(['patch', 'lambdanode', 'node-2', '--type=merge', '-p', '{"spec":{"retired":false}}']);
    await waitFor(
      'the node to be back',
      async () => {
        const back = await node('node-2');
        return conditionOf(back, 'Ready')?.reason === 'Ready' && conditionOf(back, 'Retired') === undefined;
      },
      { timeoutMs: 60_000 },
    );
    await esb.apply('retire-back', { nodeName: 'node-2' });
    await esb.ready('retire-back');
    expect((await esb.invoke('retire-back')).payload.message).toBe('hello from retire-back');
  });

  it('has the deletion of a worker that it left wait for the call in it', { timeout: 180_000 }, async () => {
    const name = 'retire-deleted';
    await esb.apply(name, { nodeName: 'node-2', timeoutSeconds: 60 });
    const { metadata, status } = await esb.ready(name);
    const pid = await esb.taskPid(status?.containerID ?? '', 'node-2');
    let isOver = false;
    const long = esb.invoke(name, { print: 'in the middle', sleep: 5 }).finally(() => {
      isOver = true;
    });
    await waitFor('the long call to be in its worker', async () =>
      (await esb.workerLog(status?.containerID ?? '', 'node-2')).includes('in the middle'),
    );
    // From now on the call lasts as long as the test wants.
    process.kill(pid, 'SIGSTOP');
    await esb.patch(name, { nodeName: 'node-1' });
    await waitFor('node-2 to tell that a container is left', async () =>
      (await node('node-2')).status?.leaving?.includes(metadata.uid ?? ''),
    );
    await esb.kubectl(['delete', 'lambdaworker', name, '--wait=false']);
    const kept = await esb.waitForWorker(
      name,
      'removed from its new node',
      (worker) => worker.status?.conditions?.find(({ type }) => type === 'CleanedUp')?.status === 'True',
    );
    expect(kept.metadata.finalizers).toContain('esb.dev/worker');
    expect(isOver, 'the call is in it still').toBe(false);
    process.kill(pid, 'SIGCONT');
    expect((await long).payload.message).toBe(`hello from ${name}`);
    await esb.kubectl(['wait', '--for=delete', `lambdaworker/${name}`, '--timeout=60s']);
    expect((await node('node-2')).status?.leaving).toEqual([]);
  });
});
