import { parseArgs } from 'node:util';
import type { ParseArgsConfig } from 'node:util';
import { reason } from '../errors.js';
import { UsageError } from './command.js';

/** The options a command takes. */
export type Options = NonNullable<ParseArgsConfig['options']>;

type Parsed<T extends Options> = ReturnType<
  typeof parseArgs<{ options: T; allowPositionals: true; args: string[] }>
>;

/** The words and options of a command: `--name=value`, `--name value`, `-n value`, `-n=value`. Throws UsageError. */
export function parseArguments<T extends Options>(
  args: readonly string[],
  options: T,
): { readonly values: Parsed<T>['values']; readonly words: readonly string[] } {
  try {
    // `-o=yaml`, as with kubectl; by itself parseArgs takes the value for `=yaml`.
    const plain = args.map(arg => arg.replace(/^(-[a-z])=/i, '$1'));
    const { values, positionals } = parseArgs({ args: plain, options, allowPositionals: true });
    return { values, words: positionals };
  } catch (error) {
    // What follows the first sentence is about how to type what nobody wants to type.
    throw new UsageError(reason(error).split(/\. |\n/)[0] ?? '');
  }
}

/** Throws UsageError where words are left over. */
export function noMoreWords(words: readonly string[]): void {
  if (words.length > 0) throw new UsageError(`there is a word too many: "${words.join(' ')}"`);
}

/** One of the values that an option may have. Throws UsageError. */
export function chosen<T extends string>(
  option: string,
  value: string | undefined,
  among: readonly T[],
  otherwise: T,
): T {
  if (value === undefined) return otherwise;
  const found = among.find(one => one === value);
  if (found === undefined) throw new UsageError(`${option} is one of ${among.join(', ')}, not "${value}"`);
  return found;
}
