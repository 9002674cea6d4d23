import { ConfigError } from '../config.js';
import { DatastoreError, reason } from '../errors.js';
import { InvalidInputError, UsageError } from './command.js';
import type { Command, Environment, Output } from './command.js';
import { COMMANDS } from './commands.js';

/** The heading of commands that tell none. */
const OTHER = 'More';

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
  if (args.some(isHelp)) {
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
    if (error instanceof InvalidInputError) return STATUS.wrongUsage;
    return error instanceof DatastoreError ? STATUS.unreachable : STATUS.failed;
  }
}

/** Whether a word asks for help. */
export function isHelp(word: string): boolean {
  return word === '--help' || word === '-h';
}

/** What is to be said of a command, or of all that begin with these words (`ipam`); undefined where none does. */
export function helpOf(words: readonly string[]): string | undefined {
  const found = findCommand(words);
  if (found) return usageOf(found.command);
  const prefix = `${words.join(' ')} `;
  const several = COMMANDS.filter(({ name }) => name.startsWith(prefix));
  return several.length > 0 ? commandsHelp(several) : undefined;
}

/** What `--help` says of commands: by group, usage and then what it does. */
export function commandsHelp(among = COMMANDS): string {
  const groups = [...new Set(among.map(({ group = OTHER }) => group))];
  return groups
    .map(heading => {
      const commands = among.filter(({ group = OTHER }) => group === heading);
      const lines = commands.map(
        ({ name, usage, help }) => `  calico-libnetwork ${name} ${usage}`.trimEnd() + `\n      ${help}`,
      );
      return [heading, ...lines].join('\n');
    })
    .join('\n\n');
}

function usageOf({ name, usage, help, example }: Command): string {
  return `usage: calico-libnetwork ${name} ${usage}\n  ${help}\n  example: ${example}`;
}
