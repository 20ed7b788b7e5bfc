import { pino } from 'pino';
import type { Logger } from '../../src/common/logger.ts';

/** A line of a log as far as tests look at it. */
export interface LogLine {
  /** pino's number: 20 debug, 30 info, 40 warn, 50 error. */
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** A logger that keeps what it is told, at every level. */
export function recordingLogger(): { readonly logger: Logger; readonly lines: readonly LogLine[] } {
  const lines: LogLine[] = [];
  const logger = pino({ level: 'trace' }, { write: (text: string) => void lines.push(JSON.parse(text) as LogLine) });
  return { logger, lines };
}
