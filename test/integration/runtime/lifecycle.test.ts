import { describe, expect, it } from 'vitest';
import type { ContainerRuntime } from '../../../src/runtime/contract/runtime.ts';
import { ensureRequest, type Lab } from '../../support/lab.ts';
import { useLab } from '../../support/use-lab.ts';

interface Answer {
  readonly counter: number;
  readonly host: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly uid: number;
}

describe('a worker on containerd', () => {
  let lab: Lab;
  let runtime: ContainerRuntime;
  useLab((started, itsRuntime) => {
    [lab, runtime] = [started, itsRuntime];
  });

  it('is pulled, made, called, frozen, thawed and removed without a trace', async () => {
    const request = ensureRequest(lab, 'whole', {
      env: [{ name: 'GREETING', value: 'hello' }],
      handler: 'app.handler',
    });
    const steps: string[] = [];
    const info = await runtime.ensure({ ...request, onProgress: (step) => steps.push(step) });
    // A pull tells of its progress, so of being at it more than once.
    expect(steps.filter((step, index) => step !== steps[index - 1])).toEqual(['Pulling', 'Creating', 'Starting']);
    expect(info).toMatchObject({
      containerId: request.containerId,
      identity: request.identity,
      epoch: 1,
      shapeHash: request.shapeHash,
      image: expect.stringMatching(/^127\.0\.0\.1:\d+\/worker@sha256:[0-9a-f]{64}$/),
      task: { kind: 'Running' },
      address: { port: 8080 },
    });
    const address = info.address ?? { ip: '', port: 0 };
    expect(await lab.caller.call(address, {})).toMatchObject({
      counter: 1,
      host: request.containerId,
      args: ['app.handler'],
      uid: 993,
      env: {
        GREETING: 'hello',
        AWS_LAMBDA_FUNCTION_NAME: 'whole',
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '128',
        _HANDLER: 'app.handler',
      },
    } satisfies Partial<Answer>);

    await runtime.pause(request.containerId);
    await runtime.pause(request.containerId);
    expect((await runtime.inspect(request.containerId))?.task.kind).toBe('Paused');
    await expect(lab.caller.call(address, {}, 200)).rejects.toThrow('no answer');

    await runtime.resume(request.containerId);
    await runtime.resume(request.containerId);
    expect(await lab.caller.call(address, {})).toMatchObject({ counter: expect.any(Number) });
    // Thawed below containerd, which has not been told yet.
    const task = { kind: 'Running', pid: expect.any(Number), unsettled: true };
    expect(await runtime.list()).toEqual([{ ...info, task }]);

    await runtime.destroy(request.containerId);
    await runtime.destroy(request.containerId);
    expect(await runtime.inspect(request.containerId)).toBeUndefined();
    expect(await lab.leftovers()).toEqual([]);
  });
});
