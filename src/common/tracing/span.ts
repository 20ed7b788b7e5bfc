import type { TraceContext } from './trace-context.ts';

export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

export interface SpanOptions {
  /**
   * Kind as in OpenTelemetry: `server` for an incoming request, `client` for an outgoing one, `internal` for a stage.
   */
  readonly kind: 'server' | 'client' | 'internal';
  /** The span that it belongs to; without it a trace begins here. */
  readonly parent: TraceContext | undefined;
  /** Milliseconds since the epoch, with fractions; now by default. */
  readonly startedAt?: number;
  readonly attributes?: SpanAttributes;
}

/** A stretch of time of one call. */
export interface TraceSpan {
  readonly context: TraceContext;
  set(attributes: SpanAttributes): void;
  fail(message: string): void;
  /** @param at milliseconds since the epoch, with fractions; now by default */
  end(at?: number): void;
}

/** Receives spans. Without tracing there is no object, and no cost. */
export interface Tracing {
  /** Milliseconds since the epoch, with fractions, on one clock for all spans of this process. */
  now(): number;
  begin(name: string, options: SpanOptions): TraceSpan;
  /** Sends the remaining spans, within three seconds. Never rejects. */
  close(): Promise<void>;
}
