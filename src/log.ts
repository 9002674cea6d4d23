import { pino } from 'pino';
import type { Logger } from 'pino';

export type { Logger } from 'pino';

/** Names under which a secret might reach a log line; their values are never printed. */
const SECRETS = ['password', 'token', 'secret', 'key', 'credentials'];

/** The root logger: JSON lines on standard output, one field `module` per part of the daemon. */
export function createLogger(level: string): Logger {
  return pino({
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: label => ({ level: label }) },
    redact: { paths: SECRETS.flatMap(name => [name, `*.${name}`]), censor: '[secret]' },
  });
}
