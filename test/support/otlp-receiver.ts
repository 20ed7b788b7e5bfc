import { createServer } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { loadSync, type MethodDefinition, type ServiceDefinition } from '@grpc/proto-loader';
import { onTestFinished } from 'vitest';
import { waitFor } from './wait-for.ts';

type Value = string | number | boolean;

/** A span as it arrived. */
export interface ReceivedSpan {
  /** `service.name` of the process that sent it. */
  readonly service: string;
  readonly resource: Readonly<Record<string, Value>>;
  readonly name: string;
  /** `SERVER`, `CLIENT`, `INTERNAL`. */
  readonly kind: string;
  /** Hexadecimal; the parent is empty for the first of a trace. */
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  /** Nanoseconds since the epoch. */
  readonly startedAt: bigint;
  readonly endedAt: bigint;
  readonly attributes: Readonly<Record<string, Value>>;
  /** Message of the error that it is marked with; undefined when it is not. */
  readonly fault: string | undefined;
}

/** A receiver of OTLP over HTTP, which reads the protobuf that it is sent. */
export interface OtlpReceiver {
  readonly url: string;
  readonly spans: readonly ReceivedSpan[];
  /** Path, content type and own headers of each request. */
  readonly requests: readonly { readonly path: string; readonly type: string; readonly key: string }[];
  /** Status of its answers from now on; 200 at first. */
  answerWith(status: number): void;
  /** The one span of a service with that name, of one trace where there are several, once it is there. */
  span(service: string, name: string, traceId?: string): Promise<ReceivedSpan>;
}

interface KeyValue {
  readonly key: string;
  readonly value: {
    readonly value: 'stringValue' | 'boolValue' | 'intValue' | 'doubleValue';
    readonly stringValue?: string;
    readonly boolValue?: boolean;
    readonly intValue?: string;
    readonly doubleValue?: number;
  };
}

interface ExportRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] };
    readonly scopeSpans: readonly {
      readonly spans: readonly {
        readonly traceId: Buffer;
        readonly spanId: Buffer;
        readonly parentSpanId: Buffer;
        readonly name: string;
        readonly kind: string;
        readonly startTimeUnixNano: string;
        readonly endTimeUnixNano: string;
        readonly attributes: readonly KeyValue[];
        readonly status: { readonly message: string; readonly code: string } | null;
      }[];
    }[];
  }[];
}

/** Starts one on a free loopback port; it ends with the test. */
export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const decode = exportDecoder();
  const spans: ReceivedSpan[] = [];
  const requests: { path: string; type: string; key: string }[] = [];
  let status = 200;
  const server = createServer((request, response) => {
    buffer(request).then(
      (body) => {
        requests.push({
          path: request.url ?? '',
          type: request.headers['content-type'] ?? '',
          key: String(request.headers['x-api-key'] ?? ''),
        });
        if (status === 200) {
          spans.push(...spansOf(decode(body)));
        }
        response.writeHead(status, { 'content-type': 'application/x-protobuf' });
        response.end();
      },
      () => response.destroy(),
    );
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const bound = server.address();
  return {
    url: `http://127.0.0.1:${typeof bound === 'object' && bound !== null ? bound.port : 0}`,
    spans,
    requests,
    answerWith(next) {
      status = next;
    },
    async span(service, name, traceId) {
      const isMeant = (span: ReceivedSpan): boolean =>
        span.service === service && span.name === name && (traceId ?? span.traceId) === span.traceId;
      const found = await waitFor(`a span ${name} of ${service}`, () => spans.find(isMeant));
      if (spans.filter(isMeant).length > 1) {
        throw new Error(`there are several spans ${name} of ${service}`);
      }
      return found;
    },
  };
}

function exportDecoder(): (bytes: Buffer) => ExportRequest {
  const definition = loadSync('trace-service.proto', {
    keepCase: false,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
    includeDirs: [fileURLToPath(new URL('otlp', import.meta.url))],
  })['opentelemetry.proto.collector.trace.v1.TraceService'] as ServiceDefinition;
  const method = definition.Export as unknown as MethodDefinition<ExportRequest, object>;
  return method.requestDeserialize;
}

function spansOf(request: ExportRequest): ReceivedSpan[] {
  return request.resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const told = recordOf(resource.attributes);
    return scopeSpans.flatMap((scope) =>
      scope.spans.map((span) => ({
        service: String(told['service.name']),
        resource: told,
        name: span.name,
        kind: span.kind.replace('SPAN_KIND_', ''),
        traceId: span.traceId.toString('hex'),
        spanId: span.spanId.toString('hex'),
        parentSpanId: span.parentSpanId.toString('hex'),
        startedAt: BigInt(span.startTimeUnixNano),
        endedAt: BigInt(span.endTimeUnixNano),
        attributes: recordOf(span.attributes),
        fault: span.status?.code === 'STATUS_CODE_ERROR' ? span.status.message : undefined,
      })),
    );
  });
}

function recordOf(attributes: readonly KeyValue[]): Record<string, Value> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => {
      const told = value[value.value];
      return [key, value.value === 'intValue' ? Number(told) : (told ?? '')];
    }),
  );
}
