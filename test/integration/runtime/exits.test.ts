import { readdirSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { ContainerRuntime, RuntimeEvent, WorkerAddress } from '../../../src/runtime/contract/runtime.ts';
import { ensureRequest, type Lab } from '../../support/lab.ts';
import { useLab } from '../../support/use-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const nowhere: WorkerAddress = { ip: '', port: 0 };

describe('a worker', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  useLab((started, itsRuntime) => {
    [lab, runtime] = [started, itsRuntime];
  });
  function events(): RuntimeEvent[] {
    const seen: RuntimeEvent[] = [];
    onTestFinished(runtime.subscribe((event) => seen.push(event)));
    return seen;
  }

  it('that exits at once is told with its code and last output, and only its log is left', async () => {
    const request = ensureRequest(lab, 'crasher', {
      env: [
        { name: 'EXIT', value: '7' },
        { name: 'PRINT', value: 'cannot find my wand' },
      ],
    });
    await expect(runtime.ensure(request)).rejects.toMatchObject({
      code: 'ExitedAtOnce',
      retryable: true,
      message: expect.stringContaining('cannot find my wand'),
      exit: { exitCode: 7, oomKilled: false, output: 'cannot find my wand\n', finishedAt: expect.any(Date) },
    });
    expect(await runtime.inspect(request.containerId)).toBeUndefined();
    expect((await runtime.readLog(request.containerId, 1000)).toString()).toBe('cannot find my wand\n');
    await runtime.destroy(request.containerId);
  });

  it('that needs more memory than it may have at once is told as killed for it', async () => {
    const request = ensureRequest(lab, 'greedy', {
      memoryMiB: 32,
      env: [{ name: 'ALLOCATE', value: '200' }],
    });
    await expect(runtime.ensure(request)).rejects.toMatchObject({
      code: 'ExitedAtOnce',
      message: expect.stringContaining('memory'),
      exit: { exitCode: 137, oomKilled: true },
    });
    await runtime.destroy(request.containerId);
  });

  it('whose limit is too small to start at all is told so', async () => {
    const request = ensureRequest(lab, 'tiny', { memoryMiB: 1, ephemeralStorageMiB: 1 });
    await expect(runtime.ensure(request)).rejects.toMatchObject({ code: 'MemoryTooSmall' });
    await runtime.destroy(request.containerId);
  });

  it('that outgrows its memory in a call is told as killed for it', { tags: ['M14'] }, async () => {
    const seen = events();
    const request = ensureRequest(lab, 'growing', { memoryMiB: 32 });
    const { address } = await runtime.ensure(request);
    await expect(lab.caller.call(address ?? nowhere, { allocate: 200 })).rejects.toThrow();
    await waitFor('its end', async () => (await runtime.inspect(request.containerId))?.task.kind === 'Stopped');
    expect((await runtime.inspect(request.containerId))?.task).toMatchObject({
      exitCode: 137,
      oomKilled: true,
    });
    await waitFor('the events', () =>
      ['Created', 'OutOfMemory', 'Exited'].every((kind) =>
        seen.some((event) => event.kind === kind && event.containerId === request.containerId),
      ),
    );
  });

  it('that does not listen where it should is told so with its output', { tags: ['P15'] }, async () => {
    const request = ensureRequest(lab, 'elsewhere', { port: 9999 });
    const impatient = await lab.runtime({ listenDeadlineMs: 2000 });
    await expect(impatient.ensure(request)).rejects.toMatchObject({
      code: 'NotListening',
      message: expect.stringMatching(/9999.*listening on 0\.0\.0\.0:8080/s),
    });
    await impatient.destroy(request.containerId);
  });

  it('that has stopped is made anew, with its address and its log', async () => {
    const request = ensureRequest(lab, 'again');
    const first = await runtime.ensure(request);
    await expect(lab.caller.call(first.address ?? nowhere, { exit: 0 })).rejects.toThrow();
    await waitFor('its end', async () => (await runtime.inspect(request.containerId))?.task.kind === 'Stopped');
    const second = await runtime.ensure(request);
    expect(second.address).toEqual(first.address);
    expect(await lab.caller.call(second.address ?? nowhere, {})).toMatchObject({ counter: 1 });
    await waitFor('both lines', async () => {
      const log = (await runtime.readLog(request.containerId, 1000)).toString();
      return log === 'listening on 0.0.0.0:8080\nlistening on 0.0.0.0:8080\n';
    });
  });

  it('of another shape is made anew, one of another epoch only marked', async () => {
    const request = ensureRequest(lab, 'changing');
    const first = await runtime.ensure(request);
    const moved = await runtime.ensure({ ...request, epoch: 2 });
    expect(moved.task).toEqual(first.task);
    expect((await runtime.list())[0]).toMatchObject({ epoch: 2, shapeHash: request.shapeHash });
    const changed = await runtime.ensure({ ...request, epoch: 2, shapeHash: 'another' });
    expect(changed.task).not.toEqual(first.task);
    expect((await runtime.list())[0]).toMatchObject({ epoch: 2, shapeHash: 'another' });
  });

  it('that is paused is resumed when it is to run', async () => {
    const request = ensureRequest(lab, 'sleeper');
    const first = await runtime.ensure(request);
    await runtime.pause(request.containerId);
    const steps: string[] = [];
    const second = await runtime.ensure({ ...request, onProgress: (step) => steps.push(step) });
    expect(steps).toEqual(['Resuming', 'Starting']);
    expect(second.task).toEqual(first.task);
    expect(await lab.caller.call(second.address ?? nowhere, {})).toMatchObject({ counter: 1 });
  });

  it('writes a log that can be read from an offset', async () => {
    const request = ensureRequest(lab, 'writer');
    const { address } = await runtime.ensure(request);
    // The shim writes it down a moment after it was said.
    await waitFor('the first line', async () => {
      const log = (await runtime.readLog(request.containerId, 1000)).toString();
      return log === 'listening on 0.0.0.0:8080\n';
    });
    const offset = await runtime.logOffset(request.containerId);
    await lab.caller.call(address ?? nowhere, { print: 'first line' });
    await lab.caller.call(address ?? nowhere, { print: 'second line' });
    await waitFor('the output', async () =>
      (await runtime.readLogSince(request.containerId, offset, 1000)).toString().endsWith('second line\n'),
    );
    expect((await runtime.readLogSince(request.containerId, offset, 1000)).toString()).toBe(
      'first line\nsecond line\n',
    );
    expect((await runtime.readLogSince(request.containerId, offset, 12)).toString()).toBe('second line\n');
    expect((await runtime.readLogSince(request.containerId, 1e9, 12)).length).toBe(0);
  });

  it('in the network of the node listens on ports of the agent’s choice, and keeps them until it is removed', async () => {
    const request = ensureRequest(lab, 'hosted', { networkMode: 'Host', args: ['one', 'two'] });
    const other = ensureRequest(lab, 'other', { networkMode: 'Host', args: ['three'] });
    const [info, otherInfo] = await Promise.all([runtime.ensure(request), runtime.ensure(other)]);
    const port = info.address?.port ?? 0;
    expect(info.address).toEqual({ ip: '127.0.0.1', port: expect.any(Number) });
    expect(otherInfo.address?.port).not.toBe(port);
    const answer = await fetch(`http://127.0.0.1:${port}/2015-03-31/functions/function/invocations`, {
      method: 'POST',
      body: '{}',
    });
    expect(await answer.json()).toMatchObject({
      args: [
        ...['--runtime-interface-emulator-address', `127.0.0.1:${port}`],
        ...['--runtime-api-address', `127.0.0.1:${port + 1}`],
        'one',
        'two',
      ],
    });
    expect(await lab.network.list()).toEqual([]);

    // By another agent, after the worker has died.
    await lab.ctr('tasks', 'kill', '--signal', 'SIGKILL', request.containerId);
    await waitFor('the end of the worker', async () => {
      return (await runtime.inspect(request.containerId))?.task.kind === 'Stopped';
    });
    const later = await lab.runtime();
    expect((await later.ensure(request)).address?.port).toBe(port);
    const folder = join(lab.folder, 'host-ports');
    expect(await readdir(folder)).toHaveLength(2);
    await later.destroy(request.containerId);
    await later.destroy(other.containerId);
    expect(await readdir(folder)).toEqual([]);
  });

  it('in the network of the node is not taken for whatever else listens on its port', async () => {
    const request = ensureRequest(lab, 'hosted', {
      networkMode: 'Host',
      args: ['one'],
      env: [{ name: 'LISTEN_AFTER_MS', value: '500' }],
    });
    const other = createServer((_request, response) => response.end());
    onTestFinished(() => void other.close());
    const beside = await lab.runtime({
      observer: {
        stage(stage) {
          // The port was free when it was chosen, and the worker is not started yet.
          if (stage === 'create' && !other.listening) {
            const [file = ''] = readdirSync(folder);
            other.listen((JSON.parse(readFileSync(join(folder, file), 'utf8')) as { port: number }).port);
          }
        },
        limitReached: () => undefined,
        pullBegan: () => undefined,
        pullEnded: () => undefined,
      },
    });
    const folder = join(lab.folder, 'host-ports');
    await expect(beside.ensure(request)).rejects.toMatchObject({ code: 'ExitedAtOnce', retryable: true });
    const { address } = await beside.ensure(request);
    expect(address?.port).not.toBe((other.address() as AddressInfo).port);
    const answer = await fetch(`http://127.0.0.1:${address?.port}/2015-03-31/functions/function/invocations`, {
      method: 'POST',
      body: '{}',
    });
    expect(await answer.json()).toMatchObject({ counter: 1 });
  });

  it('in the network of the node needs its command line', async () => {
    const request = ensureRequest(lab, 'hosted', { networkMode: 'Host' });
    await expect(runtime.ensure(request)).rejects.toMatchObject({
      code: 'CreateFailed',
      message: expect.stringContaining('spec.command'),
    });
  });

  it('that is not there can be neither paused nor resumed', async () => {
    await expect(runtime.pause('nobody-00000000')).rejects.toMatchObject({ code: 'NotFound' });
    await expect(runtime.resume('nobody-00000000')).rejects.toMatchObject({ code: 'NotFound' });
  });

  it('that has stopped can be neither paused nor resumed', async () => {
    const request = ensureRequest(lab, 'stopped');
    const { address } = await runtime.ensure(request);
    await expect(lab.caller.call(address ?? nowhere, { exit: 0 })).rejects.toThrow();
    await waitFor('its end', async () => (await runtime.inspect(request.containerId))?.task.kind === 'Stopped');
    await expect(runtime.pause(request.containerId)).rejects.toMatchObject({ code: 'NotFound' });
    await expect(runtime.resume(request.containerId)).rejects.toMatchObject({ code: 'NotFound' });
  });
});
