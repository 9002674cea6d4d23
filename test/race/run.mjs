/** `npm run race -- [--operations N] [--seed N]`: eight allocator processes, an etcd cluster, and kills of both. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { exitStatus, reason } from '../../src/setup/command.mjs';
import { compileRace } from './compile.mjs';

try {
  const main = join(await compileRace(), 'main.js');
  const child = spawn(process.execPath, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM']))
    process.on(signal, () => child.kill(signal));
  process.exitCode = await new Promise(resolve =>
    child.on('exit', (code, signal) => resolve(exitStatus(code, signal))),
  );
} catch (error) {
  console.error(reason(error));
  process.exitCode = 1;
}
