import { setFlagsFromString } from 'node:v8';
import { loadConfig } from '../config.js';
import { checkDatastore } from '../ipam/check-datastore.js';
import type { DatastoreCheckResult } from '../ipam/check-datastore.js';
import type { Finding } from '../ipam/check-finding.js';
import { UsageError } from './command.js';
import type { Run } from './command.js';
import { withDatastore } from './datastore.js';

/** Shorter waits are not worth a word. */
const PATIENCE = 1_000;
const BETWEEN_WORDS = 200;

/**
 * `ipam check [--fix]`: one line per finding, then a summary. Exit status 0: consistent; 1: findings are left.
 * Round trips as {@link checkDatastore}.
 */
export const run: Run = async (args, env, out) => {
  const unknown = args.find(arg => arg !== '--fix');
  if (unknown !== undefined) throw new UsageError(`ipam check does not know "${unknown}"`);
  const fix = args.includes('--fix');
  // The daemon's heap grows in small steps to stay small; here that is a third of the time (bench/check).
  setFlagsFromString('--heap-growing-percent=100');
  let next = Date.now() + PATIENCE;
  const progress = (keys: number): void => {
    if (Date.now() < next) return;
    next = Date.now() + BETWEEN_WORDS;
    out.progress(`checking: ${keys} keys read`);
  };
  try {
    const result = await withDatastore(loadConfig(env), store => checkDatastore(store, { fix, progress }));
    for (const finding of result.repaired) out.line(`repaired: ${lineOf(finding)}`);
    for (const finding of result.findings) out.line(lineOf(finding));
    out.line(summaryOf(result, fix));
    return result.findings.length === 0 ? 0 : 1;
  } finally {
    out.progress(undefined);
  }
};

function lineOf({ kind, text, keys }: Finding): string {
  const shown = keys.filter(key => key.startsWith('/'));
  return `${kind}: ${text} (${shown.join(' ')})`;
}

function summaryOf(
  { blocks, inUse, inProgress, findings, repaired }: DatastoreCheckResult,
  fix: boolean,
): string {
  const repairable = findings.filter(finding => finding.fix).length;
  return [
    `${blocks} blocks`,
    `${inUse} addresses in use`,
    ...(inProgress > 0 ? [`${inProgress} in progress`] : []),
    ...(repaired.length > 0 ? [`${repaired.length} repaired`] : []),
    `${findings.length} findings`,
    ...(repairable > 0 && !fix ? [`${repairable} of them can be repaired with --fix`] : []),
  ].join(', ');
}
