import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Machine } from './machine.js';

/** Folders that each host has for itself, kept over a crash as a disk would. */
const OWN_FOLDERS = [
  ...['default', 'docker', 'calico-libnetwork'].map(name => `/etc/${name}`),
  ...['docker', 'containerd', 'etcd', 'calico', 'calico-libnetwork'].map(name => `/var/lib/${name}`),
  '/var/log',
];

/** Where on the real machine a host's own folder is, for example `var-lib-docker`. */
function nameOnDisk(folder: string): string {
  return folder.slice(1).replaceAll('/', '-');
}

/**
 * Gives a machine its disk, an empty /run, a /sys that shows its own network, and a clean set of IPv4 settings.
 * All else is the real machine's, so what is built there runs here.
 */
export async function mountDisk(machine: Machine, disk: string): Promise<void> {
  const mount = (...args: string[]) => machine.run(['mount', ...args]);
  for (const folder of OWN_FOLDERS) {
    const own = join(disk, nameOnDisk(folder));
    mkdirSync(own, { recursive: true });
    mkdirSync(folder, { recursive: true });
    await mount('--bind', own, folder);
  }
  for (const [file, text] of ownFiles(machine.name)) {
    const own = join(disk, nameOnDisk(file));
    if (!existsSync(own)) writeFileSync(own, text);
    if (!existsSync(file)) writeFileSync(file, '');
    await mount('--bind', own, file);
  }
  await mount('-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/run');
  for (const folder of ['docker/plugins', 'lock'])
    mkdirSync(machine.path(`/run/${folder}`), { recursive: true });
  await mountSys(machine);
  await quietNetwork(machine);
}

function ownFiles(hostname: string): readonly (readonly [string, string])[] {
  return [
    ['/etc/machine-id', `${randomBytes(16).toString('hex')}\n`],
    ['/etc/hosts', `127.0.0.1 localhost\n127.0.1.1 ${hostname}\n`],
    ['/etc/hostname', `${hostname}\n`],
  ];
}

/** A new sysfs hides the cgroup tree that is mounted in the old one, so that is carried over. */
async function mountSys(machine: Machine): Promise<void> {
  const [tree, aside] = ['/sys/fs/cgroup', '/run/cgroup-aside'];
  mkdirSync(machine.path(aside));
  await machine.run(['mount', '--rbind', tree, aside]);
  await machine.run(['mount', '-t', 'sysfs', 'sysfs', '/sys']);
  await machine.run(['mount', '--rbind', aside, tree]);
  await machine.run(['umount', '--lazy', aside]);
  const { stdout } = await machine.run(['ls', tree]);
  if (stdout === '') await machine.run(['mount', '-t', 'cgroup2', 'cgroup2', tree]);
}

/**
 * A new network namespace copies the real machine's IPv4 settings, which another dockerd may have changed. Docker
 * sets FORWARD to DROP only where it turns forwarding on itself: it has to be off to begin with.
 */
async function quietNetwork(machine: Machine): Promise<void> {
  const settings: Record<string, string> = {
    'ipv4/ip_forward': '0',
    'ipv4/conf/all/rp_filter': '0',
    'ipv4/conf/default/rp_filter': '0',
    'bridge/bridge-nf-call-iptables': '1',
    'bridge/bridge-nf-call-ip6tables': '1',
  };
  // The bridge ones exist only where br_netfilter is loaded.
  for (const [name, value] of Object.entries(settings))
    await machine.run(['tee', `/proc/sys/net/${name}`], { input: value, check: !name.startsWith('bridge/') });
}
