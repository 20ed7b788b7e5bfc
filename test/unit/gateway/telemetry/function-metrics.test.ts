import type { IncomingMessage } from 'node:http';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { registerFunctionMetrics } from '../../../../src/gateway/telemetry/function-metrics.ts';
import type { CallReport } from '../../../../src/gateway/telemetry/observed-call.ts';

const ok: CallReport = {
  result: 'ok',
  status: 200,
  durationMs: 120,
  start: 'paused',
  timings: { queued: 4_000, wake: 30_000, run: 80_000, start: 'paused' },
  answerBytes: 2,
};
const refused: CallReport = {
  result: 'TooManyRequestsException',
  status: 429,
  durationMs: 1,
  start: '',
  timings: undefined,
  answerBytes: 0,
};

function lab(maxFunctions = 100) {
  const registry = new Registry();
  const functions = new Set(['hello', 'other']);
  const listener = registerFunctionMetrics(registry, { exists: (name) => functions.has(name), maxFunctions });
  return {
    functions,
    ran: listener.ran,
    call(functionName: string, report: CallReport, operation = 'Invoke', queuedMs = 0) {
      listener.answered(
        {
          info: { requestId: 'id-1', operation, message: {} as IncomingMessage },
          functionName,
          kind: operation === 'Invoke' ? 'RequestResponse' : '',
          principal: undefined,
          requestBytes: 2,
          queuedMs,
          trace: '',
        },
        report,
      );
    },
    /** Lines of the page that begin so. */
    async lines(start: string): Promise<string[]> {
      const page = await registry.metrics();
      return page.split('\n').filter((line) => line.startsWith(start));
    },
  };
}

describe('the metrics of calls', () => {
  it('count them by function, outcome and how they found their worker', async () => {
    const { call, lines } = lab();
    call('hello', ok);
    call('hello', ok);
    call('hello', { ...ok, result: 'function_error', start: 'running' });
    call('other', { ...ok, start: 'absent' });
    call('other', refused);
    expect((await lines('esb_gateway_calls_total')).toSorted()).toEqual([
      'esb_gateway_calls_total{function="hello",outcome="function_error",start="warm"} 1',
      'esb_gateway_calls_total{function="hello",outcome="ok",start="resumed"} 2',
      'esb_gateway_calls_total{function="other",outcome="TooManyRequestsException",start=""} 1',
      'esb_gateway_calls_total{function="other",outcome="ok",start="cold"} 1',
    ]);
  });

  it('tell apart what a call waited, what it took to wake the worker, and to run', async () => {
    const { call, lines } = lab();
    call('hello', ok, 'Invoke', 1);
    call('hello', refused);
    const sums = (await lines('esb_gateway_call_'))
      .filter((line) => line.includes('_sum'))
      .map((line) => {
        const [, name = '', labels = '', value = ''] =
          /^esb_gateway_call_(\w+)_seconds_sum(\S*) (\S+)$/.exec(line) ?? [];
        return [`${name}${labels}`, Number(Number(value).toFixed(6))];
      });
    expect(Object.fromEntries(sums)).toEqual({
      'duration{function="hello"}': 0.12,
      // In the gateway and at the worker.
      'queue{function="hello"}': 0.005,
      'wake{function="hello",start="resumed"}': 0.03,
      'run{function="hello"}': 0.08,
      overhead: 0.005,
    });
  });

  it('have the times of the tries of Events, which nobody waits for', async () => {
    const { lines, ran } = lab();
    ran('hello', { queued: 4_000, wake: 30_000, run: 80_000, start: 'absent' });
    expect((await lines('esb_gateway_call_')).filter((line) => /_sum|_count/.test(line))).toEqual(
      expect.arrayContaining([
        'esb_gateway_call_queue_seconds_sum{function="hello"} 0.004',
        'esb_gateway_call_wake_seconds_sum{function="hello",start="cold"} 0.03',
        'esb_gateway_call_run_seconds_sum{function="hello"} 0.08',
      ]),
    );
    expect(await lines('esb_gateway_call_duration_seconds_count')).toEqual([]);
    expect(await lines('esb_gateway_calls_total')).toEqual([]);
  });

  it('have no wake time of calls that found their worker running', async () => {
    const { call, lines } = lab();
    call('hello', {
      ...ok,
      start: 'running',
      timings: { queued: 4_000, wake: 0, run: 80_000, start: 'running' },
    });
    expect(await lines('esb_gateway_call_wake_seconds_count')).toEqual([]);
    expect(await lines('esb_gateway_call_run_seconds_count')).toHaveLength(1);
  });

  it('have no label for names that callers make up', async () => {
    const { call, lines } = lab();
    for (let number = 0; number < 500; number += 1) {
      call(`made-up-${number}`, { ...refused, result: 'ResourceNotFoundException', status: 404 });
    }
    expect(await lines('esb_gateway_calls_total')).toEqual([
      'esb_gateway_calls_total{function="(unknown)",outcome="ResourceNotFoundException",start=""} 500',
    ]);
  });

  it('have one label for all functions beyond as many as were asked for', async () => {
    const { call, functions, lines } = lab(2);
    for (const name of ['third', 'fourth']) {
      functions.add(name);
    }
    for (const name of ['hello', 'other', 'third', 'fourth', 'nobody', 'hello']) {
      call(name, ok);
    }
    expect((await lines('esb_gateway_call_run_seconds_count')).toSorted()).toEqual([
      'esb_gateway_call_run_seconds_count{function="(other)"} 2',
      'esb_gateway_call_run_seconds_count{function="(unknown)"} 1',
      'esb_gateway_call_run_seconds_count{function="hello"} 2',
      'esb_gateway_call_run_seconds_count{function="other"} 1',
    ]);
  });

  it('forget a function that is gone, whose place another one takes', async () => {
    const { call, functions, lines } = lab(1);
    call('hello', ok);
    functions.delete('hello');
    expect(await lines('esb_gateway_calls_total')).toEqual([]);
    expect((await lines('esb_gateway_call_')).filter((line) => line.includes('hello'))).toEqual([]);
    call('other', ok);
    functions.add('hello');
    call('hello', ok);
    expect((await lines('esb_gateway_calls_total')).toSorted()).toEqual([
      'esb_gateway_calls_total{function="(other)",outcome="ok",start="resumed"} 1',
      'esb_gateway_calls_total{function="other",outcome="ok",start="resumed"} 1',
    ]);
  });

  it('count every other request by operation and status', async () => {
    const { call, lines } = lab();
    call('hello', ok);
    call('', { ...refused, result: 'UnknownOperationException', status: 404 }, 'Unknown');
    expect((await lines('esb_gateway_requests_total')).toSorted()).toEqual([
      'esb_gateway_requests_total{operation="Invoke",status="200"} 1',
      'esb_gateway_requests_total{operation="Unknown",status="404"} 1',
    ]);
    expect(await lines('esb_gateway_calls_total')).toHaveLength(1);
  });
});
