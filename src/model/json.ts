/**
 * JSON without loss: Calico's sequence numbers start at the nanosecond clock (1.8e18) and JavaScript's numbers end
 * at 2^53, so `JSON.parse` would round them and corrupt the block on the next write. Integers of 16 digits and more
 * become bigint here where they have to, and bigint becomes an integer again.
 */

/**
 * A string (kept as it is), or an integer too long to be exact; not the digits of a fraction or exponent. A string that
 * does not end is one too: looking for its end from every quote in it takes minutes for a megabyte.
 */
const LONG_INTEGER = /("[^"\\]*(?:\\[^][^"\\]*)*(?:"|\\?$))|(?<![\d.eE+-])(-?\d{16,})(?=\s*[,}\]])/g;
/** True for every text with such an integer, and for few others: most values have none, and to look at each of their
 *  strings takes longer than to parse them. */
const MAYBE_LONG = /[:,[]\s*-?\d{16,}\s*[,}\]]/;
/** A bigint on its way through JSON: a string that begins with NUL, which no Calico value does. */
const MARKED = /"\\u0000(-?\d+)"/g;

/** Parses JSON text; long integers come as bigint. Throws SyntaxError, or RangeError for what is nested too deep. */
export function parseJson(text: string): unknown {
  if (!MAYBE_LONG.test(text)) return JSON.parse(text);
  const marked = text.replace(LONG_INTEGER, (all, _string, digits) => (digits ? `"\\u0000${digits}"` : all));
  if (marked === text) return JSON.parse(text);
  return JSON.parse(marked, (_key, value: unknown) =>
    typeof value === 'string' && /^\0-?\d+$/.test(value) ? exact(BigInt(value.slice(1))) : value,
  );
}

/** A number where that is exact. */
function exact(integer: bigint): number | bigint {
  const number = Number(integer);
  return Number.isSafeInteger(number) ? number : integer;
}

/** Formats a value as JSON; bigint becomes an integer. Compact, unless `indent` says how far each level goes in. */
export function formatJson(value: unknown, indent?: number): string {
  try {
    // Most values hold none, and without a replacer this is several times as fast.
    return JSON.stringify(value, undefined, indent);
  } catch {
    return formatWithBigInt(value, indent);
  }
}

function formatWithBigInt(value: unknown, indent?: number): string {
  const marked = (_key: string, part: unknown) => (typeof part === 'bigint' ? `\0${part}` : part);
  return JSON.stringify(value, marked, indent).replace(MARKED, '$1');
}

/** A JSON object. */
export type JsonObject = Record<string, unknown>;

/** True for `{…}`, not for arrays and null. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The object at `value`, or an empty one where it is absent, null or something else. */
export function objectOrEmpty(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

/** The text at `value`; empty where it is something else. `String` fails for an object with a `toString` of its own. */
export function textOr(value: unknown, otherwise = ''): string {
  return typeof value === 'string' ? value : otherwise;
}

/** The number at `value`, zero where it is something else. */
export function numberOrZero(value: unknown): number {
  return typeof value === 'number' || typeof value === 'bigint' ? Number(value) : 0;
}

/** The strings among the values of a JSON object; a Go `map[string]string`, null included. */
export function textMap(value: unknown): Record<string, string> {
  const entries = Object.entries(objectOrEmpty(value));
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}

/** The strings of a JSON array; a Go `[]string`, null included. */
export function textList(value: unknown): string[] {
  return Array.isArray(value) ? value.filter(item => typeof item === 'string') : [];
}
