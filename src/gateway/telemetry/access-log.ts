import type { Logger } from '../../common/logger.ts';
import { principalName } from '../access/principal.ts';
import type { CallListener } from './observed-call.ts';
import { startKind } from './observed-call.ts';

/** Longest User-Agent that is logged, in characters. */
const MAX_USER_AGENT = 200;

/** One line for each request, on the logger of the gateway, at any log level. No line has a payload or a secret. */
export function createAccessLog(logger: Logger): CallListener {
  const log = logger.child({ log: 'access' }, { level: 'info' });
  return {
    answered(record, report) {
      const { info, principal } = record;
      const { timings } = report;
      const { headers, socket } = info.message;
      log.info(
        {
          requestId: info.requestId,
          operation: info.operation,
          function: shown(record.functionName),
          type: shown(record.kind),
          status: report.status,
          outcome: report.result,
          start: shown(startKind(report.start)),
          durationMs: rounded(report.durationMs),
          queuedMs: timings === undefined ? undefined : rounded(record.queuedMs + timings.queued / 1_000),
          wakeMs: timings === undefined ? undefined : rounded(timings.wake / 1_000),
          runMs: timings === undefined ? undefined : rounded(timings.run / 1_000),
          requestBytes: record.requestBytes,
          answerBytes: report.answerBytes,
          caller: principal === undefined ? undefined : shown(principalName(principal)),
          authentication: principal?.kind,
          address: info.address ?? socket.remoteAddress,
          userAgent: headers['user-agent']?.slice(0, MAX_USER_AGENT),
          trace: shown(record.trace),
        },
        'request',
      );
    },
  };
}

function shown(text: string): string | undefined {
  return text === '' ? undefined : text;
}

/** Milliseconds to the microsecond. */
function rounded(milliseconds: number): number {
  return Math.round(milliseconds * 1_000) / 1_000;
}
