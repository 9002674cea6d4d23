import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CommandResult } from '../../src/setup/command.mjs';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';

/** Runs a block of commands on a host; `change` puts what differs from host to host into the text. */
export type RunBlock = (
  name: string,
  host: Host,
  change?: (text: string) => string,
) => Promise<CommandResult>;

/** The commands of a document. */
export interface Documented {
  readonly run: RunBlock;
  /** Names of the blocks that were not run yet: what a page tells people to type, a test has to have typed. */
  untried(): string[];
}

const textOf = (page: string): string => readFileSync(join(REPOSITORY, 'docs', page), 'utf8');

/** Lines of output that a page of docs/ shows, fenced with this name. */
export function shown(page: string, name: string): string[] {
  const [, lines] = new RegExp(`^\`\`\`${name}\\n([^]*?)^\`\`\`$`, 'm').exec(textOf(page)) ?? [];
  if (lines === undefined) throw new Error(`docs/${page} shows no "${name}"`);
  return lines.trimEnd().split('\n');
}

/** Blocks of commands in a page of docs/: those fenced with `sh` and a name. */
export function documented(page: string): Documented {
  const found = [...textOf(page).matchAll(/^```sh (\S+)\n([^]*?)^```$/gm)];
  const blocks = new Map(found.map(([, name = '', commands = '']) => [name, commands]));
  const untried = new Set(blocks.keys());
  return {
    untried: () => [...untried],
    async run(name, host, change = same) {
      const commands = blocks.get(name);
      if (commands === undefined) throw new Error(`docs/${page} has no commands "${name}"`);
      untried.delete(name);
      return host.run(['sh', '-euc', change(commands)]);
    },
  };
}

const same = (text: string): string => text;
