/** The way to a value inside a document: field names, and places in lists. */
export type Path = readonly (string | number)[];

/** What is wrong with a document, and where. */
export interface Problem {
  readonly path: Path;
  /** What is wrong and what to do, without the field. */
  readonly text: string;
  /** Set where the field is one that we do not know: its value, which may be stored just so by a newer Calico. */
  readonly unknown?: { readonly value: unknown };
  /** Nothing is wrong with the document: what the datastore has stands against it. */
  readonly isRefusal?: boolean;
  /** Nothing is wrong, but a person should know. */
  readonly isNote?: boolean;
}

/** Takes note of a problem. */
export type Say = (problem: Problem) => void;

/** A path as a person writes it: `spec.ingress[0].source.nets[1]`; names that one could misread are in quotes. */
export function fieldText(path: Path): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      const name = /^[\w./-]+$/.test(part) ? part : JSON.stringify(part);
      return index === 0 ? name : `.${name}`;
    })
    .join('');
}

/** A value as a message shows it: short, and on one line. */
export function shown(value: unknown): string {
  const text =
    typeof value === 'string'
      ? JSON.stringify(value)
      : typeof value === 'object' && value !== null
        ? Array.isArray(value)
          ? 'a list'
          : 'a group of fields'
        : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
