#!/usr/bin/env -S node --max-semi-space-size=4 --heap-growing-percent=10
// The flags above let a burst of a thousand containers peak 40 MB lower, at the same speed (bench/memory); plain
// `node main.js` works as well.
import { createRequire } from 'node:module';
import { commandsHelp, findCommand, helpOf, isHelp, runCommand } from './cli/run-command.js';
import { flushed, terminalOutput } from './cli/terminal.js';
import { ConfigError, loadConfig, printConfig, settingsHelp } from './config.js';
import type { Config } from './config.js';
import { reason } from './errors.js';
import { createLogger } from './log.js';
import { serviceManager } from './service-manager.js';

const HELP = `calico-libnetwork: Calico networking for Docker

The daemon
  calico-libnetwork serve [--print-config]
      run it in the foreground; or print every setting (secrets hidden) and exit

${commandsHelp()}

  calico-libnetwork --version
  calico-libnetwork --help
      all settings, too; behind a command: how it is used, with an example

Settings come from the environment:
`;

// Node warns, on every start, of TLS to an address instead of a name, which grpc-js asks for and which works.
process.noDeprecation = true;

/** Exit status: 0 done, 1 cannot run, 2 wrong usage; commands say more in their usage. */
async function main(args: readonly string[]): Promise<number> {
  const [command, ...rest] = args;
  if (command === '--version' || command === 'version') return print(version());
  if (command === 'help' || isHelp(command ?? '') || (command === 'serve' && rest.some(isHelp)))
    return print(helpOf(rest) ?? `${HELP}\n${settingsHelp()}`);
  const found = findCommand(args);
  if (found) return runCommand(found.command, found.args, process.env, terminalOutput(process.env));
  const several = helpOf(args.filter(word => !isHelp(word)));
  if (several !== undefined) {
    if (args.some(isHelp)) return print(several);
    process.stderr.write(`"${args.join(' ')}" is the beginning of a command\n\n${several}\n`);
    return 2;
  }
  if (command !== 'serve' || rest.some(option => option !== '--print-config')) {
    const unknown =
      command === undefined || command === 'serve' ? '' : `there is no command "${args.join(' ')}"\n\n`;
    process.stderr.write(`${unknown}${HELP.split('\n\nSettings')[0]}\n`);
    return 2;
  }
  let config: Config;
  try {
    config = loadConfig();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`calico-libnetwork: ${error.message}\n`);
    return 1;
  }
  return rest.includes('--print-config') ? print(printConfig(config)) : serve(config);
}

async function serve(config: Config): Promise<number> {
  const log = createLogger(config.debug ? 'debug' : 'info');
  const stopped = new Promise<void>(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve());
  });
  // A fault in one background task must not take the sockets away from dockerd.
  process.on('unhandledRejection', error => log.error({ err: error }, 'unexpected error'));
  process.on('uncaughtException', error => log.error({ err: error }, 'unexpected error'));
  try {
    // Loaded only now: --help and --print-config need none of it.
    const { startDaemon } = await import('./daemon.js');
    const manager = serviceManager(process.env, log);
    const daemon = await startDaemon(config, version(), log.child({ version: version() }), process.env);
    // Not when etcd answers: dockerd is started after this, and must not wait for an etcd that may be in a container.
    await manager.ready(`node ${config.nodeName}`);
    await stopped;
    await manager.stopping();
    await daemon.stop();
    return 0;
  } catch (error) {
    process.stderr.write(`calico-libnetwork: ${reason(error)}\n`);
    return 1;
  }
}

function version(): string {
  return (createRequire(import.meta.url)('../package.json') as { version: string }).version;
}

function print(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}

const status = await main(process.argv.slice(2));
await flushed();
process.exit(status);
