import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ensureSampleImage } from '../../../local/image/sample-image.ts';
import { InvocationSplitter } from '../../../src/agent/logs/invocation-splitter.ts';
import { createProgress } from '../../../src/cli/progress.ts';
import { type InitWorker, type InitWorkerOptions, importLayout, startInitWorker } from '../../support/init-lab.ts';
import { type Lab, startLab } from '../../support/lab.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';

const TRACE = 'Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1';

describe('the lines that the init writes into the log of its worker', () => {
  let lab: Lab;
  let image: string;
  let runtime: string;

  beforeAll(async () => {
    lab = await startLab();
    const progress = createProgress({ write: () => undefined });
    const sample = await ensureSampleImage('python-counter', { progress, tools: toolsFolder() });
    image = await importLayout(lab, sample.layout, 'sample/python:1');
    runtime = await readFile(fileURLToPath(new URL('./fixtures/runtime.py', import.meta.url)), 'utf8');
  }, 120_000);
  afterAll(() => lab?.close());

  /** A worker with the runtime of the tests, ended with the test. */
  const start = async ({ env, ...options }: Partial<InitWorkerOptions> = {}): Promise<InitWorker> => {
    const worker = await startInitWorker(lab, {
      image,
      argv: ['python3', '/fixture/runtime.py'],
      files: { 'runtime.py': runtime },
      env: {
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '128',
        AWS_LAMBDA_FUNCTION_NAME: 'tried',
        AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
        AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
        ...env,
      },
      ...options,
    });
    onTestFinished(async () => {
      await worker.agent.die();
      await lab.ctr('tasks', 'rm', '--force', worker.id).catch(() => undefined);
      await lab.ctr('containers', 'rm', worker.id).catch(() => undefined);
    });
    return worker;
  };
  const logUntil = (worker: InitWorker, text: string | RegExp): Promise<string> =>
    waitFor(`the log to say ${text}`, async () => {
      const log = await worker.log();
      return (typeof text === 'string' ? log.includes(text) : text.test(log)) && log;
    });
  const reportOf = async (worker: InitWorker, id: string): Promise<string> => {
    const log = await logUntil(worker, new RegExp(`REPORT RequestId: ${id}\\t.*\\n`));
    return log.split('\n').find((line) => line.startsWith(`REPORT RequestId: ${id}\t`)) ?? '';
  };
  const figure = (report: string, name: string): number =>
    Number(new RegExp(`(?:^|\\t)${name}: ([\\d.]+) (?:ms|MB)(?:\\t|$)`).exec(report)?.[1]);

  it('have the figures of a call, and those of the initialization with the first call alone', async () => {
    const worker = await start({ env: { INIT_SLEEP: '0.5' } });
    await worker.agent.idle();
    await worker.agent.call({ sleep: 0.2, fill: 64 }, { id: 'first' });
    await worker.agent.call({}, { id: 'second' });
    await worker.agent.call({ sleep: 5 }, { id: 'late', timeoutMs: 1_000 });
    await worker.agent.idle();
    await worker.agent.call({}, { id: 'after' });
    const first = await reportOf(worker, 'first');
    expect(first).toMatch(
      /^REPORT RequestId: first\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\tInit Duration: [\d.]+ ms$/,
    );
    expect(figure(first, 'Duration')).toBeGreaterThan(200);
    expect(figure(first, 'Duration')).toBeLessThan(2_000);
    expect(figure(first, 'Init Duration')).toBeGreaterThan(500);
    const whole = figure(first, 'Duration') + figure(first, 'Init Duration');
    expect(Math.abs(figure(first, 'Billed Duration') - whole)).toBeLessThanOrEqual(1.01);
    expect(figure(first, 'Max Memory Used')).toBeGreaterThan(64);
    expect(figure(first, 'Max Memory Used')).toBeLessThan(128);
    // Once seen, a peak stays, as that of a group of the kernel does.
    for (const id of ['second', 'after']) {
      const report = await reportOf(worker, id);
      expect(report).not.toContain('Init Duration');
      expect(figure(report, 'Max Memory Used')).toBe(figure(first, 'Max Memory Used'));
      expect(figure(report, 'Billed Duration')).toBe(Math.ceil(figure(report, 'Duration')));
    }
  });

  it('tell the memory of processes that the runtime starts, and of one that has ended', async () => {
    const worker = await start();
    await worker.agent.idle();
    await worker.agent.call({ fill: 90, exit: 1 }, { id: 'gone' });
    expect(figure(await reportOf(worker, 'gone'), 'Max Memory Used')).toBeGreaterThan(90);
  });

  it('tell how a call ended that was not answered, in the words of Lambda', async () => {
    const worker = await start();
    await worker.agent.idle();
    await worker.agent.call({ print: 'sleeps', sleep: 5 }, { id: 'late', timeoutMs: 1_000 });
    await worker.agent.call({ print: 'exits', exit: 7 }, { id: 'gone' });
    await worker.agent.call({ skip: true }, { id: 'left' });
    await worker.agent.call({ error: 'raised' }, { id: 'raised' });
    await worker.agent.call({ bytes: 7 * 1024 * 1024 }, { id: 'large' });
    const log = await logUntil(worker, 'REPORT RequestId: large');
    expect(log).toMatch(
      /\nsleeps\n\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z late Task timed out after 1\.00 seconds\n\nEND RequestId: late\nREPORT RequestId: late\tDuration: (999|1\d{3})\.\d\d ms\t.* ms\tStatus: timeout\n/,
    );
    expect(log).toMatch(
      /\nexits\nRequestId: gone Error: Runtime exited with error: exit status 7\nRuntime\.ExitError\nEND RequestId: gone\nREPORT RequestId: gone\t.*\tStatus: error\tError Type: Runtime\.ExitError\n/,
    );
    expect(log).toMatch(/REPORT RequestId: left\t.*\tStatus: error\tError Type: Runtime\.InvalidStateTransition\n/);
    expect(log).toMatch(/REPORT RequestId: large\t.*\tStatus: error\tError Type: Function\.ResponseSizeTooLarge\n/);
    // The function's own error is not the platform's to tell: the runtime writes it.
    expect(log).toMatch(/\nraised\nEND RequestId: raised\nREPORT RequestId: raised\t[^\n]* MB\n/);
  });

  it('give each line of output to the call that it belongs to, after timeouts and crashes as well', async () => {
    const worker = await start();
    await worker.agent.idle();
    const wishes = [{}, { sleep: 5 }, {}, { exit: 2 }, { raw: 'not ended' }, {}];
    for (const [index, wish] of wishes.entries()) {
      await worker.agent.call({ print: `of ${index}`, ...wish }, { id: `call-${index}`, timeoutMs: 1_000 });
      await worker.agent.idle();
    }
    const log = await logUntil(worker, 'REPORT RequestId: call-5');
    const byCall = new Map<string, string>();
    for (const { requestId, data } of new InvocationSplitter().push(Buffer.from(log), 0)) {
      byCall.set(requestId, (byCall.get(requestId) ?? '') + data.toString());
    }
    for (const index of wishes.keys()) {
      const text = byCall.get(`call-${index}`) ?? '';
      expect(text.startsWith(`START RequestId: call-${index} Version: $LATEST\nof ${index}\n`)).toBe(true);
      expect(text).toMatch(new RegExp(`\\nREPORT RequestId: call-${index}\\t[^\\n]*\\n$`));
      expect(text.match(/^of \d$/gm)).toHaveLength(1);
    }
    expect(byCall.get('call-4')).toContain('\nnot ended\nEND RequestId: call-4\n');
    expect(byCall.get('') ?? '').not.toMatch(/^of \d$/m);
  });

  it('name the trace of a call that is sampled', async () => {
    const worker = await start();
    await worker.agent.idle();
    await worker.agent.call({}, { id: 'traced', order: { traceId: TRACE } });
    await worker.agent.call({}, { id: 'not', order: { traceId: TRACE.replace('Sampled=1', 'Sampled=0') } });
    const log = await logUntil(worker, 'REPORT RequestId: not');
    expect(log.match(/^XRAY.*$/gm)).toEqual([
      'XRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: 53995c3f42cd8ad8\tSampled: true',
    ]);
  });

  it.each([
    ['an error', { INIT_ERROR: 'no cheese' }, 'Status: error\tError Type: Function.Sad'],
    ['an exit', { INIT_EXIT: '3' }, 'Status: error\tError Type: Runtime.ExitError'],
    ['a timeout', { INIT_SLEEP: '60' }, 'Status: timeout'],
  ])('tell of an initialization that ends with %s', async (_, env, status) => {
    const worker = await start({ env, flags: ['--init-timeout-ms', '2000'] });
    const log = await logUntil(worker, /INIT_REPORT.*\n/);
    expect(log).toMatch(/INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\t/);
    expect(log).toContain(`\tPhase: init\t${status}\n`);
  });

  describe('as JSON', () => {
    const json = { AWS_LAMBDA_LOG_FORMAT: 'JSON' };
    interface Event {
      readonly time: string;
      readonly type: string;
      readonly record: Readonly<Record<string, unknown>>;
    }
    const events = async (worker: InitWorker, last: string): Promise<readonly Event[]> => {
      const log = await logUntil(worker, new RegExp(`"type":"platform.report","record":{"requestId":"${last}".*\\n`));
      return log
        .split('\n')
        .filter((line) => line.includes('"platform.'))
        .map((line) => JSON.parse(line) as Event);
    };

    it('are the events of Lambda, each on a line of its own', async () => {
      const worker = await start({ env: json, flags: ['--system-log-level', 'DEBUG'] });
      await worker.agent.idle();
      await worker.agent.call({ raw: 'not ended' }, { id: 'first', order: { traceId: TRACE } });
      await worker.agent.call({ sleep: 5 }, { id: 'late', timeoutMs: 1_000 });
      await worker.agent.idle();
      await worker.agent.call({ error: 'raised' }, { id: 'raised' });
      const told = await events(worker, 'raised');
      const tracing = { spanId: '53995c3f42cd8ad8', type: 'X-Amzn-Trace-Id', value: TRACE };
      const init = { initializationType: 'on-demand', phase: 'init' };
      const again = { initializationType: 'on-demand', phase: 'invoke' };
      const functionArn = 'arn:aws:lambda:us-east-1:012345678912:function:tried';
      const done = { durationMs: expect.any(Number), producedBytes: expect.any(Number) };
      const metrics = {
        durationMs: expect.any(Number),
        billedDurationMs: expect.any(Number),
        memorySizeMB: 128,
        maxMemoryUsedMB: expect.any(Number),
      };
      expect(told.map(({ type, record }) => [type.replace('platform.', ''), record])).toEqual([
        ['initStart', { ...init, functionName: 'tried', functionVersion: '$LATEST' }],
        ['initRuntimeDone', { ...init, status: 'success' }],
        ['initReport', { ...init, status: 'success', metrics: { durationMs: expect.any(Number) } }],
        ['start', { requestId: 'first', functionArn, version: '$LATEST', tracing }],
        ['runtimeDone', { requestId: 'first', status: 'success', metrics: done, tracing }],
        [
          'report',
          {
            requestId: 'first',
            status: 'success',
            metrics: { ...metrics, initDurationMs: expect.any(Number) },
            tracing,
          },
        ],
        ['start', { requestId: 'late', functionArn, version: '$LATEST' }],
        ['runtimeDone', { requestId: 'late', status: 'timeout', metrics: done }],
        ['report', { requestId: 'late', status: 'timeout', metrics }],
        ['initStart', { ...again, functionName: 'tried', functionVersion: '$LATEST' }],
        ['initRuntimeDone', { ...again, status: 'success' }],
        ['initReport', { ...again, status: 'success', metrics: { durationMs: expect.any(Number) } }],
        ['start', { requestId: 'raised', functionArn, version: '$LATEST' }],
        ['runtimeDone', { requestId: 'raised', status: 'error', errorType: 'Raised', metrics: done }],
        ['report', { requestId: 'raised', status: 'error', errorType: 'Raised', metrics }],
      ]);
      for (const { time } of told) {
        expect(Math.abs(Date.parse(time) - Date.now())).toBeLessThan(60_000);
      }
      expect(await worker.log()).not.toMatch(/^(?:START|END|REPORT|XRAY)|Task timed out/m);
    });

    it('are written from the level on that the worker has; START and REPORT always', async () => {
      const at = async (level: string): Promise<readonly string[]> => {
        const worker = await start({ env: json, flags: ['--system-log-level', level] });
        await worker.agent.idle();
        await worker.agent.call({}, { id: 'good' });
        await worker.agent.call({ exit: 4 }, { id: 'gone' });
        return (await events(worker, 'gone')).map(({ type }) => type.replace('platform.', ''));
      };
      expect(await at('INFO')).toEqual(['start', 'report', 'start', 'runtimeDone', 'report']);
      expect(await at('WARN')).toEqual(['start', 'report', 'start', 'runtimeDone', 'report']);
    });

    it('tell of an initialization that fails', async () => {
      const worker = await start({ env: { ...json, INIT_EXIT: '3' } });
      const log = await logUntil(worker, /"platform.initReport".*\n/);
      const report = log.split('\n').find((line) => line.includes('platform.initReport')) ?? '';
      expect((JSON.parse(report) as Event).record).toEqual({
        initializationType: 'on-demand',
        phase: 'init',
        status: 'error',
        errorType: 'Runtime.ExitError',
        metrics: { durationMs: expect.any(Number) },
      });
    });

    it('give each line of output to the call that it belongs to', async () => {
      const worker = await start({ env: json });
      await worker.agent.idle();
      for (const [index, wish] of [{}, { sleep: 5 }, { exit: 2 }, { raw: 'not ended' }].entries()) {
        await worker.agent.call({ print: `{"of":${index}}`, ...wish }, { id: `call-${index}`, timeoutMs: 1_000 });
        await worker.agent.idle();
      }
      await events(worker, 'call-3');
      const spans = new InvocationSplitter().push(Buffer.from(await worker.log()), 0);
      for (const index of [0, 1, 2, 3]) {
        const own = spans.filter(({ requestId }) => requestId === `call-${index}`);
        const text = own.map(({ data }) => data.toString()).join('');
        expect(text.match(/"of":\d/g)).toEqual([`"of":${index}`]);
        expect(own.at(-1)?.isLast).toBe(true);
      }
    });
  });
});
