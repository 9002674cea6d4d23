import { existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { removeCgroups } from './cgroups.js';
import { BEDS } from './paths.js';

let made = 0;

/** A new bed's name, which says whose it is: pid and start time of this process, and a number. */
export function newBedId(): string {
  return `${process.pid}-${startTime(process.pid)}-${++made}`;
}

/** Makes the folder of a bed. */
export function makeBedFolder(id: string): string {
  // A vitest that was killed leaves its workers, which would hold on to their beds until their tests are over.
  if (made === 1) process.once('disconnect', () => process.exit(1));
  const folder = join(BEDS, id);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/**
 * Removes what is left of a bed on disk and in the cgroup tree. Its machines have to be ended before. With
 * CALICO_LIBNETWORK_TEST_KEEP set the folder stays until the next run, for its logs.
 */
export async function removeBed(id: string, keep = false): Promise<void> {
  const folder = join(BEDS, id);
  await removeCgroups(id, foreignCgroups(folder));
  if (!keep) await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

/**
 * Removes the beds of processes that are gone: a test run that was killed cannot clean up. Their machines died
 * with them, see {@link Machine.start}.
 */
export async function removeLeftovers(): Promise<void> {
  if (!existsSync(BEDS)) return;
  for (const id of readdirSync(BEDS)) {
    const [pid = '', start = ''] = id.split('-');
    if (startTime(Number(pid)) !== start) await removeBed(id);
  }
}

/** When a process started, in clock ticks since boot; tells it from a later one with the same pid. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the command in parentheses and may contain spaces.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A process that has ended may wait for long until somebody asks how.
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/**
 * Cgroups outside of the hosts' own parent: those of managed plugins, which ignore it, and of containers of a
 * dockerd that something else than the bed started.
 */
function foreignCgroups(folder: string): string[] {
  const found: string[] = [];
  for (const host of namesIn(folder)) {
    const docker = join(folder, host, 'var-lib-docker');
    found.push(...namesIn(join(docker, 'plugins')).filter(name => /^[0-9a-f]{64}$/.test(name)));
    found.push(...namesIn(join(docker, 'containers')).map(name => `docker/${name}`));
  }
  return found;
}

function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
