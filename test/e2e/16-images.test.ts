import { waitUntilFunctionUpdatedV2 } from '@aws-sdk/client-lambda';
import { describe, expect, it } from 'vitest';
import { instance } from './support/instance.ts';

describe('an image', () => {
  const esb = instance();

  it('with a Node.js function is called, paused and woken like any other', async () => {
    await esb.apply('nodejs', {
      image: esb.image('nodejs-counter'),
      nodeName: 'node-1',
      resources: { limits: { memory: '256Mi' } },
      // Its first call starts Node.js, on a machine that may have other work.
      timeoutSeconds: 20,
      idlePolicy: { pauseAfterSeconds: 2 },
    });
    await esb.ready('nodejs');
    const first = await esb.invoke('nodejs', { echo: { nested: [1, 'ü'] } });
    expect(first).toMatchObject({
      status: 200,
      functionError: undefined,
      payload: { message: 'hello from nodejs', counter: 1, echo: { nested: [1, 'ü'] } },
    });
    await esb.waitUntilPaused('nodejs');
    const woken = await esb.invoke('nodejs');
    expect(woken.payload).toMatchObject({ counter: 2, overlaps: 0, bootId: first.payload.bootId });
    const raised = await esb.invoke('nodejs', { raise: 'out of cheese' });
    expect(raised).toMatchObject({ functionError: 'Unhandled', payload: { errorMessage: 'out of cheese' } });
  });

  it('in the shape of the AWS base images gets its handler as the argument of its entrypoint', async () => {
    await esb.apply('aws-shape', {
      image: esb.image('aws-base-shape'),
      handler: 'lambda_function.lambda_handler',
      nodeName: 'node-1',
    });
    const worker = await esb.ready('aws-shape');
    expect((await esb.invoke('aws-shape')).payload).toMatchObject({
      message: 'hello from aws-shape',
      counter: 1,
    });
    const described = await esb.ctr(['containers', 'info', worker.status?.containerID ?? '']);
    const { Spec } = JSON.parse(described.stdout) as { Spec: { process: { args: string[]; env: string[] } } };
    expect(Spec.process.args[0]).toBe('/run/esb/init');
    expect(Spec.process.args.slice(-3)).toEqual(['--', '/lambda-entrypoint.sh', 'lambda_function.lambda_handler']);
    expect(Spec.process.env).toContain('_HANDLER=lambda_function.lambda_handler');
  });

  it('that is not there fails the update for kubectl and SDKs, and the earlier one serves on', async () => {
    await esb.apply('rolled', { nodeName: 'node-1' });
    await esb.ready('rolled');
    const client = esb.lambda();
    const updated = (): Promise<unknown> =>
      waitUntilFunctionUpdatedV2({ client, maxWaitTime: 120, minDelay: 1, maxDelay: 1 }, { FunctionName: 'rolled' });
    const upToDate = ['wait', 'lambdaworker/rolled', '--for=condition=UpToDate'];
    await esb.patch('rolled', { image: `${esb.registry}/nothing:1` });
    await esb.described('rolled');
    await expect(updated()).rejects.toThrow('ImageNotFound');
    expect((await esb.kubectl([...upToDate, '--timeout=1s'], { mayFail: true })).code).not.toBe(0);
    expect((await esb.invoke('rolled')).payload).toMatchObject({ counter: 1 });
    await esb.patch('rolled', { image: esb.image('python-counter'), timeoutSeconds: 5 });
    await esb.described('rolled');
    await updated();
    await esb.kubectl([...upToDate, '--timeout=60s']);
    expect((await esb.invoke('rolled')).payload).toMatchObject({ counter: 1 });
  });

  it('in that shape without a handler says what to write', async () => {
    await esb.apply('no-handler', { image: esb.image('aws-base-shape'), nodeName: 'node-1' });
    const worker = await esb.waitForWorker('no-handler', 'told of its handler', (found) =>
      (found.status?.conditions ?? []).some(({ type, status }) => type === 'Ready' && status === 'False'),
    );
    expect(worker.status?.phase).not.toBe('Running');
    await esb.patch('no-handler', { handler: 'lambda_function.handler' });
    await esb.ready('no-handler');
    expect((await esb.invoke('no-handler')).payload.counter).toBe(1);
  });
});
