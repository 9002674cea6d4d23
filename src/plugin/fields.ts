import { RequestError } from '../errors.js';
import { isObject } from '../model/json.js';
import type { JsonObject } from '../model/json.js';

/**
 * Reads fields of a request. Lenient as Go's decoder is (absent, null and unknown fields are fine), strict about the
 * type of what is used; every error names the field.
 */

/** A string; empty where absent or null. */
export function text(body: JsonObject, field: string): string {
  const value = body[field] ?? '';
  if (typeof value !== 'string') throw new RequestError(`${field} must be a string`);
  return value;
}

/** A string that is there. */
export function requiredText(body: JsonObject, field: string): string {
  const value = text(body, field);
  if (value === '') throw new RequestError(`${field} is missing`);
  return value;
}

export function flag(body: JsonObject, field: string): boolean {
  const value = body[field] ?? false;
  if (typeof value !== 'boolean') throw new RequestError(`${field} must be true or false`);
  return value;
}

/** An object; empty where absent or null. */
export function object(body: JsonObject, field: string): JsonObject {
  const value = body[field] ?? {};
  if (!isObject(value)) throw new RequestError(`${field} must be an object`);
  return value;
}

/** A list of objects; empty where absent or null. */
export function objects(body: JsonObject, field: string): JsonObject[] {
  const value = body[field] ?? [];
  if (!Array.isArray(value) || !value.every(isObject))
    throw new RequestError(`${field} must be a list of objects`);
  return value;
}

/** A map of strings; empty where absent or null. */
export function texts(body: JsonObject, field: string): Record<string, string> {
  const entries = Object.entries(object(body, field));
  for (const [key, value] of entries)
    if (typeof value !== 'string') throw new RequestError(`${field}["${key}"] must be a string`);
  return Object.fromEntries(entries) as Record<string, string>;
}

/** An id of Docker's: letters and digits (64 hex digits, or 25 of base 36 in a swarm). */
export function id(body: JsonObject, field: string): string {
  const value = requiredText(body, field);
  if (!/^[0-9a-zA-Z]{1,64}$/.test(value))
    throw new RequestError(`${field} "${value.slice(0, 80)}" is no id of Docker's`);
  return value;
}

/** A MAC address in lower-case colon form; undefined where the text is empty. */
export function mac(value: string, field: string): string | undefined {
  if (value === '') return undefined;
  const parsed = value.toLowerCase().replaceAll('-', ':');
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(parsed))
    throw new RequestError(`${field} "${value}" is no MAC address like 02:42:c0:00:02:01`);
  if (Number.parseInt(parsed.slice(0, 2), 16) % 2 === 1)
    throw new RequestError(`${field} ${value} is a multicast address: the first byte must be even`);
  if (parsed === '00:00:00:00:00:00')
    throw new RequestError(`${field} ${value} is no address an interface can have`);
  return parsed;
}
