/**
 * `npm test`: everything that has to be well before a change is merged, from a fresh clone, as root. Installs what
 * is missing, builds, lints, checks types and runs all tests. The last line printed is the count. Arguments go to
 * vitest: `npm test -- test/unit`.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CommandError, environment, exitStatus, reason, run } from '../src/setup/command.mjs';
import { ROOT, ensureDependencies } from '../src/setup/dependencies.mjs';
import { RUNTIME_PACKAGES, TEST_PACKAGES, ensurePackages } from '../src/setup/packages.mjs';

/** @typedef {{ passed: number, failed: number, skipped: number }} Count */

/**
 * The part of vitest's JSON report that is counted.
 * @typedef {object} Report
 * @property {number} numPassedTests
 * @property {number} numFailedTests
 * @property {number} numPendingTests
 * @property {number} numTodoTests
 * @property {{ status: string, assertionResults: { status: string }[] }[]} testResults
 */

const REPORT = join(mkdtempSync(join(tmpdir(), 'calico-libnetwork-test-')), 'report.json');

/** @type {Count} */
const total = { passed: 0, failed: 0, skipped: 0 };

/** @type {import('node:child_process').ChildProcess | undefined} */
let child;

let interrupted = false;
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM']))
  process.on(signal, () => {
    interrupted = true;
    child?.kill(signal);
  });

try {
  if (await check('packages', () => ensurePackages([...RUNTIME_PACKAGES, ...TEST_PACKAGES]))) {
    if (await check('npm ci', () => ensureDependencies())) {
      await check('build', () => run(['npm', 'run', '--silent', 'build'], { cwd: ROOT }));
      await Promise.all([
        check('lint', () => run(['npm', 'run', '--silent', 'lint'], { cwd: ROOT })),
        check('typecheck', () => run(['npm', 'run', '--silent', 'typecheck'], { cwd: ROOT })),
      ]);
      if (!interrupted) await tests(process.argv.slice(2));
    }
  }
  // The beds' machines died with the tests; after Ctrl-C nobody else takes their folders away.
  if (interrupted) await removeBeds();
} finally {
  rmSync(join(REPORT, '..'), { recursive: true, force: true });
}

const { passed, failed, skipped } = total;
if (failed > 0 || interrupted) process.exitCode = 1;
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);

/**
 * A step that is no test: silent when well, counted as one failure when not.
 * @param {string} name
 * @param {() => Promise<unknown>} step
 * @returns {Promise<boolean>}
 */
async function check(name, step) {
  if (interrupted) return false;
  const start = Date.now();
  try {
    await step();
    console.log(`${name}: ok (${((Date.now() - start) / 1000).toFixed(1)} s)`);
    return true;
  } catch (error) {
    console.error(`${name}: failed\n${outputOf(error)}`);
    total.failed += 1;
    return false;
  }
}

/**
 * All of what a failed command printed: a linter's findings do not fit a message.
 * @param {unknown} error
 */
function outputOf(error) {
  if (!(error instanceof CommandError)) return reason(error);
  const { stdout, stderr } = error.result;
  return (
    [stdout, stderr]
      .map(text => text.trim())
      .filter(text => text !== '')
      .join('\n') || error.message
  );
}

/**
 * Runs vitest and adds its results to the count.
 * @param {string[]} args
 */
async function tests(args) {
  const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs');
  const config = join(ROOT, '.config/vitest.config.ts');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${REPORT}`];
  child = spawn(process.execPath, [vitest, 'run', '--config', config, ...reporters, ...args], {
    cwd: ROOT,
    env: environment(),
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const status = await new Promise(resolve => {
    child?.on('error', () => resolve(127));
    child?.on('exit', (code, signal) => resolve(exitStatus(code, signal)));
  });
  const count = existsSync(REPORT) ? countOf(JSON.parse(readFileSync(REPORT, 'utf8'))) : undefined;
  if (count === undefined) console.error(`vitest ended with status ${status} and left no report`);
  total.passed += count?.passed ?? 0;
  total.skipped += count?.skipped ?? 0;
  // What went wrong outside of any test (an error nobody caught, a crash) shows only in vitest's status.
  total.failed += Math.max(count?.failed ?? 0, status === 0 && count !== undefined ? 0 : 1);
}

/**
 * @param {Report} report
 * @returns {Count}
 */
function countOf(report) {
  // A file that could not even be loaded has no failed test of its own.
  const broken = report.testResults.filter(
    file => file.status === 'failed' && !file.assertionResults.some(({ status }) => status === 'failed'),
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + broken.length,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

/** The code for that is TypeScript, which vitest's own vite can load. */
async function removeBeds() {
  // vitest's workers end a moment after it.
  await sleep(1_000);
  const { runnerImport } = await import('vite');
  const leftovers = join(ROOT, 'test/bed/leftovers.ts');
  const { module } = /** @type {{ module: typeof import('./bed/leftovers.js') }} */ (
    await runnerImport(leftovers)
  );
  await module.removeLeftovers();
}
