import { isDeepStrictEqual } from 'node:util';
import { stringify } from 'yaml';
import { formatJson } from '../model/json.js';
import { parseYamlDocuments } from '../resources/yaml-documents.js';
import type { Output } from './command.js';
import { printTable } from './table.js';
import type { Cell } from './table.js';

export const FORMATS = ['table', 'wide', 'yaml', 'json'] as const;
export type Format = (typeof FORMATS)[number];

/** YAML that calicoctl, which reads version 1.1, and we, who read 1.2, understand in the same way. */
export function formatYaml(value: unknown): string {
  const text = stringify(value, { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false });
  try {
    const [document] = parseYamlDocuments(text, '');
    if (document && isDeepStrictEqual(document.value, value)) return text;
  } catch {
    // Larger than a file may be: quotes do no harm.
  }
  return stringify(value, {
    ...{ version: '1.1', lineWidth: 0, aliasDuplicateObjects: false },
    ...{ defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'QUOTE_DOUBLE' },
  });
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
  if (format === 'json') return out.line(formatJson(value, 2));
  if (format === 'yaml') return out.line(formatYaml(value).trimEnd());
  const shown = columns.filter(({ isWide }) => format === 'wide' || isWide !== true);
  printTable(
    out,
    shown.map(({ title }) => title),
    rows.map(row => shown.map(column => column.of(row))),
  );
}
