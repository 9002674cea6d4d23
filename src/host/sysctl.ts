import { closeSync, existsSync, openSync, readSync, readdirSync, writeFileSync } from 'node:fs';
import { HostError, reason } from '../errors.js';

/**
 * Kernel settings under /proc/sys/net. Synchronous on purpose: one write is about 10 µs in the kernel and touches no
 * disk, a turn through the thread pool costs ten times that, and attaching an endpoint needs a dozen.
 */

/**
 * In a container /proc/sys cannot be written; one that is mounted here can, and shows the network of whoever looks, which
 * is the host's (`Dockerfile`, `plugin-spec/config.json`).
 */
const MOUNTED = '/host/proc/sys/net';

/** Where the settings are. */
export const ROOT = existsSync(MOUNTED) ? MOUNTED : '/proc/sys/net';
const INTERFACE = /^[a-zA-Z0-9_.-]{1,15}$/;

/** One for all: readFile makes one of 64 kB for each file whose size it cannot tell, and a repair reads thousands. */
const BUFFER = Buffer.alloc(256);

/** A setting: path below /proc/sys/net, e.g. `ipv4/ip_forward`, and its value. */
export type Setting = readonly [path: string, value: string];

/** Throws HostError unless `name` can be an interface's name and a path component. */
export function checkInterfaceName(name: string): string {
  if (INTERFACE.test(name) && name !== '.' && name !== '..') return name;
  throw new HostError(`"${name}" is no interface name (1-15 letters, digits, "_", "." or "-")`);
}

/** A setting's value, or undefined where it does not exist (interface gone, no IPv6). */
export function readSetting(path: string): string | undefined {
  try {
    const file = openSync(`${ROOT}/${path}`, 'r');
    try {
      return BUFFER.toString('latin1', 0, readSync(file, BUFFER)).trim();
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (isGone(error)) return undefined;
    throw new HostError(`read ${ROOT}/${path}: ${reason(error)}`, { cause: error });
  }
}

/** Writes a setting. Answers false where it does not exist: an interface may vanish at any time. */
export function writeSetting([path, value]: Setting): boolean {
  try {
    writeFileSync(`${ROOT}/${path}`, value);
    return true;
  } catch (error) {
    if (isGone(error)) return false;
    throw new HostError(`write ${value} to ${ROOT}/${path}: ${reason(error)}${remedy(error)}`, {
      cause: error,
    });
  }
}

/** Writes what differs; answers with the settings that did, as `net.ipv4.ip_forward=1`. */
export function ensureSettings(settings: readonly Setting[]): string[] {
  return settings.flatMap(([path, value]) => {
    const now = readSetting(path);
    if (now === undefined || now === value || !writeSetting([path, value])) return [];
    return [`net.${path.replaceAll('/', '.')}=${value}`];
  });
}

/** Turns IPv4 forwarding on; answers whether it was off. */
export function turnOnForwarding4(): boolean {
  return ensureSettings([['ipv4/ip_forward', '1']]).length > 0;
}

/**
 * Turns IPv6 forwarding on; answers whether it was off. A router ignores router advertisements unless accept_ra is
 * 2, so interfaces that listen to them (1) keep doing so: else the host loses its default route when it lapses.
 */
export function turnOnForwarding6(): boolean {
  if (readSetting('ipv6/conf/all/forwarding') !== '0') return false;
  for (const name of readdirSync(`${ROOT}/ipv6/conf`)) {
    if (name === 'all' || name === 'default') continue;
    const path = `ipv6/conf/${name}/accept_ra`;
    if (readSetting(path) === '1') writeSetting([path, '2']);
  }
  return writeSetting(['ipv6/conf/all/forwarding', '1']);
}

function isGone(error: unknown): boolean {
  const code = codeOf(error);
  // ENODEV: the file was opened while the interface was on its way out.
  return code === 'ENOENT' || code === 'ENODEV';
}

function remedy(error: unknown): string {
  const code = codeOf(error);
  if (code === 'EROFS')
    return '; /proc/sys is read-only here: run in the host, or give the container -v /proc/sys:/host/proc/sys';
  if (code === 'EACCES' || code === 'EPERM') return '; the daemon needs root in the host network namespace';
  return '';
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
