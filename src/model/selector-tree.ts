/** Calico's selectors as trees: what they match, how they are written, and how they are put together. */

export type Labels = Readonly<Record<string, string>>;

/** The label that tells the namespace of an endpoint or a network set; what is global has none. */
export const NAMESPACE_LABEL = 'projectcalico.org/namespace';

/** `!=` and `not in` are a `not` around an `in`: true where the label is absent. */
export type SelectorTree =
  | { readonly is: 'all' }
  | { readonly is: 'global' }
  | { readonly is: 'has'; readonly key: string }
  | { readonly is: 'in'; readonly key: string; readonly values: ReadonlySet<string> }
  | { readonly is: 'contains' | 'starts with' | 'ends with'; readonly key: string; readonly part: string }
  | { readonly is: 'not'; readonly of: SelectorTree }
  | { readonly is: 'and'; readonly of: readonly SelectorTree[] }
  | { readonly is: 'or'; readonly of: readonly SelectorTree[] };

/** A selector, parsed once. */
export interface Selector {
  readonly tree: SelectorTree;
  /** Canonical: selectors of equal text match the same. */
  readonly text: string;
  matches(labels: Labels): boolean;
}

/** What labels must have at least for a selector to match: a label, with one of some values where they are given. */
export interface Requirement {
  readonly key: string;
  readonly values?: ReadonlySet<string>;
}

export function selectorOf(tree: SelectorTree): Selector {
  return { tree, text: textOf(tree), matches: predicate(tree) };
}

/** Matches what both match. */
export function both(a: Selector, b: Selector): Selector {
  return selectorOf({ is: 'and', of: [a, b].flatMap(({ tree }) => (tree.is === 'and' ? tree.of : [tree])) });
}

/** Matches what the other does not. */
export function inverse({ tree }: Selector): Selector {
  return selectorOf({ is: 'not', of: tree });
}

/** Matches what is in a namespace. */
export function inNamespace(namespace: string): Selector {
  return selectorOf({ is: 'in', key: NAMESPACE_LABEL, values: new Set([namespace]) });
}

/**
 * A selector of namespaces or service accounts as one of endpoints: those carry the labels of the former with a prefix.
 * `all()` becomes `has(label)`: all that is in a namespace, or has an account.
 */
export function ofOwners({ tree }: Selector, prefix: string, label: string): Selector {
  const changed = (part: SelectorTree): SelectorTree => {
    if (part.is === 'all') return { is: 'has', key: label };
    if (part.is === 'global') return part;
    if (part.is === 'not') return { is: 'not', of: changed(part.of) };
    if (part.is === 'and' || part.is === 'or') return { is: part.is, of: part.of.map(changed) };
    return { ...part, key: prefix + part.key };
  };
  return selectorOf(changed(tree));
}

/** The narrowest thing that labels must have for the selector to match; undefined where it is not that simple. */
export function requirementOf(tree: SelectorTree): Requirement | undefined {
  if (tree.is === 'in') return { key: tree.key, values: tree.values };
  if (tree.is === 'and') {
    const found = tree.of.flatMap(part => requirementOf(part) ?? []);
    // An `in` of the namespace says next to nothing: all of ours are in the same.
    const rank = ({ key, values }: Requirement) => (key === NAMESPACE_LABEL ? 1e9 : (values?.size ?? 1e6));
    return found.sort((a, b) => rank(a) - rank(b))[0];
  }
  return 'key' in tree ? { key: tree.key } : undefined;
}

function predicate(tree: SelectorTree): (labels: Labels) => boolean {
  switch (tree.is) {
    case 'all':
      return () => true;
    case 'global':
      return labels => !Object.hasOwn(labels, NAMESPACE_LABEL);
    case 'has':
      return labels => Object.hasOwn(labels, tree.key);
    case 'in':
      return tested(tree.key, value => tree.values.has(value));
    case 'contains':
      return tested(tree.key, value => value.includes(tree.part));
    case 'starts with':
      return tested(tree.key, value => value.startsWith(tree.part));
    case 'ends with':
      return tested(tree.key, value => value.endsWith(tree.part));
    case 'not': {
      const inner = predicate(tree.of);
      return labels => !inner(labels);
    }
    default: {
      const parts = tree.of.map(predicate);
      return tree.is === 'and'
        ? labels => parts.every(part => part(labels))
        : labels => parts.some(part => part(labels));
    }
  }
}

function tested(key: string, test: (value: string) => boolean): (labels: Labels) => boolean {
  return labels => Object.hasOwn(labels, key) && test(labels[key] ?? '');
}

function textOf(tree: SelectorTree): string {
  switch (tree.is) {
    case 'all':
    case 'global':
      return `${tree.is}()`;
    case 'has':
      return `has(${tree.key})`;
    case 'in': {
      const [first, ...more] = [...tree.values].sort();
      if (first !== undefined && more.length === 0) return `${tree.key} == ${quoted(first)}`;
      return `${tree.key} in {${[...tree.values].sort().map(quoted).join(', ')}}`;
    }
    case 'not':
      return `!${enclosed(tree.of)}`;
    case 'and':
      return tree.of.map(enclosed).join(' && ');
    case 'or':
      return tree.of.map(enclosed).join(' || ');
    default:
      return `${tree.key} ${tree.is} ${quoted(tree.part)}`;
  }
}

function enclosed(tree: SelectorTree): string {
  const text = textOf(tree);
  return ['all', 'global', 'has'].includes(tree.is) ? text : `(${text})`;
}

/** There are no escapes: a value with one kind of quotes in it was written in the other. */
function quoted(value: string): string {
  return value.includes("'") ? `"${value}"` : `'${value}'`;
}
