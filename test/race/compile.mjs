/** Compiles the race with the allocator as it is now, beside the repository's own dist/. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../../src/setup/command.mjs';
import { ROOT } from '../../src/setup/dependencies.mjs';

const OUT = join(ROOT, '.cache/race');

/**
 * Answers with the folder of the compiled race.
 * @returns {Promise<string>}
 */
export async function compileRace() {
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
  const project = fileURLToPath(new URL('tsconfig.json', import.meta.url));
  mkdirSync(OUT, { recursive: true });
  await run([process.execPath, compiler, '--project', project], { cwd: ROOT });
  copyFileSync(join(ROOT, 'package.json'), join(OUT, 'package.json'));
  return join(OUT, 'test/race');
}
