import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { parseArguments } from '../../src/cli/arguments.js';
import { COMMANDS } from '../../src/cli/commands.js';
import { UsageError } from '../../src/cli/command.js';
import { formatYaml, printList } from '../../src/cli/format.js';
import { commandsHelp, findCommand, helpOf, runCommand } from '../../src/cli/run-command.js';
import { printableLines, printTable } from '../../src/cli/table.js';
import { kindOfWord, KINDS } from '../../src/resources/kinds.js';
import { percent } from '../../src/ipam/usage.js';
import { parseYamlDocuments } from '../../src/resources/yaml-documents.js';

function table(rows: string[][], width?: number, hasColors = false): string[] {
  const lines: string[] = [];
  const out = { line: (text: string) => void lines.push(text), width, hasColors };
  printTable(out, ['NAME', 'NETS', 'NODE'], rows);
  return lines;
}

describe('tables', () => {
  const long = [
    ['web', '192.0.2.0/24,198.51.100.0/24,203.0.113.0/24', 'node-1'],
    ['a-long-name', '', 'n'],
  ];

  it('are not cut where there is no terminal', () => {
    expect(table(long)).toEqual([
      'NAME         NETS                                         NODE',
      'web          192.0.2.0/24,198.51.100.0/24,203.0.113.0/24  node-1',
      'a-long-name                                               n',
    ]);
  });

  it('fit the terminal: the widest columns are cut', () => {
    expect(table(long, 40)).toEqual([
      'NAME         NETS                 NODE',
      'web          192.0.2.0/24,198.5…  node-1',
      'a-long-name                       n',
    ]);
    fc.assert(
      fc.property(fc.array(fc.array(fc.string(), { minLength: 3, maxLength: 3 })), fc.integer({ min: 22, max: 200 }), (rows, width) => {
        for (const line of table(rows, width)) expect(line.length).toBeLessThanOrEqual(width);
      }),
    ); // prettier-ignore
  });

  it('have colours only where they are asked for, and never control characters of others', () => {
    expect(table([['a\u001b[31m', '\u0007', 'x']])[1]).toBe('a?[31m  ?     x');
    expect(table([['a', 'b', 'c']], 80, true)[0]).toContain('\u001b[1mNAME\u001b[0m');
    expect(table([['a', 'b', 'c']], 80).join()).not.toContain('\u001b');
  });
});

describe('help', () => {
  const noOutput = { error: () => undefined, progress: () => undefined };

  test.each(COMMANDS.map(command => [command.name, command] as const))('%s --help: usage and an example', async (name, command) => {
    const lines: string[] = [];
    for (const help of ['--help', '-h'])
      expect(await runCommand(command, [help], {}, { ...noOutput, line: text => void lines.push(text) })).toBe(0);
    expect(lines[1]).toBe(lines[0]);
    expect(helpOf(name.split(' '))).toBe(lines[0]);
    expect(lines.join('\n')).toContain(`usage: calico-libnetwork ${name}`);
    // The example is a command that there is.
    const [, ...words] = command.example.split(' ');
    expect(findCommand(words)).toBeDefined();
    expect(lines.join('\n')).toContain(`example: ${command.example}`);
    expect(commandsHelp()).toContain(`calico-libnetwork ${name}`);
  }); // prettier-ignore

  test.each(COMMANDS.map(command => [command.name, command] as const))('%s refuses what it does not know', async (_name, command) => {
    const errors: string[] = [];
    const out = { ...noOutput, line: () => undefined, error: (text: string) => void errors.push(text) };
    expect(await runCommand(command, ['--no-such-option', 'x'], {}, out)).toBe(2);
    expect(errors.join('\n')).toContain('usage: ');
  }); // prettier-ignore
});

it('help on the beginning of commands names these, and no others', () => {
  const several = helpOf(['ipam']) ?? '';
  for (const name of ['ipam check', 'ipam show', 'ipam release', 'ipam configure'])
    expect(several).toContain(`calico-libnetwork ${name}`);
  expect(several).not.toContain('network ls');
  for (const words of [[], ['i'], ['ipam', 'nothing'], ['nothing']]) expect(helpOf(words)).toBeUndefined();
});

describe('words and options', () => {
  const options = { output: { type: 'string', short: 'o' }, force: { type: 'boolean' } } as const;

  it.each([
    [['a', '-o', 'yaml', 'b'], { output: 'yaml' }, ['a', 'b']],
    [['--output=yaml', '--force', 'a'], { output: 'yaml', force: true }, ['a']],
    [['-oyaml'], { output: 'yaml' }, []],
    [['-o=yaml', 'a=b'], { output: 'yaml' }, ['a=b']],
    [['a', '--', '--force'], {}, ['a', '--force']],
  ])('%j', (args, values, words) => expect(parseArguments(args, options)).toEqual({ values, words }));

  it.each([
    [['--nonsense'], "Unknown option '--nonsense'"],
    [['-o'], "Option '-o, --output <value>' argument missing"],
    [['--force=yes'], "Option '--force' does not take an argument"],
  ])('%j is wrong usage', (args, message) =>
    expect(() => parseArguments(args, options)).toThrow(new UsageError(message)),
  );

  it.each([
    ['ippool', 'IPPool'], ['IPPOOLS', 'IPPool'], ['pool', 'IPPool'], ['gnp', 'GlobalNetworkPolicy'], ['policies', 'NetworkPolicy'],
    ['NetworkPolicy', 'NetworkPolicy'], ['nos', 'Node'], ['pro', 'Profile'], ['weps', 'WorkloadEndpoint'], ['netsets', 'NetworkSet'],
    ['GlobalNetworkSets', 'GlobalNetworkSet'], ['tier', 'Tier'], ['ipamconfig', 'IPAMConfiguration'], ['reservations', 'IPReservation'],
  ])('%s is %s, as with calicoctl', (word, kind) => expect(kindOfWord(word)?.kind).toBe(kind)); // prettier-ignore

  it('no word means two kinds', () => {
    const words = KINDS.flatMap(({ kind, plural, aliases }) => [
      ...new Set([kind.toLowerCase(), plural, ...aliases]),
    ]);
    expect(words.length).toBe(new Set(words).size);
  });
});

it('YAML that is printed is read as it was', () => {
  const value = fc.letrec(tie => ({
    any: fc.oneof({ maxDepth: 3 }, fc.string(), fc.string({ unit: 'binary' }).map(text => text.replaceAll(/[\p{C}\u2028\u2029]/gu, '')), fc.integer(), fc.boolean(), fc.constantFrom('yes', 'no', '0o7', '1_000', '1e3', '~', '<<', '=', '12:30:45', '2001-01-01', '- a', '# b', '\n', ' a', '%YAML'), tie('list'), tie('group')), // prettier-ignore
    list: fc.array(tie('any'), { maxLength: 3 }),
    group: fc.dictionary(fc.stringMatching(/^[ -~]*$/), tie('any'), { maxKeys: 3 }),
  })).group;
  fc.assert(
    fc.property(value, group => {
      const clean = JSON.parse(JSON.stringify(group).replaceAll(/\\u[0-9a-f]{4}|\u007f/g, '')) as object;
      if (Object.keys(clean).length > 0)
        expect(parseYamlDocuments(formatYaml(clean), 'f')[0]?.value).toEqual(clean);
    }),
  );
});

it('what others wrote has no control characters in YAML and JSON, and is read as it was', () => {
  const value = { uid: 'a\u001b[31m\u009b31m', text: 'one\ntwo\u007f', total: 'x' };
  const lines: string[] = [];
  const out = {
    line: (text: string) => void lines.push(text),
    error: () => undefined,
    progress: () => undefined,
  };
  for (const format of ['yaml', 'json'] as const) printList(out, format, [], [], value);
  for (const text of lines) {
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    expect(parseYamlDocuments(text, 'f')[0]?.value).toEqual(value);
  }
  expect(lines).toHaveLength(2);
});

it('lines keep our colours, and no control characters of others', () => {
  const [line = ''] = table([['a', 'b', 'c']], 80, true);
  expect(printableLines(line)).toBe(line);
  expect(printableLines('/calico/\u001b]0;x\u0007\u001b[2J\r\u009b31m\nnext')).toBe(
    '/calico/?]0;x??[2J??31m\nnext',
  );
});

it('YAML of what is counted has no more quotes than it needs', () =>
  expect(formatYaml([{ total: 256n, name: undefined }])).toBe('- total: 256\n'));

it.each([
  [0, 256n, '0%'],
  [1, 65_536n, '<1%'],
  [64, 64n, '100%'],
  [5, 18_446_744_073_709_551_616n, '<1%'],
])('%i of %i are %s', (used, total, text) => expect(percent(used, total)).toBe(text));
