import { readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { HostError } from '../errors.js';
import type { Environment } from '../setting-kinds.js';

/** The first descriptor that is handed over (SD_LISTEN_FDS_START in systemd's sd_listen_fds(3)). */
const FIRST = 3;

/**
 * Descriptors of listening sockets that whoever started us made, by file name (`calico.sock`); empty where there are
 * none. They stay open and their files stay where they are when we end: what dockerd asks meanwhile waits in them.
 * Which is which tells the kernel, not an order in a unit file.
 *
 * @param env LISTEN_FDS and LISTEN_PID, as sd_listen_fds(3) has them; what is meant for another process is left alone
 * @param names file names that are wanted
 * @throws HostError where one of them is something else, or twice there
 */
export function handedSockets(
  env: Environment,
  names: readonly string[],
  pid = process.pid,
): ReadonlyMap<string, number> {
  const count = Number(env.LISTEN_FDS ?? 0);
  if (env.LISTEN_PID !== String(pid) || !Number.isInteger(count)) return new Map();
  const found = new Map<string, number>();
  const paths = count > 0 ? listeningPaths() : new Map<string, string>();
  for (let fd = FIRST; fd < FIRST + count; fd++) {
    const path = paths.get(inodeOf(fd));
    const name = path === undefined ? undefined : basename(path);
    if (name === undefined || !names.includes(name))
      throw new HostError(
        `descriptor ${fd} was handed over and is ${path ?? 'no unix socket that listens'}: the socket unit must have ListenStream= for ${names.join(' and ')}, and nothing else`,
      );
    if (found.has(name)) throw new HostError(`${path} was handed over twice: two socket units have it`);
    found.set(name, fd);
  }
  return found;
}

/** Inode of the socket behind a descriptor; empty where it is none. */
function inodeOf(fd: number): string {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1] ?? '';
  } catch {
    return '';
  }
}

/** Paths of unix sockets that listen, by inode. Flag 0x10000 is the kernel's for those (proc(5), /proc/net/unix). */
function listeningPaths(): Map<string, string> {
  const paths = new Map<string, string>();
  for (const line of readFileSync('/proc/self/net/unix', 'utf8').split('\n').slice(1)) {
    const [, flags, inode, path] = /^\S+ \S+ \S+ ([0-9A-F]+) \S+ \S+ +(\d+) (\/.*)$/.exec(line.trim()) ?? [];
    if (inode !== undefined && path !== undefined && (parseInt(flags ?? '', 16) & 0x10000) !== 0)
      paths.set(inode, path);
  }
  return paths;
}
