import type { Plural } from '../datastore/keys.js';
import type { JsonObject } from '../model/json.js';
import type { Shape } from './shape.js';

/** A resource as a person sees it: as it is in a file, and as `get` prints it. */
export interface ResourceDocument {
  readonly kind: Kind;
  readonly name: string;
  /** Set for the kinds that have one. */
  readonly namespace?: string;
  /** All of `metadata`, `name` and `namespace` included. */
  readonly metadata: JsonObject;
  readonly spec: JsonObject;
  readonly status?: unknown;
}

/** A column of a table. */
export interface Column {
  readonly title: string;
  /** In `-o wide` only. */
  readonly isWide?: boolean;
  of(resource: ResourceDocument): string;
}

/** A kind of Calico's v3 resources: all that the command line knows of it. */
export interface Kind {
  /** As `kind:` has it. */
  readonly kind: string;
  /** As keys have it. */
  readonly plural: Plural;
  /** What else it may be called on the command line, lower case. */
  readonly aliases: readonly string[];
  readonly isNamespaced: boolean;
  /** What a person should know of a resource in this namespace, if anything. */
  namespaceNote?(namespace: string): string | undefined;
  /** Why it cannot be written, where it cannot. */
  readonly readOnly?: string;
  /** What is wrong with a name; nothing where it is one. */
  wrongName(name: string): string | undefined;
  /** What a person calls it, by the name in its file or in etcd, where that is not the same. */
  shownName?(name: string): string;
  readonly labels: Shape;
  readonly spec: Shape;
  /** Calico's Go type writes a status always, also an empty one. */
  readonly hasStatus?: boolean;
  /** The spec with every default written out, as Calico's own clients store it. */
  complete?(spec: JsonObject): JsonObject;
  /** Labels that Calico sets by itself. */
  ownLabels?(spec: JsonObject): Readonly<Record<string, string>>;
  readonly columns: readonly Column[];
}

/** A column that shows one field of `spec`. */
export function specColumn(title: string, field: string, otherwise = '', isWide = false): Column {
  return { title, isWide, of: ({ spec }) => cell(spec[field], otherwise) };
}

/** The text of a value in a table. */
export function cell(value: unknown, otherwise = ''): string {
  if (value === undefined || value === null || value === '') return otherwise;
  if (Array.isArray(value)) return value.map(item => cell(item)).join(',');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

export const NAME: Column = { title: 'NAME', of: ({ name }) => name };
