import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { homeAt } from '../../../../local/common/home.ts';
import { identify, instanceProcesses, signalProcess } from '../../../../local/common/process-table.ts';
import { ensureSupervisor } from '../../../../local/instance/instance.ts';
import type { PartSpec } from '../../../../local/supervisor/part.ts';
import type { SupervisorClient } from '../../../../local/supervisor/supervisor-client.ts';
import { waitFor } from '../../../support/wait-for.ts';

interface Lab {
  readonly folder: string;
  readonly client: SupervisorClient;
  part(name: string, script?: string): PartSpec;
  /** A new supervisor in the same home. */
  restart(): Promise<SupervisorClient>;
}

async function supervisorLab(): Promise<Lab> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-sup-'));
  const home = homeAt(folder);
  onTestFinished(async () => {
    for (const process of await instanceProcesses(folder)) {
      await signalProcess(process, 'SIGKILL');
    }
    await rm(folder, { recursive: true, force: true });
  });
  return {
    folder,
    client: await ensureSupervisor(home),
    restart: () => ensureSupervisor(home),
    part: (name, script = 'exec sleep 600') => ({
      name,
      program: '/bin/sh',
      args: ['-c', script],
      env: {},
      logFile: join(folder, `${name}.log`),
      // The socket of the supervisor itself: healthy as long as it is asked.
      health: { kind: 'socket', path: home.supervisorSocket },
      stopGraceMs: 2_000,
    }),
  };
}

describe('the supervisor', () => {
  it('starts what it is given, and leaves it alone when it is given the same again', async () => {
    const { client, part } = await supervisorLab();
    await client.apply([part('one'), part('two')]);
    const { parts } = await client.status();
    expect(parts.map(({ name, health }) => [name, health])).toEqual([
      ['one', 'healthy'],
      ['two', 'healthy'],
    ]);
    await client.apply([part('one'), part('two'), part('three')]);
    const later = await client.status();
    expect(later.parts.map(({ pid }) => pid).slice(0, 2)).toEqual(parts.map(({ pid }) => pid));
    await client.apply([part('two')]);
    expect((await client.status()).parts.map(({ name }) => name)).toEqual(['two']);
    expect(await identify(parts[0]?.pid ?? 0)).toBeUndefined();
  });

  it('starts again what dies, later and later when it goes on dying', async () => {
    const { client, part } = await supervisorLab();
    // One that ends before the supervisor has seen that it runs does not count as started again.
    await client.apply([part('mortal'), part('doomed', 'sleep 0.2; exit 3')]);
    const pid = await client.pidOf('mortal');
    process.kill(pid, 'SIGKILL');
    await waitFor('another process', async () => {
      const now = await client.pidOf('mortal');
      return now !== 0 && now !== pid;
    });
    const doomed = await waitFor('the one that cannot live to be tried again', async () =>
      (await client.status()).parts.find(({ name, restarts }) => name === 'doomed' && restarts >= 3),
    );
    expect(doomed.health).toMatch(/it ended with code 3|healthy/);
  });

  it('keeps stopped what was stopped, also frozen parts, and starts it when told to', async () => {
    const { client, part, restart } = await supervisorLab();
    await client.apply([part('one')]);
    process.kill(await client.pidOf('one'), 'SIGSTOP');
    await client.stopPart('one');
    expect((await client.status()).parts).toMatchObject([{ pid: 0, health: 'stopped' }]);
    process.kill((await client.status()).supervisor.pid, 'SIGKILL');
    const next = await restart();
    expect((await next.status()).parts).toMatchObject([{ pid: 0, health: 'stopped' }]);
    await next.startPart('one');
    expect(await next.pidOf('one')).toBeGreaterThan(0);
  });

  it('is not missed by its parts when it is killed, and its successor takes them over', async () => {
    const { client, part, restart } = await supervisorLab();
    await client.apply([part('one')]);
    const before = await client.status();
    process.kill(before.supervisor.pid, 'SIGKILL');
    await waitFor('the supervisor to be gone', async () => {
      return (await identify(before.supervisor.pid)) === undefined;
    });
    const next = await restart();
    const after = await next.status();
    expect(after.supervisor.pid).not.toBe(before.supervisor.pid);
    expect(after.parts).toEqual(before.parts);
    process.kill(before.parts[0]?.pid ?? 0, 'SIGKILL');
    await waitFor('an adopted part to be started again', async () => {
      const pid = await next.pidOf('one');
      return pid !== 0 && pid !== before.parts[0]?.pid;
    });
  });

  it('ends every part and itself when it is shut down', async () => {
    const { folder, client, part } = await supervisorLab();
    await client.apply([part('one'), part('stubborn', 'trap "" TERM; while :; do sleep 0.1; done')]);
    await client.shutdown();
    await waitFor('every process to be gone', async () => (await instanceProcesses(folder)).length === 0);
    await expect(client.status()).rejects.toMatchObject({ code: 'SupervisorGone' });
    expect(await readFile(join(folder, 'logs', 'supervisor.log'), 'utf8')).toContain('part stopped');
  });

  it('says what there is when it is asked for a part that there is not', async () => {
    const { client, part } = await supervisorLab();
    await client.apply([part('one')]);
    await expect(client.stopPart('two')).rejects.toMatchObject({
      code: 'NotFound',
      message: expect.stringContaining('one'),
    });
  });
});
