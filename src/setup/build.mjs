/** `npm run build`: TypeScript to dist/, and a main.js that can be executed. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { reason, run } from './command.mjs';
import { ROOT } from './dependencies.mjs';

const DIST = join(ROOT, 'dist');

/** Names the code in dist/. Its time of change is that of the last build that made a difference. */
export const BUILD_STAMP = join(DIST, 'build.sha256');

/** Of what dist/ was made: where that is the same nothing is compiled. */
const SOURCES = join(DIST, 'sources.sha256');

/** What `bin` in package.json points to. */
export const MAIN = join(DIST, 'main.js');

/**
 * Compiles the daemon. What has not changed is left alone, what has is replaced at once, and what has no source any more
 * goes: a daemon may start from there at any moment, and a package is made of it. The message of what it throws is the
 * compiler's.
 */
export async function build() {
  if (existsSync(SOURCES) && readFileSync(SOURCES, 'utf8') === digests()) return;
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
  const fresh = mkdtempSync(join(ROOT, 'dist-'));
  try {
    const project = ['--project', join(ROOT, 'tsconfig.json'), '--outDir', fresh];
    await run([process.execPath, compiler, ...project], { cwd: ROOT });
    chmodSync(join(fresh, 'main.js'), 0o755);
    replace(fresh);
  } finally {
    rmSync(fresh, { recursive: true });
  }
  stamp();
  writeFileSync(SOURCES, digests());
}

/** What is compiled, with what, and what came of it. */
function digests() {
  const inputs = filesIn(join(ROOT, 'src')).map(name => join(ROOT, 'src', name));
  const outputs = filesIn(DIST)
    .filter(name => name.endsWith('.js'))
    .map(name => join(DIST, name));
  const rest = ['tsconfig.json', 'package-lock.json'].map(name => join(ROOT, name));
  return `${digestOf([...inputs, ...rest])} ${digestOf(outputs)}\n`;
}

/** @param {string[]} files */
function digestOf(files) {
  const hash = createHash('sha256');
  for (const file of files.sort()) hash.update(file).update(readFileSync(file));
  return hash.digest('hex');
}

/** @param {string} fresh */
function replace(fresh) {
  const files = filesIn(fresh);
  for (const name of files) {
    const [from, to] = [join(fresh, name), join(DIST, name)];
    if (existsSync(to) && readFileSync(from).equals(readFileSync(to))) continue;
    mkdirSync(dirname(to), { recursive: true });
    renameSync(from, to);
  }
  const wanted = new Set([...files, basename(BUILD_STAMP), basename(SOURCES)]);
  for (const name of filesIn(DIST)) if (!wanted.has(name)) rmSync(join(DIST, name));
}

/** @param {string} folder */
function filesIn(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => relative(folder, join(entry.parentPath, entry.name)));
}

/** Its time is that of the last build that made a difference. */
function stamp() {
  const digest = `${digestOf(
    filesIn(DIST)
      .filter(name => name.endsWith('.js'))
      .map(name => join(DIST, name)),
  )}\n`;
  if (!existsSync(BUILD_STAMP) || readFileSync(BUILD_STAMP, 'utf8') !== digest)
    writeFileSync(BUILD_STAMP, digest);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    await build();
  } catch (error) {
    console.error(reason(error));
    process.exitCode = 1;
  }
}
