import { existsSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const ROOT = '/sys/fs/cgroup';

/** The parent of all cgroups that a host's containers get, as `dockerd --cgroup-parent` wants it. */
export function cgroupParent(bed: string, host: string): string {
  return `/calico-bed-${bed}-${host}`;
}

/** Removes the cgroups of a bed's hosts, and others named in full (`docker/<container>`). */
export async function removeCgroups(bed: string, others: readonly string[] = []): Promise<void> {
  for (const root of cgroupRoots()) {
    const own = readdirSync(root).filter(name => name.startsWith(`calico-bed-${bed}-`));
    for (const name of [...own, ...others]) await removeTree(join(root, name));
  }
}

/** Removes what a host that crashed left, as a power cut does. Its paused containers, killed long since, end only now. */
export async function removeCgroupsOf(parent: string): Promise<void> {
  for (const root of cgroupRoots()) await removeTree(join(root, parent));
}

/** One per v1 hierarchy, and the unified one. */
function cgroupRoots(): string[] {
  if (!existsSync(ROOT)) return [];
  const mounts = readdirSync(ROOT, { withFileTypes: true }).filter(entry => entry.isDirectory());
  return [ROOT, ...mounts.map(({ name }) => join(ROOT, name))];
}

/** Bottom up; what was killed just now may keep its cgroup busy for a moment. */
async function removeTree(folder: string): Promise<void> {
  if (!existsSync(folder)) return;
  thaw(folder);
  for (const entry of readdirSync(folder, { withFileTypes: true }))
    if (entry.isDirectory()) await removeTree(join(folder, entry.name));
  for (let attempt = 0; attempt < 50; attempt++) {
    try {
      rmdirSync(folder);
      return;
    } catch {
      if (!existsSync(folder)) return;
      await sleep(20);
    }
  }
}

/** A process in a frozen cgroup of v1 does not even die of SIGKILL. */
function thaw(folder: string): void {
  const state = join(folder, 'freezer.state');
  if (existsSync(state)) writeFileSync(state, 'THAWED');
}
