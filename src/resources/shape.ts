import { isObject } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { shown } from './problem.js';
import type { Path, Say } from './problem.js';

/**
 * What a value may look like: the language in which each kind of resource says what its fields are. A shape looks at a
 * value, takes note of all that is wrong with it, and answers with the value as it is to be stored (protocols in their
 * one spelling, ranges in canonical form). As Go's decoder has it, null is the same as nothing.
 */
export interface Shape {
  check(value: unknown, at: Path, say: Say): unknown;
  /** Of a group of fields: its shapes by name, for {@link merged}. */
  readonly fields?: Readonly<Record<string, Field>>;
}

/** A field of a group. */
export interface Field extends Shape {
  readonly isRequired?: boolean;
}

/** A shape that has to be there. */
export function required(shape: Shape): Field {
  return { ...shape, isRequired: true };
}

/** A scalar: `read` answers with the value as it is to be stored, or with what is wrong with it. */
export function scalar(
  read: (value: unknown) => { readonly value: unknown } | { readonly wrong: string },
): Shape {
  return {
    check(value, path, say) {
      const result = read(value);
      if ('value' in result) return result.value;
      say({ path, text: result.wrong });
      return value;
    },
  };
}

/** A text for which `wrong` says what is wrong with it, or nothing. */
export function text(wrong: (value: string) => string | undefined = () => undefined): Shape {
  return scalar(value => {
    if (typeof value !== 'string')
      return { wrong: `${shown(value)} is no text${isScalar(value) ? ': put it in quotes' : ''}` };
    const problem = wrong(value);
    return problem === undefined ? { value } : { wrong: problem };
  });
}

export const bool: Shape = scalar(value =>
  typeof value === 'boolean' ? { value } : { wrong: `${shown(value)} is neither true nor false` },
);

/** A whole number from `min` to `max`. */
export function integer(min: number, max: number): Shape {
  return scalar(value =>
    typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max
      ? { value }
      : { wrong: `${shown(value)} is no whole number from ${min} to ${max}` },
  );
}

export const anyNumber: Shape = scalar(value =>
  typeof value === 'number' && Number.isFinite(value)
    ? { value }
    : {
        wrong: `${shown(value)} is no number${typeof value === 'string' ? ': take it out of the quotes' : ''}`,
      },
);

/** One of a few words, in just this spelling. */
export function oneOf(...words: readonly string[]): Shape {
  return scalar(value =>
    typeof value === 'string' && words.includes(value)
      ? { value }
      : { wrong: `${shown(value)} is none of ${words.join(', ')}` },
  );
}

/** Anything: what others look after, and we keep. */
export const anything: Shape = { check: value => value };

/** A list of things of one shape. */
export function list(item: Shape): Shape {
  return {
    check(value, path, say) {
      if (!Array.isArray(value)) {
        say({ path, text: `${shown(value)} is no list: begin each of its entries with "- "` });
        return value;
      }
      return value.map((one: unknown, index) => {
        if (one !== null) return item.check(one, [...path, index], say);
        say({ path: [...path, index], text: 'an entry of a list is empty: remove it' });
        return one;
      });
    },
  };
}

/** Names with texts, such as labels. `wrongName`: what is wrong with a name, or nothing. */
export function map(wrongName: (name: string) => string | undefined, value: Shape): Shape {
  return {
    check(all, path, say) {
      if (!isObject(all)) {
        say({ path, text: `${shown(all)} is no group of fields` });
        return all;
      }
      const checked = Object.entries(all).map(([name, one]) => {
        const at = [...path, name];
        const wrong = wrongName(name);
        if (wrong !== undefined) say({ path: at, text: wrong });
        return [name, value.check(one, at, say)] as const;
      });
      return Object.fromEntries(checked);
    },
  };
}

/**
 * A group of fields. A field that is none of them is named as unknown. `alsoWrong` looks at the fields together, once each
 * of them is right.
 */
export function group(
  fields: Readonly<Record<string, Field>>,
  alsoWrong: (value: JsonObject, at: Path, say: Say) => void = () => undefined,
): Shape {
  const names = Object.keys(fields);
  const check = (value: unknown, path: Path, say: Say): unknown => {
    if (!isObject(value)) {
      say({ path, text: `${shown(value)} is no group of fields` });
      return value;
    }
    let isRight = true;
    const note: Say = problem => {
      isRight &&= problem.unknown !== undefined || problem.isNote === true;
      say(problem);
    };
    const checked = new Map<string, unknown>();
    for (const [name, one] of Object.entries(value)) {
      const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
      if (!field) {
        const text = `unknown field: ${unknownText(name, names)}`;
        note({ path: [...path, name], text, unknown: { value: one } });
        checked.set(name, one);
      } else if (one !== null) checked.set(name, field.check(one, [...path, name], note));
    }
    for (const [name, { isRequired }] of Object.entries(fields))
      if (isRequired && !checked.has(name)) note({ path: [...path, name], text: 'is missing' });
    const result = Object.fromEntries(checked);
    if (isRight) alsoWrong(result, path, note);
    return result;
  };
  return { check, fields };
}

/**
 * A new value in place of a stored one: as given, and in each group the fields that we do not know stay as they are
 * stored. They are those of a newer Calico, which the given value cannot have named.
 */
export function merged(shape: Shape, given: unknown, stored: unknown): unknown {
  const { fields } = shape;
  if (!fields || !isObject(given) || !isObject(stored)) return given;
  const result: JsonObject = {};
  for (const [name, value] of Object.entries(stored)) if (!Object.hasOwn(fields, name)) result[name] = value;
  for (const [name, value] of Object.entries(given)) {
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    result[name] = field ? merged(field, value, stored[name]) : value;
  }
  return result;
}

function unknownText(name: string, names: readonly string[]): string {
  const alike = names.find(known => known.toLowerCase() === name.toLowerCase());
  if (alike !== undefined) return `it is spelt ${alike}`;
  return `there is ${names.slice(0, -1).join(', ')}${names.length > 1 ? ' and ' : ''}${names.at(-1) ?? 'none'}`;
}

function isScalar(value: unknown): boolean {
  return ['number', 'bigint', 'boolean'].includes(typeof value);
}
