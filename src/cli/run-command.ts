import { ConfigError } from '../config.js';
import { DatastoreError, reason } from '../errors.js';
import { UsageError } from './command.js';
import type { Command, Environment, Output } from './command.js';
import { COMMANDS } from './commands.js';

/** Exit statuses that every command shares; 0 and 1 are its own to define. */
export const STATUS = { failed: 1, wrongUsage: 2, unreachable: 3 } as const;

/** The command that the words begin with, and the words after it. */
export function findCommand(
  words: readonly string[],
): { command: Command; args: readonly string[] } | undefined {
  for (const command of COMMANDS) {
    const name = command.name.split(' ');
    if (name.every((word, index) => words[index] === word))
      return { command, args: words.slice(name.length) };
  }
  return undefined;
}

/** Runs a command; `--help` behind its name shows its usage. The result is the exit status. Never throws. */
export async function runCommand(
  command: Command,
  args: readonly string[],
  env: Environment,
  out: Output,
): Promise<number> {
  if (args.includes('--help')) {
    out.line(usageOf(command));
    return 0;
  }
  try {
    const { run } = await command.load();
    return await run(args, env, out);
  } catch (error) {
    out.error(`calico-libnetwork: ${reason(error)}`);
    if (error instanceof UsageError) out.error(usageOf(command));
    if (error instanceof UsageError || error instanceof ConfigError) return STATUS.wrongUsage;
    return error instanceof DatastoreError ? STATUS.unreachable : STATUS.failed;
  }
}

/** One line of `--help` for each command. */
export function commandsHelp(): string {
  return COMMANDS.map(
    ({ name, usage, help }) => `  ${`calico-libnetwork ${name} ${usage}`.trim().padEnd(40)} ${help}`,
  ).join('\n');
}

function usageOf({ name, usage, help, example }: Command): string {
  return `usage: calico-libnetwork ${name} ${usage}\n  ${help}\n  example: ${example}`;
}
