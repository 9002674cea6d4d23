/** The npm packages of this repository, installed when they are not what the lockfile says. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { reason, run } from './command.mjs';

/** The repository's root. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** @typedef {{ packages: Record<string, { version?: string, optional?: boolean, devOptional?: boolean }> }} Lockfile */

/**
 * Whether node_modules differs from the lockfile. Content decides, not age: a fresh checkout of the same lockfile
 * on a machine without network must not ask for an `npm ci` that cannot work.
 */
export function dependenciesAreStale() {
  const installed = join(ROOT, 'node_modules/.package-lock.json');
  if (!existsSync(installed)) return true;
  const have = /** @type {Lockfile} */ (JSON.parse(readFileSync(installed, 'utf8'))).packages;
  const want = /** @type {Lockfile} */ (JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')))
    .packages;
  return Object.entries(want).some(
    ([path, entry]) =>
      path !== '' && !entry.optional && !entry.devOptional && have[path]?.version !== entry.version,
  );
}

/**
 * `npm ci` where needed. Output is shown only when it fails.
 * @param {(line: string) => void} [say]
 */
export async function ensureDependencies(say = console.log) {
  if (!dependenciesAreStale()) return;
  say('npm ci …');
  try {
    await run(['npm', 'ci', '--no-progress'], { cwd: ROOT });
  } catch (error) {
    throw new Error(`${reason(error)}\nIs the npm registry reachable? Then run this again.`, {
      cause: error,
    });
  }
}
