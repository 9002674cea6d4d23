import { readFileSync } from 'node:fs';
import type { DetectionMethod } from './host/autodetect.js';
import { formatCidr, hasHostBits, parseAddress, parseCidr, parseCidrAddress } from './ipam/cidr.js';
import type { Cidr, Family } from './ipam/cidr.js';

/** Where an operator or calico/node may have stored the node's name. */
const NODENAME_FILE = '/var/lib/calico/nodename';

/** Environment variables. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** One setting: everything that is known of it stands here, once. */
export interface Setting<T> {
  /** The first is the one we document; of those that are set the last wins, as the Go clients prefer `CALICO_…`. */
  readonly names: readonly string[];
  /** What it does, for `--help` and `docs/reference.md`. */
  readonly help: string;
  /** Text of the default in documents. */
  readonly shown: string;
  readonly secret?: boolean;
  /** Throws with what is wrong, as "must be …". */
  parse(text: string): T;
  fallback(env: Environment): T;
}

/** Texts, comma separated. */
export function list(names: string[], help: string): Setting<string[] | undefined> {
  return {
    names,
    help,
    shown: 'unset',
    parse: text =>
      text
        .split(',')
        .map(part => part.trim().replace(/\/$/, ''))
        .filter(part => part !== ''),
    fallback: () => undefined,
  };
}

/** Any text, or nothing. */
export function optional(names: string[], help: string): Setting<string | undefined> {
  return { names, help, shown: 'unset', parse: text => text, fallback: () => undefined };
}

/** An absolute path. */
export function path(names: string[], fallback: string, help: string): Setting<string> {
  return {
    names,
    help,
    shown: `\`${fallback}\``,
    parse: text => {
      if (!text.startsWith('/')) throw new Error('must be an absolute path');
      return text.replace(/\/+$/, '') || '/';
    },
    fallback: () => fallback,
  };
}

/** true or false, also as 1/0, yes/no, on/off. */
export function boolean(names: string[], fallback: boolean, help: string): Setting<boolean> {
  return {
    names,
    help,
    shown: `\`${fallback}\``,
    parse: text => {
      if (/^(true|1|yes|on)$/i.test(text)) return true;
      if (/^(false|0|no|off)$/i.test(text)) return false;
      throw new Error('must be true or false');
    },
    fallback: () => fallback,
  };
}

/** One of some words, in any case; the first is the default. */
export function choice<T extends string>(
  names: string[],
  values: readonly [T, ...T[]],
  help: string,
): Setting<T> {
  return {
    names,
    help,
    shown: `\`${values[0]}\``,
    parse: text => {
      const found = values.find(value => value.toLowerCase() === text.toLowerCase());
      if (found === undefined) throw new Error(`must be one of ${values.join(', ')}`);
      return found;
    },
    fallback: () => values[0],
  };
}

/** A whole number. */
export function integer(
  names: string[],
  min: number,
  max: number,
  help: string,
  shown: string,
  fallback?: number,
): Setting<number | undefined> {
  return {
    names,
    help,
    shown,
    parse: text => {
      const value = Number(text);
      if (!Number.isInteger(value) || value < min || value > max)
        throw new Error(`must be a whole number from ${min} to ${max}`);
      return value;
    },
    fallback: () => fallback,
  };
}

/** A range of one family. */
export function cidr(
  names: string[],
  family: Family,
  fallback: string | undefined,
  help: string,
): Setting<Cidr | undefined> {
  const parse = (text: string): Cidr => {
    const value = parseCidr(text);
    if (!value || !text.includes('/') || value.family !== family)
      throw new Error(`must be an IPv${family} range like ${family === 4 ? '192.168.0.0/16' : 'fd80::/64'}`);
    if (hasHostBits(text))
      throw new Error(`has bits set right of its prefix length: ${formatCidr(value)} is meant?`);
    return value;
  };
  return {
    names,
    help,
    shown: fallback === undefined ? 'unset' : `\`${fallback}\``,
    parse,
    fallback: () => (fallback === undefined ? undefined : parse(fallback)),
  };
}

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const;

/** A length of time, in milliseconds: `500ms`, `30s`, `2m`, `1h`; a number alone is seconds. */
export function duration(names: string[], fallback: string, help: string): Setting<number> {
  const parse = (text: string): number => {
    const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
    const unit = (['ms', 's', 'm', 'h'] as const).find(name => name === match?.[2]) ?? 's';
    const value = Number(match?.[1]) * UNITS[unit];
    if (!match || value < 100 || value > 24 * UNITS.h)
      throw new Error('must be a time from 100ms to 24h, like 30s or 2m');
    return value;
  };
  return { names, help, shown: `\`${fallback}\``, parse, fallback: () => parse(fallback) };
}

/** A node's name, made lower case. Throws with what is wrong. */
export function parseNodeName(text: string): string {
  const name = text.trim().toLowerCase();
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name))
    throw new Error(
      'must be a name of letters, digits, dots and dashes, with a letter or digit at both ends',
    );
  return name;
}

/** The node's name in Calico's file, if there is one. */
export function readNodeName(): string | undefined {
  try {
    return readFileSync(NODENAME_FILE, 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}

/** An address to listen on. A port alone is one of 127.0.0.1: beyond loopback only where the address is written out. */
export function listenAddress(
  names: string[],
  help: string,
): Setting<{ readonly host: string; readonly port: number } | undefined> {
  return { names, help, shown: 'unset', parse: parseListenAddress, fallback: () => undefined };
}

function parseListenAddress(text: string): { host: string; port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]*)\]:|([^:]*):)?(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? '127.0.0.1';
  const port = Number(digits);
  const family = parseAddress(host)?.family;
  const isHost = bracketed === undefined ? family === 4 : family === 6;
  if (!isHost || digits === undefined || port < 1 || port > 65_535)
    throw new Error(
      'must be a port (of 127.0.0.1), or ADDRESS:PORT like 10.0.0.1:9099, 0.0.0.0:9099 or [::1]:9099',
    );
  return { host, port };
}

/** What interface names may begin with. Throws with what is wrong. */
export function parseInterfacePrefix(text: string): string {
  if (!/^[a-zA-Z0-9_.-]{1,12}$/.test(text))
    throw new Error('must be 1 to 12 letters, digits, dots, dashes or underscores');
  return text;
}

/** Where Docker's API is. Throws with what is wrong. */
export function parseDockerHost(text: string): string {
  const isTcp = /^(tcp|http):\/\/[^/@]+:\d+\/?$/.test(text) && URL.canParse(text.replace(/^tcp:/, 'http:'));
  if (!isTcp && !/^unix:\/\/\/.+$/.test(text)) throw new Error('must be unix:///path or tcp://host:port');
  return text;
}

/** A name of a driver as Docker has them: that of a plugin, with a tag where it is a managed one. */
export function parseDriverName(text: string): string {
  if (/^[a-z0-9][a-zA-Z0-9._/:-]*$/.test(text)) return text;
  throw new Error('must be the name of a driver, such as calico or calico:latest');
}

/** Where this host's address of a family comes from: an address in text, with or without prefix length, or a way. */
export type AddressSource = 'detect where missing' | 'autodetect' | 'none' | { readonly address: string };

/** This host's address of a family. `unset`: what is done where nothing is set. */
export function hostAddress(
  names: string[],
  family: Family,
  unset: Exclude<AddressSource, object>,
  help: string,
): Setting<AddressSource> {
  const example = family === 4 ? '10.0.0.1/24' : 'fd00::1/64';
  return {
    names,
    help,
    shown: unset === 'none' ? '`none`' : 'unset',
    parse: text => {
      const word = text.toLowerCase();
      if (word === 'autodetect' || word === 'none') return word;
      if (parseCidrAddress(text)?.address.family !== family)
        throw new Error(`must be an IPv${family} address like ${example}, \`autodetect\` or \`none\``);
      return { address: text };
    },
    fallback: () => unset,
  };
}

/** calico/node's way of finding the host's address of a family. */
export function detectionMethod(names: string[], family: Family, help: string): Setting<DetectionMethod> {
  return {
    names,
    help,
    shown: '`first-found`',
    parse: text => parseDetectionMethod(text, family),
    fallback: () => ({ by: 'first-found' }),
  };
}

function parseDetectionMethod(text: string, family: Family): DetectionMethod {
  if (text === 'first-found') return { by: 'first-found' };
  const [, by, value = ''] = /^(can-reach|interface|skip-interface|cidr)=(.+)$/.exec(text) ?? [];
  const parts = value.split(',').map(part => part.trim());
  if (by === 'can-reach') {
    if (parseAddress(value)?.family !== family)
      throw new Error(`can-reach= must name an IPv${family} address`);
    return { by, address: value };
  }
  if (by === 'interface' || by === 'skip-interface') return { by, patterns: parts.map(interfacePattern) };
  if (by === 'cidr') {
    // Without a length it would be a single address, which is hardly what is meant.
    const cidrs = parts.flatMap(part => (part.includes('/') ? (parseCidr(part) ?? []) : []));
    if (cidrs.length < parts.length || cidrs.some(one => one.family !== family))
      throw new Error(`cidr= must name IPv${family} ranges as address/length, comma separated`);
    return { by, cidrs };
  }
  throw new Error(
    'must be first-found, can-reach=ADDRESS, interface=REGEX[,…], skip-interface=REGEX[,…] or cidr=CIDR[,…]',
  );
}

/** As in Go's `regexp.MatchString`, a pattern may match anywhere in a name. */
function interfacePattern(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch {
    throw new Error(`names "${text}", which is no regular expression`);
  }
}
