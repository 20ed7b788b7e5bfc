import { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor, type SpanExporter } from '@opentelemetry/sdk-trace-base';
import { ATTR_SERVICE_NAME } from '@opentelemetry/semantic-conventions';
import type { Clock } from '../clock.ts';
import type { Logger } from '../logger.ts';
import type { SpanAttributes, SpanOptions, Tracing } from './span.ts';

/** Milliseconds by which the two clocks may differ: the wall clock is cut to whole ones. */
const MAX_DRIFT_MS = 2;

const kinds: Readonly<Record<SpanOptions['kind'], SpanKind>> = {
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  internal: SpanKind.INTERNAL,
};

export interface OtlpTracingOptions {
  /** `service.name` where the environment gives none. */
  readonly service: string;
  /** Further attributes of this process, such as its node. */
  readonly attributes: SpanAttributes;
  /** Where spans are posted; `OTEL_EXPORTER_OTLP_*` say so when undefined. */
  readonly url: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Sends spans by OTLP over HTTP, in batches. Sampler, limits, batches, headers, timeout, compression and resource
 * follow the `OTEL_*` variables of the environment, which the SDK reads. Loaded only when spans are wanted.
 */
export function createOtlpTracing(options: OtlpTracingOptions): Tracing {
  const { attributes, clock, logger, service, url } = options;
  const exporter = reporting(new OTLPTraceExporter(url === undefined ? {} : { url }), logger);
  const provider = new BasicTracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ [ATTR_SERVICE_NAME]: service, ...attributes }))
      // The environment has the last word.
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  const tracer = provider.getTracer('esb');
  const now = wallClock(clock);
  return {
    now,
    begin(name, { attributes: first, kind, parent, startedAt }) {
      const span = tracer.startSpan(
        name,
        { kind: kinds[kind], ...(first === undefined ? {} : { attributes: first }), startTime: startedAt ?? now() },
        parent === undefined
          ? ROOT_CONTEXT
          : trace.setSpanContext(ROOT_CONTEXT, {
              traceId: parent.traceId,
              spanId: parent.spanId,
              traceFlags: parent.sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
              isRemote: true,
            }),
      );
      const { spanId, traceFlags, traceId } = span.spanContext();
      return {
        context: { traceId, spanId, sampled: (traceFlags & TraceFlags.SAMPLED) !== 0 },
        set: (more) => void span.setAttributes(more),
        fail: (message) => void span.setStatus({ code: SpanStatusCode.ERROR, message }),
        end: (at) => span.end(at ?? now()),
      };
    },
    close: () => provider.shutdown(),
  };
}

/**
 * The wall clock with the fractions of the monotonic clock: spans of a few microseconds differ, and no stage ends
 * before its begin. Steps of the wall clock are followed.
 */
function wallClock(clock: Clock): () => number {
  let offset = Number.NaN;
  return () => {
    const monotonic = clock.monotonic();
    const wall = clock.now();
    if (!(Math.abs(offset + monotonic - wall) <= MAX_DRIFT_MS)) {
      offset = wall - monotonic;
    }
    return offset + monotonic;
  };
}

/** Says once that spans do not arrive, and once that they do again. */
function reporting(exporter: SpanExporter, logger: Logger): SpanExporter {
  let failing = false;
  return {
    export(spans, done) {
      exporter.export(spans, (result) => {
        const failed = result.error !== undefined || result.code !== 0;
        if (failed && !failing) {
          logger.warn({ err: result.error, spans: spans.length }, 'spans were not taken by the receiver');
        } else if (!failed && failing) {
          logger.info('spans are taken by the receiver again');
        }
        failing = failed;
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
    forceFlush: async () => await exporter.forceFlush?.(),
  };
}
