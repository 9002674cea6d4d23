import { formatAddress, formatCidr, hasHostBits, parseAddress, parseCidr } from '../ipam/cidr.js';
import type { Family } from '../ipam/cidr.js';
import { parseSelector } from '../model/selector.js';
import { reason } from '../errors.js';
import { shown } from './problem.js';
import { integer, map, scalar, text } from './shape.js';
import type { Shape } from './shape.js';

/** Shapes of the single values that several kinds share. Their rules are those of Calico's own validation. */

const DNS_LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const DNS_NAME = new RegExp(`^${DNS_LABEL}(\\.${DNS_LABEL})*$`);
const TIER_NAME = new RegExp(`^${DNS_LABEL}$`);
const MAX_NAME = 253;
const MAX_LABEL = 63;

/** What is wrong with the name of a resource; nothing where it is one. */
export function wrongName(name: string): string | undefined {
  if (name.length > MAX_NAME) return `has ${name.length} characters, and ${MAX_NAME} are allowed`;
  if (DNS_NAME.test(name)) return undefined;
  return `${shown(name)} is no name: lower-case letters, digits, "-" and ".", beginning and ending with a letter or digit`;
}

/** The same for a profile: they are called as Docker's networks are. */
export function wrongProfileName(name: string): string | undefined {
  if (name.length > MAX_NAME) return `has ${name.length} characters, and ${MAX_NAME} are allowed`;
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name)) return undefined;
  return `${shown(name)} is no name of a Docker network: letters, digits, "_", "." and "-", beginning with a letter or digit`;
}

/** The same for a tier: no dots, as it is a part of other names. */
export function wrongTierName(name: string): string | undefined {
  if (TIER_NAME.test(name) && name.length <= MAX_LABEL) return undefined;
  return `${shown(name)} is no name of a tier: at most ${MAX_LABEL} lower-case letters, digits and "-"`;
}

export const tierName: Shape = text(wrongTierName);

/** What is wrong with the name of a label or annotation. */
function wrongKey(key: string): string | undefined {
  const [prefix, name] = key.includes('/') ? key.split(/\/(.*)/s) : [undefined, key];
  const isName =
    /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/.test(name ?? '') && (name ?? '').length <= MAX_LABEL;
  if (isName && (prefix === undefined || DNS_NAME.test(prefix))) return undefined;
  return `${shown(key)} is no name of a label: letters, digits, "-", "_" and ".", at most ${MAX_LABEL}, behind an optional "domain/"`;
}

function wrongLabelKey(key: string): string | undefined {
  if (key === 'projectcalico.org/namespace')
    return 'Calico sets this label by itself: leave it out, and say metadata.namespace';
  return wrongKey(key);
}

const labelValue: Shape = text(value =>
  value === '' || (/^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/.test(value) && value.length <= MAX_LABEL)
    ? undefined
    : `${shown(value)} is no value of a label: at most ${MAX_LABEL} letters, digits, "-", "_" and ".", or nothing`,
);

/** Labels that a user may set. */
export const labels: Shape = map(wrongLabelKey, labelValue);
/** Labels as Calico itself may have set them. */
export const anyLabels: Shape = map(wrongKey, labelValue);
/** Docker's names are profiles' labels. */
export const labelsToApply: Shape = map(
  key => (/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(key) ? undefined : wrongKey(key)),
  labelValue,
);
export const annotations: Shape = map(wrongKey, text());

/** A range in canonical form: no bits right of the prefix length. A bare address is a range of one. */
export const cidr: Shape = scalar(value => {
  const range = typeof value === 'string' ? parseCidr(value) : undefined;
  if (typeof value !== 'string' || !range)
    return {
      wrong: `${shown(value)} is no range of addresses: write one like 192.0.2.0/24 or 2001:db8::/64`,
    };
  if (hasHostBits(value))
    return { wrong: `${value} has bits set right of its prefix length: write ${formatCidr(range)}` };
  return { value: value.includes('/') ? formatCidr(range) : formatAddress({ ...range, value: range.base }) };
});

/** The same with `/length`, as IPPools and rules have it. */
export const fullCidr: Shape = scalar(value => {
  if (typeof value === 'string' && parseAddress(value))
    return { wrong: `${value} has no prefix length: write ${value}/${value.includes(':') ? 128 : 32}` };
  let wrong = '';
  const checked = cidr.check(value, [], problem => (wrong = problem.text));
  return wrong === '' ? { value: checked } : { wrong };
});

/** An address without prefix length. */
export function address(family?: Family): Shape {
  const kind = family === undefined ? '' : ` IPv${family}`;
  return text(value => {
    const parsed = parseAddress(value);
    if (parsed && (family === undefined || parsed.family === family)) return undefined;
    return `${shown(value)} is no${kind} address`;
  });
}

/** `10.0.0.1/24`: an address with the length of its subnet's prefix, or without. */
export function addressWithLength(family?: Family): Shape {
  const kind = family === undefined ? '' : ` IPv${family}`;
  return text(value => {
    const range = parseCidr(value);
    if (range && (family === undefined || range.family === family)) return undefined;
    return `${shown(value)} is no${kind} address, with or without the length of its subnet's prefix`;
  });
}

/** A selector; `global()` is for namespaces only. */
export const selector: Shape = text(value => {
  if (/\bglobal\s*\(/.test(value)) return 'global() can be used in a namespaceSelector only';
  return wrongSelector(value);
});

/** Calico takes `global()` only alone. */
export const namespaceSelector: Shape = text(value => {
  if (/\bglobal\s*\(/.test(value) && !/^\s*global\s*\(\s*\)\s*$/.test(value))
    return 'global() cannot be combined with other selectors';
  return wrongSelector(value);
});

function wrongSelector(value: string): string | undefined {
  try {
    parseSelector(value);
    return undefined;
  } catch (error) {
    return `${reason(error)}: a selector is, for instance, role == "db" && has(env)`;
  }
}

/** A port, a range of ports (`100:200`) or the name of one. */
export const port: Shape = scalar(value => {
  if (typeof value === 'number' && isPort(value)) return { value };
  if (typeof value === 'string') {
    const [, from, to] = /^(\d{1,5}):(\d{1,5})$/.exec(value) ?? [];
    if (from !== undefined && to !== undefined) {
      if (!isPort(Number(from)) || !isPort(Number(to)))
        return { wrong: `${shown(value)}: ports are from 0 to 65535` };
      if (Number(from) > Number(to))
        return { wrong: `${shown(value)} ends before it begins: write ${to}:${from}` };
      return { value };
    }
    if (/^\d+$/.test(value))
      return isPort(Number(value)) ? { value: Number(value) } : { wrong: notPort(value) };
    if (/^\d+-\d+$/.test(value))
      return { wrong: `${shown(value)}: write a range as ${value.replace('-', ':')}` };
    if (/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}$/.test(value)) return { value };
  }
  return { wrong: notPort(value) };
});

function notPort(value: unknown): string {
  return `${shown(value)} is no port: a number from 0 to 65535, a range like 8000:8080, or the name of a port`;
}

function isPort(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 65_535;
}

const PROTOCOLS = ['TCP', 'UDP', 'ICMP', 'ICMPv6', 'SCTP', 'UDPLite'] as const;

/** A protocol's name, in the one spelling that Calico stores, or its number. */
export const protocol: Shape = scalar(value => {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 255) return { value };
  const word = typeof value === 'string' ? value.toLowerCase() : undefined;
  const name = PROTOCOLS.find(known => known.toLowerCase() === word);
  if (name !== undefined) return { value: name };
  return { wrong: `${shown(value)} is no protocol: ${PROTOCOLS.join(', ')}, or a number from 1 to 255` };
});

export const ipVersion: Shape = scalar(value =>
  value === 4 || value === 6 ? { value } : { wrong: `${shown(value)} is no version of IP: 4 or 6` },
);

/** An AS number: a number, or `high.low`. */
export const asNumber: Shape = scalar(value => {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 4_294_967_295)
    return { value };
  const [, high, low] = /^(\d{1,5})\.(\d{1,5})$/.exec(typeof value === 'string' ? value : '') ?? [];
  if (high !== undefined && Number(high) <= 65_535 && Number(low) <= 65_535) return { value };
  if (typeof value === 'string' && /^\d{1,10}$/.test(value) && Number(value) <= 4_294_967_295)
    return { value };
  return { wrong: `${shown(value)} is no AS number: from 0 to 4294967295, or two of 16 bits like 1.10` };
});

/** Lower or upper case, colons. */
export const mac: Shape = text(value =>
  /^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(value) ? undefined : `${shown(value)} is no MAC address`,
);

export const icmpNumber: Shape = integer(0, 255);
