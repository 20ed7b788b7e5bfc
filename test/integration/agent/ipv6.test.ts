import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';

describe('a node whose configuration list asks for IPv6 alone', () => {
  let lab: AgentLab;

  beforeAll(async () => {
    lab = await startAgentLab();
    const shipped = await readFile(resolve(import.meta.dirname, '../../../cni/10-esb.conflist'), 'utf8');
    const config = join(lab.lab.folder, 'ipv6.conflist');
    await writeFile(config, shipped.replace('10.234.0.0/16', 'fd00:234::/64'));
    await lab.startAgent(['--cni-config', config]);
    await lab.untilServing();
  });
  afterAll(() => lab?.close());

  it('has its workers called at their IPv6 address, paused and woken', async () => {
    await lab.apply('six', { desiredState: 'Paused', idlePolicy: { pauseAfterSeconds: 1 } });
    const worker = await lab.waitForPhase('six', 'Paused');
    expect(worker.status?.address).toEqual({ ip: expect.stringMatching(/^fd00:234::/) });
    expect(worker.status?.conditions).toContainEqual(
      expect.objectContaining({
        type: 'NetworkReady',
        message: expect.stringMatching(/^fd00:234::/),
      }),
    );
    expect(await lab.invoke(worker)).toMatchObject({ outcome: 'OUTCOME_ANSWERED', start: 'paused' });
    await lab.remove('six');
  });
});
