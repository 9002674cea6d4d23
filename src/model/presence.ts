import { formatJson, isObject, parseJson } from './json.js';

/** What a live daemon says of itself under `aliveKey` (keys.ts); the key goes with its lease. */
export interface HostPresence {
  /** Random, kept on the host: tells a host that died and came back from a second one with its name. */
  readonly id: string;
  /** RFC 3339 with milliseconds: when this daemon took the name. */
  readonly since: string;
  /** Of the daemon. */
  readonly version: string;
}

/** Undefined where the text is none. */
export function parsePresence(text: string): HostPresence | undefined {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || typeof value.id !== 'string') return undefined;
  return { id: value.id, since: String(value.since), version: String(value.version) };
}

export function formatPresence({ id, since, version }: HostPresence): string {
  return formatJson({ id, since, version });
}
