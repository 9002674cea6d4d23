import { readdirSync, readFileSync, statSync } from 'node:fs';

/** Processes looked at, newest first: the one that is meant was made a moment ago, and a host may have thousands. */
const NEWEST = 100;

/**
 * The id of the container whose process is in a network namespace, by that process's cgroup; undefined where none of the
 * newest processes is in it. dockerd 28 and later calls Join when the container's process is there, and waits to run what
 * it is for; before 28 there is none yet.
 *
 * @param sandboxKey path of the namespace, as Join names it
 */
export function containerOfSandbox(sandboxKey: string): string | undefined {
  const namespace = inodeOf(sandboxKey);
  if (namespace === undefined) return undefined;
  const newest = readdirSync('/proc')
    .map(Number)
    .filter(pid => Number.isInteger(pid))
    .sort((a, b) => b - a)
    .slice(0, NEWEST);
  const pid = newest.find(candidate => inodeOf(`/proc/${candidate}/ns/net`) === namespace);
  return pid === undefined ? undefined : containerOfCgroup(pid);
}

/** Undefined where there is nothing: it went, or is not ours to see. */
function inodeOf(path: string): number | undefined {
  try {
    return statSync(path).ino;
  } catch {
    return undefined;
  }
}

/** Docker names the cgroup after the container: `…/<id>`, or `…/docker-<id>.scope` where systemd makes it. */
function containerOfCgroup(pid: number): string | undefined {
  try {
    return /[/-]([0-9a-f]{64})(\.scope)?$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1];
  } catch {
    return undefined;
  }
}
