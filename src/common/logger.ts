import { type Logger as PinoLogger, pino } from 'pino';

/** A structured logger: fields first, then a constant message. */
export type Logger = PinoLogger;

/**
 * Makes the logger of one role, writing JSON lines to standard output.
 *
 * @param level one of pino's levels; `info` by default
 */
export function createLogger(role: string, level = 'info'): Logger {
  return pino({
    level,
    base: { role },
    timestamp: pino.stdTimeFunctions.isoTime,
    // Payloads and environment values belong to the user, never to a log.
    redact: { paths: ['payload', '*.payload', 'env', '*.env', 'token', '*.token'], censor: '[redacted]' },
  });
}

/** A silent logger, for tests. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
