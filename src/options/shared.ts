import { SYSTEM_NAMESPACE } from '../api/name.ts';
import { choice, text } from './flag.ts';

/** Least severe messages that a process logs. */
export const logLevel = choice('--log-level <level>', 'least severe messages to log', [
  'trace',
  'debug',
  'info',
  'warn',
  'error',
  'fatal',
  'silent',
])
  .or('info')
  .env('ESB_LOG_LEVEL');

export const kubeconfig = text(
  '--kubeconfig <file>',
  'how to reach the API server; without it, the service account of the Pod',
);

export const systemNamespace = text('--system-namespace <name>', 'where Leases and the client authority are kept').or(
  SYSTEM_NAMESPACE,
);

export const otlpEndpoint = text(
  '--otlp-endpoint <url>',
  'where spans of calls are sent: a receiver of OTLP over HTTP; OTEL_EXPORTER_OTLP_ENDPOINT by default, and nowhere without it',
);
