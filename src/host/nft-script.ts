import { run } from './run.js';

/**
 * Carries out a script of nft's language, as one transaction: packets see the ruleset before it, or after. It is ended after
 * `timeout` milliseconds. Throws HostError.
 */
export async function runScript(script: string, timeout?: number): Promise<void> {
  await run('nft', ['-f', '-'], script, timeout);
}

/** Lines that delete a table, as `inet name`; the first makes sure that there is one. */
export function deletionOf(table: string): string[] {
  return [`table ${table} {}`, `delete table ${table}`];
}

/** Deletes a table, as `inet name`. Missing is fine. Throws HostError. */
export function deleteTable(table: string): Promise<void> {
  return runScript([...deletionOf(table), ''].join('\n'));
}
