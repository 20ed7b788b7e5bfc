import type { Clock } from '../clock.ts';
import { sleep } from '../deadline.ts';
import { EsbError, messageOf } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { OtlpTracingOptions } from './otlp-tracing.ts';
import type { Tracing } from './span.ts';

/** Milliseconds for the last spans to be sent when a role ends. */
const CLOSE_MS = 3_000;

/** Whether spans are wanted, and where. */
export type TracingSettings =
  | { readonly kind: 'Off' }
  /** `url` is that of the flag; without it the environment says where. */
  | { readonly kind: 'On'; readonly url: string | undefined }
  | { readonly kind: 'Unsupported'; readonly message: string };

/** The variables of OpenTelemetry that are read here; its SDK reads the others. */
export type TracingEnvironment = Readonly<Record<string, string | undefined>>;

/**
 * The tracing settings of flag and environment, by the names of the OpenTelemetry specification ("Environment Variable
 * Specification", "OTLP Exporter Configuration").
 *
 * @param endpoint the flag: the base address of a collector, which serves `/v1/traces`; precedes the environment
 */
export function tracingSettings(endpoint: string | undefined, env: TracingEnvironment): TracingSettings {
  const settingOf = (name: string): string => env[name]?.trim() ?? '';
  const exporter = settingOf('OTEL_TRACES_EXPORTER');
  if (settingOf('OTEL_SDK_DISABLED').toLowerCase() === 'true' || exporter === 'none') {
    return { kind: 'Off' };
  }
  const wanted =
    endpoint !== undefined ||
    settingOf('OTEL_EXPORTER_OTLP_ENDPOINT') !== '' ||
    settingOf('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT') !== '';
  if (!wanted) {
    return { kind: 'Off' };
  }
  if (exporter !== '' && exporter !== 'otlp') {
    return { kind: 'Unsupported', message: `OTEL_TRACES_EXPORTER=${exporter}: spans are sent by otlp only` };
  }
  const protocol = settingOf('OTEL_EXPORTER_OTLP_TRACES_PROTOCOL') || settingOf('OTEL_EXPORTER_OTLP_PROTOCOL');
  if (protocol !== '' && protocol !== 'http/protobuf') {
    return {
      kind: 'Unsupported',
      message: `OTLP by ${protocol} is not spoken here: spans are sent by http/protobuf only`,
    };
  }
  if (endpoint === undefined) {
    return { kind: 'On', url: undefined };
  }
  if (!URL.canParse(endpoint) || !/^https?:/.test(endpoint)) {
    return { kind: 'Unsupported', message: `${endpoint} is no address of an OTLP receiver` };
  }
  return { kind: 'On', url: `${endpoint.replace(/\/+$/, '')}/v1/traces` };
}

export interface TracingOptions extends Omit<OtlpTracingOptions, 'url'> {
  /** Of the flag; see {@link tracingSettings}. */
  readonly endpoint: string | undefined;
  readonly env: TracingEnvironment;
}

/**
 * Begins to send spans, if flag or environment want them: only then is the SDK of OpenTelemetry loaded. Invalid
 * settings are logged and leave tracing off: no call may fail because of its trace.
 */
export async function openTracing(options: TracingOptions): Promise<Tracing | undefined> {
  const { endpoint, env, logger } = options;
  const settings = tracingSettings(endpoint, env);
  switch (settings.kind) {
    case 'Off':
      return undefined;
    case 'Unsupported':
      logger.error({ reason: settings.message }, 'tracing is off: its settings cannot be followed');
      return undefined;
    case 'On':
      break;
  }
  try {
    const { createOtlpTracing } = await import('./otlp-tracing.ts');
    const tracing = createOtlpTracing({ ...options, url: settings.url });
    logger.info('spans are sent by OTLP');
    return boundClose(tracing, options.clock, logger);
  } catch (error) {
    logger.error({ err: EsbError.from(error) }, 'tracing is off: it cannot be begun');
    return undefined;
  }
}

function boundClose(tracing: Tracing, clock: Clock, logger: Logger): Tracing {
  return {
    ...tracing,
    async close() {
      const over = new AbortController();
      await Promise.race([
        tracing.close().catch((error: unknown) => {
          logger.warn({ reason: messageOf(error) }, 'last spans were not sent');
        }),
        sleep(clock, CLOSE_MS, over.signal).catch(() => undefined),
      ]);
      over.abort();
    },
  };
}
