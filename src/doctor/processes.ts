import { readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';

/** Processes of this host, by /proc. Needs root. Synchronous: a few ms for a thousand processes. */

/** Clock ticks per second in /proc/<pid>/stat, the same on all architectures that Node runs on. */
const TICKS = 100;

/** Process ids. */
export function processes(): number[] {
  return readdirSync('/proc').flatMap(name => (/^\d+$/.test(name) ? [Number(name)] : []));
}

/**
 * The daemon that listens on a unix socket; undefined where none is seen. A service manager that holds the socket for it is
 * none. `path`: as it was bound.
 */
export function daemonOn(path: string): number | undefined {
  const inodes = listeningInodes(readText('/proc/net/unix') ?? '', path);
  if (inodes.length === 0) return undefined;
  const targets = new Set(inodes.map(inode => `socket:[${inode}]`));
  return processes().find(pid => !isServiceManager(pid) && openFiles(pid).some(file => targets.has(file)));
}

/** Inodes of sockets that listen on a path, by the text of /proc/net/unix. */
export function listeningInodes(table: string, path: string): string[] {
  return table.split('\n').flatMap(line => {
    // Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 is __SO_ACCEPTCON.
    const [, flags = '0', inode, bound] = /^\S+ \S+ \S+ (\S+) \S+ \S+ +(\d+) (.+)$/.exec(line) ?? [];
    return bound === path && inode !== undefined && (parseInt(flags, 16) & 0x10000) !== 0 ? [inode] : [];
  });
}

/** Its arguments, the program first; none where it is gone, or the kernel's. */
export function commandLine(pid: number): string[] {
  return (readText(`/proc/${pid}/cmdline`) ?? '').split('\0').slice(0, -1);
}

/** Its short name, at most 15 characters. */
export function shortName(pid: number): string {
  return (readText(`/proc/${pid}/comm`) ?? '').trim();
}

/** Its environment; undefined where it is gone, or sees other files than we do: paths in it would mean other files. A
 *  service of systemd has mounts of its own, but the same files. */
export function environmentOf(pid: number): Record<string, string> | undefined {
  if (!isSameFile(`/proc/${pid}/root/etc`, '/etc')) return undefined;
  const text = readText(`/proc/${pid}/environ`);
  if (text === undefined) return undefined;
  const pairs = text.split('\0').filter(entry => entry.includes('='));
  return Object.fromEntries(
    pairs.map(pair => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
  );
}

/** Seconds since the host's boot at which it was started; undefined where it is gone. */
export function startedAt(pid: number): number | undefined {
  return startTime(readText(`/proc/${pid}/stat`) ?? '');
}

/** The same, by the text of its stat file: the 22nd field; the second is a name that may hold anything. */
export function startTime(stat: string): number | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[19]);
  return fields.length > 19 && Number.isFinite(ticks) ? ticks / TICKS : undefined;
}

function isServiceManager(pid: number): boolean {
  return ['systemd', 'init', 'systemd-socket-'].includes(shortName(pid));
}

function isSameFile(one: string, other: string): boolean {
  try {
    const [a, b] = [statSync(one), statSync(other)];
    return a.dev === b.dev && a.ino === b.ino;
  } catch {
    return false;
  }
}

function openFiles(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap(fd => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
