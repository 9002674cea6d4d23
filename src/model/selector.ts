import { selectorOf } from './selector-tree.js';
import type { Selector, SelectorTree } from './selector-tree.js';

/**
 * The grammar of Calico's selectors: `has(role) && role in {"db", "web"} || !env == 'test'`. As Calico's own tokenizer has
 * it: no escapes in quotes; `notin`, `startswith` and `endswith` are words as well; a set may end with a comma.
 */

const TOKEN = /\s*(?:(&&|\|\||==|!=|!|[(){},])|"([^"]*)"|'([^']*)'|([A-Za-z0-9_./-]+))/y;
/** Of a label's name, as Calico has it. */
const LONGEST_NAME = 512;
/** Of parentheses: nobody writes more, and a stack ends somewhere. */
const DEEPEST = 100;

type Token = { kind: 'symbol' | 'text' | 'word'; text: string };

/** Parses a selector; empty text selects everything. Throws SyntaxError that names the place. */
export function parseSelector(text: string): Selector {
  return selectorOf(new Parser(tokens(text), text).parse());
}

/** True where `has(name)` and its like can name a label. */
export function isLabelName(name: string): boolean {
  return /^[A-Za-z0-9_./-]+$/.test(name) && name.length <= LONGEST_NAME;
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
  private depth = 0;
  constructor(
    private readonly list: readonly Token[],
    private readonly source: string,
  ) {}

  parse(): SelectorTree {
    if (this.list.length === 0) return { is: 'all' };
    const tree = this.or();
    if (this.at < this.list.length) throw this.unexpected('the end');
    return tree;
  }

  private or(): SelectorTree {
    const first = this.and();
    const of = [first];
    while (this.accept('||')) of.push(this.and());
    return of.length > 1 ? { is: 'or', of } : first;
  }

  private and(): SelectorTree {
    const first = this.not();
    const of = [first];
    while (this.accept('&&')) of.push(this.not());
    return of.length > 1 ? { is: 'and', of } : first;
  }

  private not(): SelectorTree {
    let isNegated = false;
    while (this.accept('!')) isNegated = !isNegated;
    const term = this.term();
    return isNegated ? { is: 'not', of: term } : term;
  }

  private term(): SelectorTree {
    if (this.accept('(')) {
      this.depth += 1;
      if (this.depth > DEEPEST) throw new SyntaxError('selector: parentheses are nested too deep');
      const inner = this.or();
      this.expect(')');
      this.depth -= 1;
      return inner;
    }
    const key = this.name();
    if (this.accept('(')) return this.call(key);
    if (this.accept('==')) return isIn(key, [this.text()]);
    if (this.accept('!=')) return { is: 'not', of: isIn(key, [this.text()]) };
    const operator = this.word('an operator');
    if (operator === 'in') return isIn(key, this.set());
    if (operator === 'notin' || (operator === 'not' && this.word('"in"') === 'in'))
      return { is: 'not', of: isIn(key, this.set()) };
    if (operator === 'contains') return { is: 'contains', key, part: this.text() };
    if (operator === 'startswith' || (operator === 'starts' && this.word('"with"') === 'with'))
      return { is: 'starts with', key, part: this.text() };
    if (operator === 'endswith' || (operator === 'ends' && this.word('"with"') === 'with'))
      return { is: 'ends with', key, part: this.text() };
    this.at -= 1;
    throw this.unexpected('an operator');
  }

  /** `all()`, `global()` and `has(label)`. */
  private call(name: string): SelectorTree {
    if (name === 'has') {
      const key = this.name();
      this.expect(')');
      return { is: 'has', key };
    }
    this.expect(')');
    if (name === 'all' || name === 'global') return { is: name };
    throw new SyntaxError(`selector "${this.source}": unknown function ${name}()`);
  }

  private set(): string[] {
    this.expect('{');
    const values: string[] = [];
    while (this.list[this.at]?.kind === 'text') {
      values.push(this.text());
      if (!this.accept(',')) break;
    }
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

  private name(): string {
    const name = this.word('a label name');
    if (name.length > LONGEST_NAME) throw new SyntaxError(`selector: label name is too long: ${name}`);
    return name;
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

function isIn(key: string, values: readonly string[]): SelectorTree {
  return { is: 'in', key, values: new Set(values) };
}
