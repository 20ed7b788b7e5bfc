import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LambdaNode } from '../../../src/api/lambda-node.ts';
import { namespacePrefix } from '../../../src/cni/attachments/attachment-store.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

describe('a node that is retired', () => {
  let lab: AgentLab;

  const retiredOf = ({ status }: LambdaNode) => status?.conditions?.find(({ type }) => type === 'Retired');
  const retire = (retired: boolean): Promise<string> =>
    lab.api.kubectl(['patch', 'ln', lab.nodeName, '--type=merge', '-p', JSON.stringify({ spec: { retired } })]);
  const namespacesOfNode = (): string[] =>
    readdirSync('/run/netns').filter((name) => name.startsWith(namespacePrefix(lab.stateDir)));
  const controlGroups = (): string[] =>
    ['', ...readdirSync('/sys/fs/cgroup')]
      .map((hierarchy) => join('/sys/fs/cgroup', hierarchy, lab.lab.cgroupParent))
      .filter((folder) => existsSync(folder));

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent();
    await lab.untilServing();
    await Promise.all([
      lab.apply('runs'),
      lab.apply('sleeps', { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } }),
      lab.apply('rests', { desiredState: 'Absent' }),
    ]);
    await Promise.all([lab.waitForPhase('runs', 'Running'), lab.waitForPhase('sleeps', 'Paused')]);
    await lab.waitForPhase('rests', 'Absent');
  });
  afterAll(() => lab?.close());

  it('goes on serving its workers until the controller has taken them away', async () => {
    expect(retiredOf(await lab.node())).toBeUndefined();
    await retire(true);
    const node = await lab.waitForNode('to be draining', (found) => retiredOf(found) !== undefined);
    expect(retiredOf(node)).toMatchObject({ status: 'False', reason: 'Draining' });
    expect(await lab.invoke(await lab.worker('runs'))).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    expect(await lab.invoke(await lab.worker('sleeps'))).toMatchObject({ start: 'paused' });
  });

  it('stays when somebody takes it back', async () => {
    await retire(false);
    await lab.waitForNode('not to be draining any more', (found) => retiredOf(found) === undefined);
    expect(await lab.invoke(await lab.worker('runs'))).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
  });

  it('is left without a trace once its workers are gone, and the agent says so', async () => {
    expect(namespacesOfNode()).not.toEqual([]);
    expect(controlGroups()).not.toEqual([]);
    await retire(true);
    for (const name of ['runs', 'sleeps', 'rests']) {
      await lab.patch(name, { status: { assignment: null } }, 'status');
    }
    const node = await lab.waitForNode('to be left', (found) => retiredOf(found)?.status === 'True');
    expect(retiredOf(node)).toMatchObject({ reason: 'Left' });
    expect(node.status).toMatchObject({ allocated: { memoryMiB: 0, workers: 0 }, images: [] });
    expect(node.status?.conditions?.find(({ type }) => type === 'Ready')).toMatchObject({
      status: 'True',
      reason: 'Left',
    });

    expect(await lab.lab.ctr('namespaces', 'list', '-q')).not.toContain('esb');
    expect(namespacesOfNode()).toEqual([]);
    expect(controlGroups()).toEqual([]);
    expect(await lab.onNode('ip', '-o', 'link', 'show', 'type', 'bridge')).toBe('');
    expect(await lab.onNode('nft', 'list', 'tables')).toBe('');
    expect(existsSync(lab.stateDir)).toBe(false);
    expect(existsSync(lab.runDir)).toBe(false);
  });

  it('keeps no rollout waiting, and is not registered anew', async () => {
    expect(await lab.health('/readyz')).toMatch(/^200/);
    await lab.api.kubectl(['delete', 'ln', lab.nodeName]);
    // Nothing may happen meanwhile.
    await delay(3_000);
    expect((await lab.api.kubectl(['get', 'ln', '-o', 'name'])).trim()).toBe('');
    expect(lab.agent.ended()).toBe(false);
  });

  it('is used again when somebody wants it back: the agent ends, and the next one finds everything as new', async () => {
    await lab.api.kubectl(
      ['create', '-f', '-'],
      JSON.stringify({
        apiVersion: 'esb.dev/v1alpha1',
        kind: 'LambdaNode',
        metadata: { name: lab.nodeName },
        spec: {},
      }),
    );
    await waitFor('the agent to end', () => lab.agent.ended());
    await lab.startAgent();
    await lab.untilServing();
    await lab.apply('again');
    const worker = await lab.waitForPhase('again', 'Running');
    expect(await lab.invoke(worker)).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    expect(retiredOf(await lab.node())).toBeUndefined();
  });
});
