import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../../src/common/clock.ts';
import { openTracing, type TracingEnvironment, tracingSettings } from '../../../../src/common/tracing/tracing.ts';
import { run } from '../../../support/command.ts';
import { startOtlpReceiver } from '../../../support/otlp-receiver.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';
import { waitFor } from '../../../support/wait-for.ts';

const endpoint = 'http://collector:4318';

/** Whether these files of ours load the SDK of OpenTelemetry; its interface belongs to prom-client already. */
async function loadedBy(...files: readonly string[]): Promise<string> {
  const program = `
    import { createRequire } from 'node:module';
    for (const file of process.argv.slice(1)) { await import(file); }
    const loaded = Object.keys(createRequire(import.meta.filename ?? '/').cache ?? {});
    console.log(loaded.some((path) => path.includes('@opentelemetry/sdk-trace')) ? 'some' : 'none');
  `;
  const paths = files.map((file) => resolve(import.meta.dirname, '../../../../src', file));
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', program, ...paths]);
  return stdout.trim();
}

describe('spans', () => {
  it('take no SDK to be loaded where nobody wants them', { timeout: 60_000 }, async () => {
    expect(await loadedBy('gateway/main.ts', 'agent/main.ts')).toBe('none');
    expect(await loadedBy('common/tracing/otlp-tracing.ts')).toBe('some');
  });

  it.each<[string, string | undefined, TracingEnvironment]>([
    ['where nothing asks for them', undefined, {}],
    ['where the SDK is disabled', endpoint, { OTEL_SDK_DISABLED: 'true' }],
    ['where there is to be no exporter', endpoint, { OTEL_TRACES_EXPORTER: 'none' }],
    ['where the address is empty', undefined, { OTEL_EXPORTER_OTLP_ENDPOINT: ' ' }],
  ])('are off %s', (_where, flag, env) => {
    expect(tracingSettings(flag, env)).toEqual({ kind: 'Off' });
  });

  it.each<[string, string | undefined, TracingEnvironment, string | undefined]>([
    ['the flag', 'http://collector:4318/', {}, 'http://collector:4318/v1/traces'],
    ['the environment', undefined, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }, undefined],
    ['the environment for traces alone', undefined, { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: endpoint }, undefined],
    [
      'the flag before the environment',
      endpoint,
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://other', OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
      `${endpoint}/v1/traces`,
    ],
  ])('go where %s says', (_who, flag, env, url) => {
    expect(tracingSettings(flag, env)).toEqual({ kind: 'On', url });
  });

  it.each<[string, string | undefined, TracingEnvironment]>([
    ['another protocol', endpoint, { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }],
    ['another protocol for traces', endpoint, { OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/json' }],
    ['another exporter', endpoint, { OTEL_TRACES_EXPORTER: 'zipkin' }],
    ['an address that is none', 'collector:4318', {}],
  ])('are off, and that is told, where somebody asks for %s', async (_what, flag, env) => {
    expect(tracingSettings(flag, env)).toMatchObject({ kind: 'Unsupported' });
    const { logger, lines } = recordingLogger();
    const options = { service: 'test', attributes: {}, endpoint: flag, env, clock: systemClock, logger };
    expect(await openTracing(options)).toBeUndefined();
    expect(lines.map(({ msg }) => msg)).toEqual(['tracing is off: its settings cannot be followed']);
  });

  it('arrive at a receiver of OTLP, with their times, parents and faults', async () => {
    const receiver = await startOtlpReceiver();
    const { logger } = recordingLogger();
    const tracing = await openTracing({
      service: 'test',
      attributes: { 'k8s.node.name': 'node-1' },
      endpoint: receiver.url,
      env: {},
      clock: systemClock,
      logger,
    });
    const parent = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7', sampled: true };
    const span = tracing?.begin('work', { kind: 'server', parent, startedAt: 1_700_000_000_000.25 });
    span?.set({ text: 'a', number: 3, flag: true });
    span?.fail('it broke');
    span?.end(1_700_000_000_001.5);
    const unwanted = tracing?.begin('unwanted', { kind: 'internal', parent: { ...parent, sampled: false } });
    unwanted?.end();
    const own = tracing?.begin('own', { kind: 'internal', parent: undefined });
    own?.end();
    await tracing?.close();
    expect(receiver.requests).toEqual([{ path: '/v1/traces', type: 'application/x-protobuf', key: '' }]);
    expect(receiver.spans.map(({ name }) => name)).toEqual(['work', 'own']);
    expect(receiver.spans[0]).toMatchObject({
      service: 'test',
      kind: 'SERVER',
      traceId: parent.traceId,
      spanId: span?.context.spanId,
      parentSpanId: parent.spanId,
      startedAt: 1_700_000_000_000_250_000n,
      endedAt: 1_700_000_000_001_500_000n,
      attributes: { text: 'a', number: 3, flag: true },
      fault: 'it broke',
    });
    expect(receiver.spans[0]?.resource['k8s.node.name']).toBe('node-1');
    expect(receiver.spans[1]).toMatchObject({ kind: 'INTERNAL', parentSpanId: '', fault: undefined });
    expect(unwanted?.context).toMatchObject({ traceId: parent.traceId, sampled: false });
  });

  it('that the receiver does not take hold up nobody, and that is told once', async () => {
    const receiver = await startOtlpReceiver();
    receiver.answerWith(400);
    const { logger, lines } = recordingLogger();
    const tracing = await openTracing({
      service: 'test',
      attributes: {},
      endpoint: receiver.url,
      env: {},
      clock: systemClock,
      logger,
    });
    // More than a batch has.
    for (let number = 0; number < 1_200; number += 1) {
      tracing?.begin('lost', { kind: 'internal', parent: undefined }).end();
    }
    await tracing?.close();
    await waitFor('the spans to be refused', () => receiver.requests.length >= 2);
    expect(lines.filter(({ msg }) => msg === 'spans were not taken by the receiver')).toHaveLength(1);
  });
});
