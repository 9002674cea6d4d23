import { isDeepStrictEqual } from 'node:util';
import { stringify } from 'yaml';
import { formatJson, isObject } from '../model/json.js';
import { parseYamlDocuments } from '../resources/yaml-documents.js';
import type { Output } from './command.js';
import { printTable } from './table.js';
import type { Cell } from './table.js';

export const FORMATS = ['table', 'wide', 'yaml', 'json'] as const;
export type Format = (typeof FORMATS)[number];

/** What a terminal may obey, and neither YAML nor JSON escapes by itself in quotes. */
const CONTROL = /[\u007f-\u009f]/g;

/** YAML that calicoctl, which reads version 1.1, and we, who read 1.2, understand in the same way. No control characters. */
export function formatYaml(value: unknown): string {
  const text = stringify(value, { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false });
  const quoted = (): string =>
    escaped(
      stringify(value, {
        ...{ version: '1.1', lineWidth: 0, aliasDuplicateObjects: false },
        ...{ defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'QUOTE_DOUBLE' },
      }),
    );
  if (text.search(CONTROL) >= 0) return quoted();
  try {
    const [document] = parseYamlDocuments(text, '');
    if (document && isDeepStrictEqual(document.value, asRead(value))) return text;
  } catch {
    // Larger than a file may be: quotes do no harm.
  }
  return quoted();
}

/** Text in double quotes without control characters. */
function escaped(text: string): string {
  return text.replaceAll(CONTROL, one => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A value as a parser gives it back: whole numbers that fit as numbers, absent fields left out. */
function asRead(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (Array.isArray(value)) return value.map(asRead);
  if (!isObject(value)) return value;
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(fields.map(([name, field]) => [name, asRead(field)]));
}

/** A column of a list. */
export interface ListColumn<T> {
  readonly title: string;
  /** In `-o wide` only. */
  readonly isWide?: boolean;
  of(row: T): Cell;
}

/** Prints a list in the format asked for; in YAML and JSON it is `value`. */
export function printList<T>(
  out: Output,
  format: Format,
  columns: readonly ListColumn<T>[],
  rows: readonly T[],
  value: unknown = rows,
): void {
  if (format === 'json') return out.line(escaped(formatJson(value, 2)));
  if (format === 'yaml') return out.line(formatYaml(value).trimEnd());
  const shown = columns.filter(({ isWide }) => format === 'wide' || isWide !== true);
  printTable(
    out,
    shown.map(({ title }) => title),
    rows.map(row => shown.map(column => column.of(row))),
  );
}
