import { isAlias, isMap, isScalar, isSeq, LineCounter, parseAllDocuments } from 'yaml';
import type { Document, Node, Pair } from 'yaml';
import { RequestError } from '../errors.js';
import type { JsonObject } from '../model/json.js';
import type { Path } from './problem.js';

/** More than any real file has; larger ones are a mistake or worse. In bytes. */
export const MAX_FILE = 1_048_576;
/** Groups and lists in one another. */
const MAX_DEPTH = 64;
/** Values of a file, counting what an alias (`*name`) stands for each time it is used. */
const MAX_VALUES = 200_000;

/** YAML allows no other control characters than tab, line feed and carriage return. */
const NO_TEXT = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;

/** One document of a file. */
export interface YamlDocument {
  readonly value: unknown;
  /** The line of a field, or of the nearest one around it that is there. From 1. */
  lineOf(path: Path): number;
}

/**
 * Parses YAML (or JSON, which is YAML) text: all documents in it, empty ones left out. Long integers come as bigint.
 *
 * @param file what the text is called in messages
 * @throws RequestError with file and line: no YAML, a name twice in one group, nested too deep, too much of it
 */
export function parseYamlDocuments(text: string, file: string): YamlDocument[] {
  if (Buffer.byteLength(text) > MAX_FILE)
    throw new RequestError(`${file}: has more than 1 MB: split it into several files`);
  const control = text.search(NO_TEXT);
  if (control >= 0)
    throw new RequestError(
      `${file}:${text.slice(0, control).split('\n').length}: this is no YAML: it has a control character`,
    );
  const counter = new LineCounter();
  let documents: readonly Document.Parsed[];
  try {
    // Names that occur twice are looked for below: yaml compares each with each.
    documents = parseAllDocuments(text, {
      lineCounter: counter,
      uniqueKeys: false,
      intAsBigInt: true,
      prettyErrors: false,
    }) as readonly Document.Parsed[];
  } catch (error) {
    // Its parser is recursive.
    if (error instanceof RangeError) throw new RequestError(`${file}: is nested too deep`);
    throw error;
  }
  const budget = { values: MAX_VALUES };
  return documents.flatMap(document => {
    const fail = (offset: number, text: string) =>
      new RequestError(`${file}:${counter.linePos(offset).line}: ${text}`);
    const [error] = document.errors;
    // Its parser is recursive, and does not say so in each place.
    if (error?.message.includes('call stack')) throw new RequestError(`${file}: is nested too deep`);
    if (error) throw fail(error.pos[0], `this is no YAML: ${firstLine(error.message)}`);
    const reader = new Reader(fail, budget);
    const value = reader.read(document.contents, 0);
    if (value === null) return [];
    const lineOf = (path: Path) => counter.linePos(reader.offsetOf(document.contents, path)).line;
    return [{ value, lineOf }];
  });
}

/** Turns the nodes of a document into values, and finds them again. */
class Reader {
  readonly #anchors = new Map<string, Node>();
  /** Where the alias is that is being read, the outermost: what is wrong inside is wrong there. */
  #aliasAt: number | undefined;

  constructor(
    private readonly fail: (offset: number, text: string) => RequestError,
    private readonly budget: { values: number },
  ) {}

  read(node: Node | null, depth: number): unknown {
    if (node === null) return null;
    const at = this.#aliasAt ?? offsetOf(node);
    if (depth > MAX_DEPTH) throw this.fail(at, `more than ${MAX_DEPTH} groups and lists in one another`);
    this.budget.values -= 1;
    if (this.budget.values < 0)
      throw this.fail(at, `more than ${MAX_VALUES} values, counting what aliases (*name) repeat`);
    if (isAlias(node)) {
      const target = this.#anchors.get(node.source);
      // One that is inside what it names is not known yet.
      if (!target) throw this.fail(at, `*${node.source} stands for nothing that is above it`);
      const outer = this.#aliasAt;
      this.#aliasAt = at;
      const value = this.read(target, depth + 1);
      this.#aliasAt = outer;
      return value;
    }
    const value = this.#readValue(node, depth);
    const { anchor } = node as { anchor?: string };
    if (anchor !== undefined) this.#anchors.set(anchor, node);
    return value;
  }

  #readValue(node: Node, depth: number): unknown {
    if (isScalar(node)) return plain(node.value);
    if (isSeq(node)) return node.items.map(item => this.read(item as Node | null, depth + 1));
    if (!isMap(node)) return null;
    const value: JsonObject = {};
    for (const pair of node.items) {
      const name = this.#nameOf(pair);
      if (Object.hasOwn(value, name)) throw this.fail(keyOffset(pair), `${name} is there twice: remove one`);
      // Not by assignment: a file may name a field __proto__.
      Object.defineProperty(value, name, {
        value: this.read(pair.value as Node | null, depth + 1),
        ...{ enumerable: true, configurable: true, writable: true },
      });
    }
    return value;
  }

  #nameOf(pair: Pair): string {
    const { key } = pair;
    if (isScalar(key) && (typeof key.value === 'string' || typeof key.value === 'bigint'))
      return String(key.value);
    throw this.fail(keyOffset(pair), 'the name of a field is no text: put it in quotes');
  }

  /** Where the field at a path begins, or the last on the way to it that is there. */
  offsetOf(root: Node | null, path: Path): number {
    let node: Node | null = root;
    let offset = node ? offsetOf(node) : 0;
    for (const part of path) {
      if (isAlias(node)) node = this.#anchors.get(node.source) ?? null;
      if (isMap(node)) {
        const pair: Pair | undefined = node.items.find(
          ({ key }) => isScalar(key) && String(key.value) === part,
        );
        if (!pair) return offset;
        offset = keyOffset(pair);
        node = pair.value as Node | null;
      } else if (isSeq(node) && typeof part === 'number' && part < node.items.length) {
        node = node.items[part] as Node | null;
        offset = node ? offsetOf(node) : offset;
      } else return offset;
    }
    return offset;
  }
}

function offsetOf(node: Node): number {
  return node.range?.[0] ?? 0;
}

function keyOffset({ key }: Pair): number {
  return isScalar(key) ? offsetOf(key) : 0;
}

/** Integers as numbers wherever that is exact. */
function plain(value: unknown): unknown {
  if (typeof value !== 'bigint') return value ?? null;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? text;
}
