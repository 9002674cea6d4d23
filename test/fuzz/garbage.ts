import fc from 'fast-check';

/** Values that are nearly right, or not right at all. */

/** How often each property is tried; more with CALICO_FUZZ_RUNS. */
export function runs(usual: number): number {
  return Number(process.env.CALICO_FUZZ_RUNS ?? usual);
}

/** An object that cannot become a string or a number: JSON can say that. */
const STUBBORN = { toString: 1, valueOf: null };

function nested(depth: number): unknown {
  let value: unknown = 'x';
  for (let level = 0; level < depth; level += 1) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}

/** Any value that JSON has, with those that programs stumble over. */
export const junk: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  {
    weight: 6,
    arbitrary: fc.constantFrom<unknown>(
      null,
      true,
      '',
      [],
      {},
      [[]],
      [null],
      0,
      -1,
      1e308,
      1.5,
      2 ** 53,
      -(2 ** 31),
      STUBBORN,
      [STUBBORN],
      '\0',
      '\u00001234567890123456',
      '\ud800',
      '🐳',
      '../../etc/passwd',
      '10.0.0.0/33',
      '10.0.0.5/24',
      '::ffff:10.0.0.1',
      '0.0.0.0/0',
      '__proto__',
      'constructor',
      'x'.repeat(10_000),
    ),
  },
  { weight: 1, arbitrary: fc.integer({ min: 10, max: 2_000 }).map(nested) },
);

/** Names that mean something to JavaScript. */
const TREACHEROUS = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'then'];

/** Every place in a value, as a path of keys. */
function places(value: unknown, path: readonly string[] = []): string[][] {
  const inner =
    typeof value === 'object' && value !== null
      ? Object.entries(value).flatMap(([key, part]) => places(part, [...path, key]))
      : [];
  return [[...path], ...inner];
}

/** The value with what `change` makes of the part at a path. */
function changed(value: unknown, path: readonly string[], change: (part: unknown) => unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined || typeof value !== 'object' || value === null) return change(value);
  const entries = Object.entries(value).map(([name, part]): [string, unknown] => [
    name,
    name === key ? changed(part, rest, change) : part,
  ]);
  return Array.isArray(value) ? entries.map(([, part]) => part) : Object.fromEntries(entries);
}

/** JSON with a key added to its outermost object, as text: also one that is there already, or `__proto__`. */
function withKey(text: string, key: string, value: unknown): string {
  if (!text.startsWith('{')) return text;
  const rest = text === '{}' ? '}' : `,${text.slice(1)}`;
  return `{${JSON.stringify(key)}:${JSON.stringify(value)}${rest}`;
}

/** Text close to that of `sample`: a part replaced, removed or doubled, or the text itself damaged. */
export function mutated(sample: unknown): fc.Arbitrary<string> {
  const text = JSON.stringify(sample);
  const place = fc.constantFrom(...places(sample));
  const keys = typeof sample === 'object' && sample !== null ? Object.keys(sample) : [];
  return fc.oneof(
    {
      weight: 8,
      arbitrary: fc.tuple(place, junk).map(([path, value]) => textOf(changed(sample, path, () => value))),
    },
    { weight: 2, arbitrary: place.map(path => textOf(changed(sample, path, () => undefined))) },
    { weight: 1, arbitrary: place.map(path => textOf(changed(sample, path, part => [part, part]))) },
    {
      weight: 2,
      arbitrary: fc
        .tuple(fc.constantFrom(...keys, ...TREACHEROUS), junk)
        .map(([key, value]) => withKey(text, key, value)),
    },
    { weight: 1, arbitrary: fc.nat(text.length).map(end => text.slice(0, end)) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.nat(text.length), fc.constantFrom('"', '\\', '{', '}', ',', '\0', '9'.repeat(40), '\ufffd'))
        .map(([at, part]) => text.slice(0, at) + part + text.slice(at)),
    },
  );
}

/** Nothing at all where the whole was removed. */
function textOf(value: unknown): string {
  return JSON.stringify(value) ?? '';
}

/** Any text: none, words, JSON, bytes. */
export const anyText: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  junk.map(value => JSON.stringify(value)),
  fc.constantFrom('', ' ', 'null', 'true', '[]', '{}', '""', '0', '{"', '[', '-', '{"a":}', '\ufeff{}'),
);

/** Text that takes quadratic time where one is careless; each about a megabyte. */
export const ENDLESS: Readonly<Record<string, string>> = {
  'quotes without end': `"${'\\"'.repeat(500_000)}`,
  'quotes that end in a backslash': `"${'\\"'.repeat(500_000)}\\`,
  'backslashes and line ends': `"${'\\\n"'.repeat(300_000)}`,
  digits: `[${'9'.repeat(1_000_000)}]`,
  'digits and blanks': `[${'9'.repeat(20)}${' '.repeat(1_000_000)}x]`,
  'many long numbers': `[${'9'.repeat(19)},`.repeat(40_000),
  brackets: '['.repeat(500_000),
  'brackets that close': `${'['.repeat(400_000)}${']'.repeat(400_000)}`,
  'brackets around a long number': `${'['.repeat(400_000)}${'9'.repeat(19)}${']'.repeat(400_000)}`,
  objects: `${'{"a":'.repeat(150_000)}1${'}'.repeat(150_000)}`,
  'one long string': JSON.stringify({ a: 'x'.repeat(1_000_000) }),
};
