import { createRequire } from 'node:module';
import { loadConfig } from '../config.js';
import { CHECKS } from '../doctor/checks.js';
import { examine } from '../doctor/finding.js';
import type { Finding, Level } from '../doctor/finding.js';
import { daemonSettings } from '../doctor/settings.js';
import { withSubject } from '../doctor/subject.js';
import { UsageError } from './command.js';
import type { Run } from './command.js';

/**
 * `doctor [-o json]`: one line for each thing that was looked at, then a summary. Exit status 0: no problems, though there
 * may be warnings; 1: problems. Takes five seconds at most. Changes nothing.
 *
 * @throws UsageError; ConfigError; Error where it does not run as root
 */
export const run: Run = async (args, env, out) => {
  const isJson = parse(args);
  if (process.getuid?.() !== 0)
    throw new Error('doctor looks at sockets, processes and the firewall of the host: run it as root');
  const { env: settings, from } = daemonSettings(env, path => loadConfig(path).socketDir);
  if (from !== undefined && !isJson) out.error(`with the settings of the running daemon (process ${from})`);
  const findings = await withSubject(loadConfig(settings), version(), subject => examine(CHECKS, subject));
  const count = (level: Level): number => findings.filter(finding => finding.level === level).length;
  const [problems, warnings] = [count('problem'), count('warning')];
  if (isJson)
    out.line(JSON.stringify({ problems, warnings, ok: count('ok'), checks: findings }, undefined, 2));
  else {
    for (const finding of findings) out.line(lineOf(finding));
    out.line(`${count('ok')} ok, ${several(warnings, 'warning')}, ${several(problems, 'problem')}`);
  }
  return problems === 0 ? 0 : 1;
};

/** A finding as one line of text. */
export function lineOf({ check, level, text, remedy }: Finding): string {
  const line = `${level.padEnd(8)} ${check}: ${text}`;
  // What others say (an error of TLS) may have several lines.
  return (remedy === undefined ? line : `${line}. Remedy: ${remedy}`).replaceAll(/\s*\n\s*/g, ' ');
}

/** Whether JSON is asked for. */
function parse(args: readonly string[]): boolean {
  if (args.length === 0) return false;
  const text = args.join(' ');
  if (/^(-o ?|-o=|--output[ =])json$/.test(text)) return true;
  throw new UsageError(`doctor does not know "${text}"`);
}

function several(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function version(): string {
  const { version }: { version: string } = createRequire(import.meta.url)('../../package.json');
  return version;
}
