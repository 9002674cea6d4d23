/**
 * Calico's selectors: `has(role) && role in {"db", "web"} || !env == 'test'`. Parsed once into a predicate over
 * labels.
 */

export type Labels = Readonly<Record<string, string>>;
export type Selector = (labels: Labels) => boolean;

const TOKEN = /\s*(?:(&&|\|\||==|!=|!|[(){},])|"([^"]*)"|'([^']*)'|([A-Za-z0-9_./-]+))/y;

type Token = { kind: 'symbol' | 'text' | 'word'; text: string };

/** Parses a selector; empty text selects everything. Throws SyntaxError that names the place. */
export function parseSelector(text: string): Selector {
  const parser = new Parser(tokens(text), text);
  return parser.parse();
}

function tokens(text: string): Token[] {
  const found: Token[] = [];
  const end = text.trimEnd().length;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < end) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (!match) throw new SyntaxError(`selector "${text}": unexpected character at ${at + 1}`);
    const [, symbol, double, single, word] = match;
    if (symbol !== undefined) found.push({ kind: 'symbol', text: symbol });
    else if (word !== undefined) found.push({ kind: 'word', text: word });
    else found.push({ kind: 'text', text: double ?? single ?? '' });
  }
  return found;
}

/** Recursive descent; `||` binds weakest, then `&&`, then `!`. */
class Parser {
  private at = 0;
  constructor(
    private readonly list: readonly Token[],
    private readonly source: string,
  ) {}

  parse(): Selector {
    if (this.list.length === 0) return () => true;
    const selector = this.or();
    if (this.at < this.list.length) throw this.unexpected('the end');
    return selector;
  }

  private or(): Selector {
    let left = this.and();
    while (this.accept('||')) {
      const [a, b] = [left, this.and()];
      left = labels => a(labels) || b(labels);
    }
    return left;
  }

  private and(): Selector {
    let left = this.not();
    while (this.accept('&&')) {
      const [a, b] = [left, this.not()];
      left = labels => a(labels) && b(labels);
    }
    return left;
  }

  private not(): Selector {
    if (!this.accept('!')) return this.term();
    const inner = this.not();
    return labels => !inner(labels);
  }

  private term(): Selector {
    if (this.accept('(')) {
      const inner = this.or();
      this.expect(')');
      return inner;
    }
    const key = this.word('a label name');
    if (this.accept('(')) return this.call(key);
    if (this.accept('==')) return equals(key, this.text());
    if (this.accept('!=')) return negated(equals(key, this.text()));
    const operator = this.word('an operator');
    if (operator === 'in') return isIn(key, this.set());
    if (operator === 'contains') return tested(key, this.text(), (value, part) => value.includes(part));
    if (operator === 'not' && this.word('"in"') === 'in') return negated(isIn(key, this.set()));
    if (operator === 'starts' && this.word('"with"') === 'with')
      return tested(key, this.text(), (value, part) => value.startsWith(part));
    if (operator === 'ends' && this.word('"with"') === 'with')
      return tested(key, this.text(), (value, part) => value.endsWith(part));
    this.at -= 1;
    throw this.unexpected('an operator');
  }

  /** `all()`, `global()` and `has(label)`. */
  private call(name: string): Selector {
    if (name === 'has') {
      const key = this.word('a label name');
      this.expect(')');
      return labels => Object.hasOwn(labels, key);
    }
    this.expect(')');
    if (name === 'all') return () => true;
    if (name === 'global') return labels => !Object.hasOwn(labels, 'projectcalico.org/namespace');
    throw new SyntaxError(`selector "${this.source}": unknown function ${name}()`);
  }

  private set(): Set<string> {
    this.expect('{');
    const values = new Set<string>();
    if (this.accept('}')) return values;
    do values.add(this.text());
    while (this.accept(','));
    this.expect('}');
    return values;
  }

  private accept(symbol: string): boolean {
    const token = this.list[this.at];
    if (token?.kind !== 'symbol' || token.text !== symbol) return false;
    this.at += 1;
    return true;
  }

  private expect(symbol: string): void {
    if (!this.accept(symbol)) throw this.unexpected(`"${symbol}"`);
  }

  private word(what: string): string {
    const token = this.list[this.at];
    if (token?.kind !== 'word') throw this.unexpected(what);
    this.at += 1;
    return token.text;
  }

  private text(): string {
    const token = this.list[this.at];
    if (token?.kind !== 'text') throw this.unexpected('a value in quotes');
    this.at += 1;
    return token.text;
  }

  private unexpected(wanted: string): SyntaxError {
    const found = this.list[this.at];
    return new SyntaxError(
      `selector "${this.source}": expected ${wanted}, found ${found ? `"${found.text}"` : 'the end'}`,
    );
  }
}

function equals(key: string, value: string): Selector {
  return labels => Object.hasOwn(labels, key) && labels[key] === value;
}

function isIn(key: string, values: ReadonlySet<string>): Selector {
  return labels => Object.hasOwn(labels, key) && values.has(labels[key] ?? '');
}

/** True where the label is absent, as Calico's `!=` and `not in` are. */
function negated(inner: Selector): Selector {
  return labels => !inner(labels);
}

function tested(key: string, part: string, test: (value: string, part: string) => boolean): Selector {
  return labels => Object.hasOwn(labels, key) && test(labels[key] ?? '', part);
}
