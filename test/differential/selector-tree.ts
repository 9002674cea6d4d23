/**
 * Selectors as trees: made at random, written as Calico's text for the datastore, and judged without ever being parsed,
 * so that a mistake of the parser shows.
 */
export type SelectorTree =
  | { readonly kind: 'all' | 'global' }
  | { readonly kind: 'has'; readonly key: string }
  | {
      readonly kind: 'equals' | 'differs' | 'contains' | 'starts' | 'ends';
      readonly key: string;
      readonly value: string;
    }
  | { readonly kind: 'in' | 'notIn'; readonly key: string; readonly values: readonly string[] }
  | { readonly kind: 'not'; readonly of: SelectorTree }
  | { readonly kind: 'and' | 'or'; readonly of: readonly SelectorTree[] };

export type Labels = Readonly<Record<string, string>>;

const OPERATORS = {
  equals: '==',
  differs: '!=',
  contains: 'contains',
  starts: 'starts with',
  ends: 'ends with',
  in: 'in',
  notIn: 'not in',
} as const;

/** The label that says in which namespace an endpoint or network set is. */
export const NAMESPACE = 'projectcalico.org/namespace';

/** As Calico writes it. */
export function selectorText(tree: SelectorTree): string {
  switch (tree.kind) {
    case 'all':
    case 'global':
      return `${tree.kind}()`;
    case 'has':
      return `has(${tree.key})`;
    case 'in':
    case 'notIn':
      return `${tree.key} ${OPERATORS[tree.kind]} {${tree.values.map(value => `'${value}'`).join(', ')}}`;
    case 'not':
      return `!${inParentheses(tree.of)}`;
    case 'and':
      return tree.of.map(inParentheses).join(' && ');
    case 'or':
      // `&&` binds closer: no parentheses needed, and their absence is worth a test.
      return tree.of
        .map(part => (part.kind === 'and' ? selectorText(part) : inParentheses(part)))
        .join(' || ');
    default:
      return `${tree.key} ${OPERATORS[tree.kind]} "${tree.value}"`;
  }
}

function inParentheses(tree: SelectorTree): string {
  return tree.kind === 'and' || tree.kind === 'or' ? `(${selectorText(tree)})` : selectorText(tree);
}

/** Whether it selects what has these labels. */
export function selects(tree: SelectorTree, labels: Labels): boolean {
  switch (tree.kind) {
    case 'all':
      return true;
    case 'global':
      return labels[NAMESPACE] === undefined;
    case 'has':
      return labels[tree.key] !== undefined;
    case 'equals':
      return labels[tree.key] === tree.value;
    case 'differs':
      return labels[tree.key] !== tree.value;
    case 'contains':
      return labels[tree.key]?.includes(tree.value) ?? false;
    case 'starts':
      return labels[tree.key]?.startsWith(tree.value) ?? false;
    case 'ends':
      return labels[tree.key]?.endsWith(tree.value) ?? false;
    case 'in':
      return tree.values.some(value => labels[tree.key] === value);
    case 'notIn':
      return tree.values.every(value => labels[tree.key] !== value);
    case 'not':
      return !selects(tree.of, labels);
    case 'and':
      return tree.of.every(part => selects(part, labels));
    case 'or':
      return tree.of.some(part => selects(part, labels));
  }
}
