import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { patience } from '../support/patience.ts';
import { waitFor } from '../support/wait-for.ts';
import { type CounterAnswer, functionTimeout, instance, type WorkerSpec } from './support/instance.ts';
import { Parts } from './support/parts.ts';

describe('a worker whose image has no emulator', () => {
  const esb = instance();
  const parts = new Parts(esb);

  const apply = (name: string, spec: WorkerSpec = {}): Promise<void> =>
    esb.apply(name, {
      nodeName: 'node-1',
      ...spec,
    });
  const containerOf = async (name: string): Promise<string> => (await esb.worker(name)).status?.containerID ?? '';
  /** Has the function loaded after that many seconds. */
  const slowToLoad = (seconds: number): WorkerSpec => ({
    command: [
      ...['python3', '-c'],
      `import runpy, time; time.sleep(${seconds}); runpy.run_module("awslambdaric", run_name="__main__")`,
      'lambda_function.handler',
    ],
  });

  it('is called, paused when idle, and woken with its memory kept', async () => {
    await apply('plain', { idlePolicy: { pauseAfterSeconds: 2 } });
    await esb.ready('plain');
    const first = await esb.invoke('plain', { echo: { nested: [1, 'ü'] } });
    expect(first).toMatchObject({
      status: 200,
      functionError: undefined,
      payload: { message: 'hello from plain', counter: 1, echo: { nested: [1, 'ü'] } },
    });
    expect(first.payload.requestId).toBe(first.requestId);
    const custom = { tenant: 'Grün & 青 "1"' };
    const context = Buffer.from(JSON.stringify({ custom }, null, 2)).toString('base64');
    expect((await esb.invoke('plain', {}, { ClientContext: context })).payload).toMatchObject({
      counter: 2,
      bootId: first.payload.bootId,
      clientContext: custom,
    });
    await esb.waitUntilPaused('plain');
    expect((await esb.invoke('plain')).payload).toMatchObject({ counter: 3, bootId: first.payload.bootId });
  });

  it('is made by the call that needs it', async () => {
    await apply('plain-absent', { desiredState: 'Absent' });
    await esb.waitForPhase('plain-absent', 'Absent');
    expect((await esb.invoke('plain-absent')).payload).toMatchObject({ counter: 1, overlaps: 0 });
  });

  it('is told to load for as long as it needs, whatever a call may take', async () => {
    await apply('plain-slow', { ...slowToLoad(5), timeoutSeconds: 1 });
    await esb.ready('plain-slow');
    expect(await esb.invoke('plain-slow')).toMatchObject({ functionError: undefined, payload: { counter: 1 } });
  });

  it('says so where that takes longer than its resource allows', async () => {
    await apply('plain-late', { ...slowToLoad(60), startup: { timeoutSeconds: 1 } });
    const worker = await esb.waitForWorker('plain-late', 'told of its start', (found) =>
      (found.status?.conditions ?? []).some(
        ({ type, message }) => type === 'Ready' && /tim(ed|e-?)\s?out/i.test(message),
      ),
    );
    expect(worker.status?.phase).not.toBe('Running');
    await esb.patch('plain-late', { command: null });
    await esb.ready('plain-late');
    expect((await esb.invoke('plain-late')).payload.counter).toBe(1);
  });

  it('tells a raised error from a returned value that looks like one', async () => {
    await apply('plain-errors');
    await esb.ready('plain-errors');
    expect(await esb.invoke('plain-errors', { raise: 'out of cheese' })).toMatchObject({
      status: 200,
      functionError: 'Unhandled',
      payload: { errorType: 'ValueError', errorMessage: 'out of cheese' },
    });
    const value = { errorType: 'Cheese', errorMessage: 'none' };
    const returned = await esb.invoke('plain-errors', { return: value });
    expect(returned).toMatchObject({ status: 200, functionError: undefined });
    expect(returned.payload).toEqual(value);
    expect((await esb.invoke('plain-errors')).payload.counter).toBe(3);
  });

  it('keeps container and files when a call takes too long or ends the runtime', async () => {
    await apply('plain-ends', { timeoutSeconds: 2 });
    await esb.ready('plain-ends');
    const id = await containerOf('plain-ends');
    const pid = await esb.taskPid(id);
    const first = (await esb.invoke('plain-ends', { write: 1 })).payload;
    expect(await esb.invoke('plain-ends', { sleep: 2 * functionTimeout(2) })).toMatchObject({
      functionError: 'Unhandled',
      payload: {
        errorType: 'Sandbox.Timedout',
        errorMessage: expect.stringContaining(`Task timed out after ${functionTimeout(2)}.00 seconds`),
      },
    });
    const second = (await esb.invoke('plain-ends')).payload;
    expect(second.counter).toBe(1);
    expect(second.bootId).not.toBe(first.bootId);
    expect(await esb.invoke('plain-ends', { exit: 3 })).toMatchObject({
      functionError: 'Unhandled',
      payload: { errorType: 'Runtime.ExitError', errorMessage: expect.stringContaining('exit status 3') },
    });
    const third = (await esb.invoke('plain-ends')).payload;
    expect(third.counter).toBe(1);
    expect(third.bootId).not.toBe(second.bootId);
    expect(await containerOf('plain-ends')).toBe(id);
    expect(await esb.taskPid(id)).toBe(pid);
    expect(existsSync(`/proc/${pid}/root/tmp/written`)).toBe(true);
  });

  it('shows why it cannot load its function, to kubectl and to callers', async () => {
    await apply('plain-broken', { args: ['lambda_function.missing'] });
    await esb.waitForWorker('plain-broken', 'told of its function', (found) =>
      (found.status?.conditions ?? []).some(
        ({ type, message }) => type === 'Ready' && message.includes('Runtime.HandlerNotFound'),
      ),
    );
    const { stdout } = await esb.kubectl(['describe', 'lambdaworker', 'plain-broken']);
    expect(stdout).toContain('Runtime.HandlerNotFound');
    expect(await esb.invoke('plain-broken')).toMatchObject({
      status: 200,
      functionError: 'Unhandled',
      payload: {
        errorType: 'Runtime.HandlerNotFound',
        errorMessage: expect.stringContaining("Handler 'missing' missing on module 'lambda_function'"),
      },
    });
    await esb.patch('plain-broken', { args: null });
    await esb.ready('plain-broken');
    expect((await esb.invoke('plain-broken')).payload.counter).toBe(1);
  });

  /** Kills the agent, and waits for the next. */
  const killAgent = async (): Promise<void> => {
    const before = await parts.pidOf('agent-node-1');
    process.kill(before, 'SIGKILL');
    await waitFor('a new agent', async () => (await parts.pidOf('agent-node-1')) !== before);
    await parts.untilAgentListens();
  };

  it('answers a call though its agent dies twice in the middle of it', { tags: ['P17'] }, async () => {
    await apply('plain-midcall', { timeoutSeconds: 120 });
    await esb.ready('plain-midcall');
    const id = await containerOf('plain-midcall');
    const first = (await esb.invoke('plain-midcall')).payload;
    const size = 5_000_000;
    const call = esb.invoke<CounterAnswer & { padding: string }>('plain-midcall', {
      print: 'in the middle',
      sleep: 15 * patience(),
      size,
    });
    await waitFor('the call to be in the worker', async () => (await esb.workerLog(id)).includes('in the middle'));
    await killAgent();
    await killAgent();
    const { functionError, payload, status } = await call;
    expect({ functionError, status }).toEqual({ functionError: undefined, status: 200 });
    expect(payload).toMatchObject({ counter: first.counter + 1, bootId: first.bootId });
    expect(payload.padding).toHaveLength(size);
    const next = await esb.invoke('plain-midcall', {}, { client: esb.lambda(undefined, 5) });
    expect(next.payload).toMatchObject({ counter: first.counter + 2, bootId: first.bootId, overlaps: 0 });
    expect(await containerOf('plain-midcall')).toBe(id);
  });

  it('answers a call though its agent is stopped in order in the middle of it', async () => {
    await apply('plain-upgrade', { timeoutSeconds: 120 });
    await esb.ready('plain-upgrade');
    const id = await containerOf('plain-upgrade');
    const call = esb.invoke('plain-upgrade', { print: 'in the middle', sleep: 30 + 10 * patience() });
    await waitFor('the call to be in the worker', async () => (await esb.workerLog(id)).includes('in the middle'));
    await parts.stop('agent-node-1');
    await parts.start('agent-node-1');
    expect(await call).toMatchObject({ functionError: undefined, payload: { counter: 1 } });
  });
});

describe('an image with an emulator', () => {
  const esb = instance();

  /** Command of the worker's first process. */
  async function commandOf(name: string): Promise<readonly string[]> {
    const { status } = await esb.worker(name);
    const { stdout } = await esb.ctr(['containers', 'info', status?.containerID ?? '']);
    return (JSON.parse(stdout) as { readonly Spec: { readonly process: { readonly args: string[] } } }).Spec.process
      .args;
  }

  it('is called without it once it is asked for no more, by a new container', async () => {
    await esb.apply('switched', {
      image: esb.image('python-emulator'),
      nodeName: 'node-1',
      runtimeInterface: 'Emulator',
    });
    const before = await esb.ready('switched');
    expect((await commandOf('switched'))[0]).toBe('/usr/local/bin/aws-lambda-rie');
    const first = (await esb.invoke('switched')).payload;
    await esb.patch('switched', { runtimeInterface: null });
    await esb.waitForWorker(
      'switched',
      'made anew',
      ({ status }) =>
        status?.containerID !== before.status?.containerID &&
        (status?.conditions ?? []).some((each) => each.type === 'UpToDate' && each.status === 'True'),
    );
    const second = await esb.invoke('switched', { print: 'from the function' }, { LogType: 'Tail' });
    expect(second).toMatchObject({ functionError: undefined, payload: { counter: 1, overlaps: 0 } });
    expect(second.payload.bootId).not.toBe(first.bootId);
    expect(second.logTail).toContain('from the function');
    const command = await commandOf('switched');
    expect(command[0]).toBe('/run/esb/init');
    expect(command.join(' ')).toMatch(/ -- python3 -m awslambdaric lambda_function\.handler$/);
    expect((await esb.worker('switched')).status?.address).toEqual({ ip: expect.stringMatching(/^10\./) });
  });

  it('in the shape of the AWS base images looks for the Runtime API by itself', async () => {
    await esb.apply('shape', {
      image: esb.image('aws-base-shape'),
      handler: 'lambda_function.lambda_handler',
      nodeName: 'node-1',
    });
    await esb.ready('shape');
    expect((await esb.invoke('shape')).payload).toMatchObject({ message: 'hello from shape', counter: 1 });
  });
});
