/** `npm run build`: TypeScript to dist/, and a main.js that can be executed. */
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { reason, run } from './command.mjs';
import { ROOT } from './dependencies.mjs';

const DIST = join(ROOT, 'dist');

/** Names the code in dist/. Its time of change is that of the last build that made a difference. */
export const BUILD_STAMP = join(DIST, 'build.sha256');

/** What `bin` in package.json points to. */
export const MAIN = join(DIST, 'main.js');

/** Compiles the daemon. The message of what it throws is the compiler's. */
export async function build() {
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
  await run([process.execPath, compiler, '--project', join(ROOT, 'tsconfig.json')], { cwd: ROOT });
  if (existsSync(MAIN)) chmodSync(MAIN, 0o755);
  stamp();
}

/** The compiler writes every file every time, so their times say nothing; the stamp's does. */
function stamp() {
  const hash = createHash('sha256');
  for (const name of readdirSync(DIST, { recursive: true }).map(String).sort())
    if (name.endsWith('.js')) hash.update(name).update(readFileSync(join(DIST, name)));
  const digest = `${hash.digest('hex')}\n`;
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
