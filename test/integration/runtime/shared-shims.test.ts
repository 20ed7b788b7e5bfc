import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createContainerdClient } from '../../../src/containerd/containerd-client.ts';
import { CONTAINERD_NAMESPACE } from '../../../src/runtime/containerd/parts.ts';
import type {
  ContainerRuntime,
  EnsureRequest,
  RuntimeEvent,
  WorkerAddress,
} from '../../../src/runtime/contract/runtime.ts';
import { ensureRequest, type Lab, shimsOf } from '../../support/lab.ts';
import { useLab } from '../../support/use-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };

describe('workers that share shims', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  useLab(
    (started, itsRuntime) => {
      [lab, runtime] = [started, itsRuntime];
    },
    { workersPerShim: 3 },
  );

  const requests = (...names: string[]): EnsureRequest[] => names.map((name) => ensureRequest(lab, name));
  const shims = async (): Promise<number> => (await shimsOf(lab.socketPath)).length;
  const ensureAll = (all: readonly EnsureRequest[]): Promise<unknown> =>
    Promise.all(all.map((request) => runtime.ensure(request)));
  const answers = async (request: EnsureRequest): Promise<boolean> => {
    const info = await runtime.inspect(request.containerId);
    if (info?.task.kind !== 'Running') {
      return false;
    }
    const answer = await lab.caller.call(info.address ?? nowhere, {}, 2_000);
    return (answer as { counter: number }).counter > 0;
  };

  it('have one for three, also when all are made at once', async () => {
    const all = requests('a', 'b', 'c', 'd', 'e', 'f', 'g');
    await ensureAll(all);
    expect(await shims()).toBe(3);
    for (const request of all) {
      expect(await answers(request)).toBe(true);
    }
  });

  it('are frozen, woken, settled and removed each for itself, the first of a shim too', async () => {
    const [first, second, third] = requests('a', 'b', 'c') as [EnsureRequest, EnsureRequest, EnsureRequest];
    for (const request of [first, second, third]) {
      await runtime.ensure(request);
    }
    expect(await shims()).toBe(1);
    await runtime.pause(first.containerId);
    await runtime.pause(second.containerId);
    expect(await answers(third)).toBe(true);
    await runtime.resume(second.containerId);
    expect(await runtime.settle(second.containerId)).toBe(true);
    expect(await answers(second)).toBe(true);
    await runtime.destroy(first.containerId);
    // There is nothing of it any more, but the shim that was started for it serves others.
    await runtime.destroy(first.containerId);
    expect([await answers(second), await answers(third)]).toEqual([true, true]);
    expect(await shims()).toBe(1);
    const again = await runtime.ensure(first);
    expect(again.task.kind).toBe('Running');
    expect(await shims()).toBe(1);
  });

  it('are joined by those that a later run of the agent makes', async () => {
    await ensureAll(requests('a', 'b'));
    const next = await lab.runtime({ workersPerShim: 3 });
    await next.ensure(ensureRequest(lab, 'c'));
    expect(await shims()).toBe(1);
    await next.stop();
  });

  it('are made while the last other one of their shim is being deleted', async () => {
    const client = createContainerdClient({
      socketPath: lab.socketPath,
      namespace: CONTAINERD_NAMESPACE,
      snapshotter: 'overlayfs',
    });
    let deleting = Promise.withResolvers<void>();
    let recorded = Promise.withResolvers<void>();
    let delayMs = 0;
    const crowded = await lab.runtime({
      workersPerShim: 3,
      client: {
        ...client,
        containers: {
          ...client.containers,
          async create(container, options) {
            const record = await client.containers.create(container, options);
            recorded.resolve();
            // The new one has its group by now, and no task.
            await deleting.promise;
            // Faults and calls come at any moment.
            await sleep(delayMs);
            return record;
          },
        },
        tasks: {
          ...client.tasks,
          delete(id, options) {
            deleting.resolve();
            return client.tasks.delete(id, options);
          },
        },
      },
    });
    deleting.resolve();
    const failures: string[] = [];
    for (let round = 0; round < 8; round += 1) {
      const [last, next] = requests('last', 'next') as [EnsureRequest, EnsureRequest];
      await crowded.ensure(last);
      deleting = Promise.withResolvers();
      recorded = Promise.withResolvers();
      delayMs = round * 4;
      const made = crowded.ensure(next).catch((error: unknown) => failures.push(String(error)));
      await recorded.promise;
      await crowded.destroy(last.containerId, { graceSeconds: 0 });
      await made;
      await crowded.destroy(next.containerId, { graceSeconds: 0 });
    }
    expect(failures).toEqual([]);
  });

  it.each(['SIGKILL', 'SIGSTOP'] as const)(
    'are all lost and told when theirs gets %s, nobody else, and are made anew',
    async (signal) => {
      const lost = requests('a', 'b', 'c');
      await ensureAll(lost);
      await runtime.pause(lost[1]?.containerId ?? '');
      const [shim] = await shimsOf(lab.socketPath);
      const others = requests('d', 'e');
      await ensureAll(others);
      expect(await shims()).toBe(2);
      const ended = new Set<string>();
      const stop = runtime.subscribe(({ kind, containerId }: RuntimeEvent) => {
        if (kind === 'Exited') {
          ended.add(containerId);
        }
      });
      process.kill(shim ?? 0, signal);
      if (signal === 'SIGSTOP') {
        // The first removal finds that the shim does not answer, and ends it.
        await runtime.destroy(lost[0]?.containerId ?? '', { graceSeconds: 0 });
      }
      await waitFor('the ends to be told', () => lost.slice(1).every(({ containerId }) => ended.has(containerId)));
      for (const request of others) {
        expect(await answers(request)).toBe(true);
      }
      await ensureAll(lost);
      for (const request of [...lost, ...others]) {
        expect(await answers(request)).toBe(true);
      }
      expect([...ended].toSorted()).not.toContain(others[0]?.containerId);
      stop();
    },
  );
});
