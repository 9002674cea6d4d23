/**
 * `npm run bench -- NAME [ARGUMENTS]`: compiles the benches with the daemon as it is now, beside the repository's own
 * dist/, and runs one of them. As root. A figure that misses its aim is shown as such and is no failure.
 */
import { copyFileSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { reason, run } from '../src/setup/command.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = join(HERE, '..');
const OUT = join(ROOT, '.cache/bench');

/** What can be run: every program here. What they share is in support/. */
const NAMES = readdirSync(HERE).flatMap(file => (file.endsWith('.ts') ? [file.slice(0, -'.ts'.length)] : []));
const [name = '', ...args] = process.argv.slice(2);

/** Compiles into the cache, laid out as the repository is: what finds its neighbours there finds them here. */
async function compile() {
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
  await run([process.execPath, compiler, '--project', join(HERE, 'tsconfig.json')], { cwd: ROOT });
  mkdirSync(OUT, { recursive: true });
  copyFileSync(join(ROOT, 'package.json'), join(OUT, 'package.json'));
  rmSync(join(OUT, 'dist'), { force: true });
  symlinkSync('src', join(OUT, 'dist'));
}

if (!NAMES.includes(name)) {
  console.error(`usage: npm run bench -- ${NAMES.join('|')} [arguments]`);
  process.exitCode = 2;
} else if (process.getuid?.() !== 0) {
  console.error('benches make network namespaces: run them as root');
  process.exitCode = 1;
} else {
  try {
    await compile();
    const file = join(OUT, 'bench', `${name}.js`);
    process.exitCode = spawnSync(process.execPath, [file, ...args], { stdio: 'inherit' }).status ?? 1;
  } catch (error) {
    console.error(reason(error));
    process.exitCode = 1;
  }
}
