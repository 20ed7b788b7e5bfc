import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { ContainerRuntime, WorkerAddress } from '../../../src/runtime/contract/runtime.ts';
import { run } from '../../support/command.ts';
import { destroyAll, ensureRequest, type Lab, shimsOf } from '../../support/lab.ts';
import { startOwnedProcess } from '../../support/owned-process.ts';
import { patience } from '../../support/patience.ts';
import { toolsFolder } from '../../support/tools.ts';
import { useLab } from '../../support/use-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };
/** A call to a worker that is not frozen takes a few milliseconds; a frozen one answers nothing at all. */
const ANSWER_WITHIN_MS = 5_000;

describe('what other systems fell over with one worker:', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  useLab((started, itsRuntime) => {
    [lab, runtime] = [started, itsRuntime];
  });

  const make = async (name: string): Promise<{ id: string; address: WorkerAddress }> => {
    const request = ensureRequest(lab, name);
    const { address } = await runtime.ensure(request);
    return { id: request.containerId, address: address ?? nowhere };
  };
  const answers = async (address: WorkerAddress): Promise<void> => {
    expect(await lab.caller.call(address, {}, ANSWER_WITHIN_MS)).toMatchObject({
      counter: expect.any(Number),
    });
  };
  const kind = async (id: string): Promise<string | undefined> => (await runtime.inspect(id))?.task.kind;

  it('a pause and a resume at the same time, a thousand times', {
    tags: ['M1'],
    timeout: 300_000 * patience(),
  }, async () => {
    const { id, address } = await make('raced');
    let frozen = 0;
    for (let round = 0; round < 1_000; round += 1) {
      const both = [(): Promise<void> => runtime.pause(id), (): Promise<void> => runtime.resume(id)];
      const ordered = round % 2 === 0 ? both : both.toReversed();
      await Promise.all(ordered.map((each) => each()));
      // Both succeeded, so it is what the later one asked for.
      const now = await kind(id);
      expect(now).toBe(round % 2 === 0 ? 'Running' : 'Paused');
      frozen += now === 'Paused' ? 1 : 0;
      if (round % 50 === 0) {
        await runtime.resume(id);
        await answers(address);
      }
    }
    expect(frozen).toBe(500);
    await runtime.resume(id);
    await answers(address);
  });

  it('a resume within a millisecond of a pause', { tags: ['P1', 'M2'] }, async () => {
    const { id, address } = await make('hasty');
    for (let round = 0; round < 100; round += 1) {
      const pausing = runtime.pause(id);
      if (round % 2 === 1) {
        // Faults and calls come at any moment.
        await delay(1);
      }
      await runtime.resume(id);
      await pausing;
      await answers(address);
    }
    // The freeze does not come after all, once no action waits for it.
    await delay(1_000);
    expect(await kind(id)).toBe('Running');
    await answers(address);
  });

  it.each([0, 10, 40, 80, 150])('a pause %i ms into its creation', { tags: ['M3'] }, async (ms) => {
    const request = ensureRequest(lab, 'early');
    const making = runtime.ensure(request);
    // Faults and calls come at any moment.
    await delay(ms);
    const pausing = runtime.pause(request.containerId).catch((error: unknown) => error);
    await making;
    const refusal = await pausing;
    // Before there was anything to pause it is told so; otherwise it is frozen as asked.
    if (refusal === undefined) {
      expect(await kind(request.containerId)).toBe('Paused');
    } else {
      expect(refusal).toMatchObject({ code: 'NotFound' });
      await runtime.pause(request.containerId);
    }
    await runtime.resume(request.containerId);
    const { address } = await runtime.ensure(request);
    await answers(address ?? nowhere);
  });

  it.each(['pausing', 'paused', 'resuming'] as const)(
    'its deletion while it is %s',
    { tags: ['P3', 'P22', 'M4'] },
    async (state) => {
      for (const ms of [0, 2, 5, 10, 20]) {
        const { id } = await make(`doomed-${state}`);
        if (state !== 'pausing') {
          await runtime.pause(id);
        }
        const change =
          state === 'paused'
            ? Promise.resolve()
            : (state === 'pausing' ? runtime.pause(id) : runtime.resume(id)).catch((error: unknown) => error);
        // Faults and calls come at any moment.
        await delay(ms);
        const began = performance.now();
        await runtime.destroy(id, { graceSeconds: 1 });
        expect(performance.now() - began).toBeLessThan(10_000);
        await change;
        expect(await lab.leftovers()).toEqual([]);
      }
    },
  );

  it.each([
    ['a process is started in it', ['tasks', 'exec', '--exec-id', 'probe', '', '/no/such/program']],
    ['its metrics are read', ['tasks', 'metrics', '']],
  ])('a pause while %s', { tags: ['P2', 'P7', 'M5'] }, async (_what, command) => {
    const { id, address } = await make('probed');
    const ctr = (): Promise<unknown> =>
      run(
        `${toolsFolder()}/ctr`,
        ['-a', lab.socketPath, '-n', 'esb', ...command.map((word) => (word === '' ? id : word))],
        { mayFail: true, timeoutMs: 60_000 },
      );
    for (const ms of [0, 5, 10, 20, 40]) {
      const probing = ctr();
      // Faults and calls come at any moment.
      await delay(ms);
      await runtime.pause(id, { deadlineMs: 20_000 });
      expect(await kind(id)).toBe('Paused');
      await runtime.resume(id);
      await answers(address);
      await probing;
    }
  });

  it('six shims that nobody knows of, and then a creation', { tags: ['P21', 'M11'] }, async () => {
    const began = performance.now();
    await make('before');
    const usual = performance.now() - began;
    const orphans = await Promise.all(Array.from({ length: 6 }, (_, number) => make(`orphan-${number}`)));
    await lab.killContainerd();
    // Without its bundles containerd does not find the shims again.
    for (const { id } of orphans) {
      await run('rm', ['-rf', `${lab.folder}/state/io.containerd.runtime.v2.task/esb/${id}/address`]);
      await run('rm', ['-rf', `${lab.folder}/state/io.containerd.runtime.v2.task/esb/${id}/bootstrap.json`]);
    }
    await lab.startContainerd();
    await waitFor('containerd', async () => (await runtime.health()).ok);
    const known = await lab.ctr('tasks', 'list', '-q');
    expect(orphans.filter(({ id }) => known.includes(id))).toEqual([]);
    expect((await shimsOf(lab.socketPath)).length).toBeGreaterThanOrEqual(orphans.length);
    const again = performance.now();
    const { address } = await make('after');
    // They cost nothing: a creation does not wait for any of them, which would take containerd three seconds or more.
    expect(performance.now() - again).toBeLessThan(Math.max(3_000, 4 * usual));
    await answers(address);
    const addresses = (await runtime.list()).map((worker) => worker.address?.ip);
    expect(new Set(addresses).size).toBe(addresses.length);
    for (const { id } of orphans) {
      await runtime.destroy(id, { graceSeconds: 0 });
    }
    await destroyAll(runtime);
    await waitFor('the shims to end', async () => (await shimsOf(lab.socketPath)).length === 0, {
      timeoutMs: 60_000,
    });
  });

  describe('a frozen worker that holds a connection', () => {
    /** Ten minutes in full (`ESB_FREEZE_SECONDS=600`): long enough for every timeout of the other side. */
    const seconds = Number(process.env.ESB_FREEZE_SECONDS ?? 5);

    it('keeps it over the freeze, and is told on first use where the other side has given it up', {
      tags: ['P18', 'M13'],
      timeout: seconds * 2_000 + 120_000,
    }, async () => {
      const server = await echoServer();
      const { id, address } = await make('pooled');
      const [first, second, third] = address.ip.split('.');
      const node = `${first}.${second}.${third}.${Number(address.ip.split('.')[3]) - 1}`;
      const use = async (): Promise<string> => {
        const answer = await lab.caller.call(address, { hold: `${node}:${server.port}` }, ANSWER_WITHIN_MS);
        return (answer as { readonly connection: string }).connection;
      };
      expect([await use(), await use()]).toEqual(['new', 'kept']);

      await runtime.pause(id);
      // The time is what is tested.
      await delay(seconds * 1_000);
      expect(await kind(id)).toBe('Paused');
      await runtime.resume(id);
      expect(await use()).toBe('kept');

      await runtime.pause(id);
      server.dropAll();
      // The time is what is tested.
      await delay(seconds * 1_000);
      await runtime.resume(id);
      // The function sees it at once: it is neither kept waiting nor given an answer of somebody else.
      expect(await use()).toMatch(/EOF|reset|broken pipe/);
      expect(await use()).toBe('new');
    });

    /**
     * A server that echoes, in the place of a database: where the worker reaches it, until the test is over.
     */
    async function echoServer(): Promise<{ readonly port: number; dropAll(): void }> {
      const sockets = new Set<Socket>();
      const server = createServer((socket) => {
        sockets.add(socket);
        socket.on('data', (data) => socket.write(data));
        socket.on('error', () => undefined);
        socket.on('close', () => sockets.delete(socket));
      });
      const path = join(lab.folder, 'echo.sock');
      const listening = Promise.withResolvers<void>();
      server.listen(path, listening.resolve);
      await listening.promise;
      const port = 5_432;
      // Inside the namespace that stands for the node; Unix sockets lead out of it.
      const relay = await startOwnedProcess({
        program: 'nsenter',
        args: [
          `--net=${lab.netnsPath}`,
          process.execPath,
          fileURLToPath(new URL('../../support/socket-relay.ts', import.meta.url)),
          `tcp:0.0.0.0:${port}`,
          `unix:${path}`,
        ],
        logFile: join(lab.folder, 'echo-relay.log'),
      });
      const dropAll = (): void => {
        for (const socket of sockets) {
          socket.destroy();
        }
      };
      onTestFinished(async () => {
        dropAll();
        server.close();
        await relay.kill();
      });
      await waitFor('the relay', () => lab.caller.connect({ ip: '127.0.0.1', port }));
      return { port, dropAll };
    }
  });
});
