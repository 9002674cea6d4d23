/**
 * Debian packages that have to be on the machine. Only what is missing is installed, and what counts is the
 * command, not the package: a dockerd from elsewhere is as good as Debian's.
 */
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { environment, findCommand, reason, run } from './command.mjs';

/**
 * @typedef {object} HostPackage
 * @property {string} name Debian's package
 * @property {string} command what it is needed for
 * @property {(path: string) => boolean} [accept] whether a command found on PATH will do
 * @property {() => boolean} [when] whether this machine needs it at all
 */

/** @type {HostPackage[]} What the daemon and the quickstart need. */
export const RUNTIME_PACKAGES = [
  { name: 'docker.io', command: 'dockerd' },
  // Part of docker.io in Debian 12, a package of its own from 13 on; which one shows when docker.io is in.
  { name: 'docker-cli', command: 'docker', when: () => findCommand('dockerd') !== undefined },
  { name: 'etcd-server', command: 'etcd' },
  { name: 'iproute2', command: 'ip' },
  { name: 'nftables', command: 'nft' },
  { name: 'iptables', command: 'iptables' },
  { name: 'busybox-static', command: 'busybox', accept: isStatic },
  // Only recommended by docker.io, but where the kernel has AppArmor on no container starts without it.
  { name: 'apparmor', command: 'apparmor_parser', when: kernelHasAppArmor },
];

/** @type {HostPackage[]} What the tests need besides. */
export const TEST_PACKAGES = [
  { name: 'etcd-client', command: 'etcdctl' },
  { name: 'tini', command: 'tini-static' },
  { name: 'docker-compose', command: 'docker-compose' },
  // Its tools; nothing here needs systemd to run.
  { name: 'systemd', command: 'systemd-analyze' },
];

/** Where Debian's maintainer scripts ask whether they may start a service. */
const SERVICE_POLICY = '/usr/sbin/policy-rc.d';

/**
 * Whether a program runs without shared libraries, which an image made of this one file does not have: it names
 * no dynamic loader at its beginning.
 * @param {string} path
 */
export function isStatic(path) {
  return !readFileSync(path).subarray(0, 4096).includes('/ld-');
}

function kernelHasAppArmor() {
  const flag = '/sys/module/apparmor/parameters/enabled';
  return existsSync(flag) && readFileSync(flag, 'utf8').startsWith('Y');
}

/**
 * Those packages of a list whose command is missing.
 * @param {readonly HostPackage[]} list
 * @returns {HostPackage[]}
 */
export function missingPackages(list) {
  return list.filter(({ command, accept, when }) => {
    if (when !== undefined && !when()) return false;
    const path = findCommand(command);
    return path === undefined || (accept !== undefined && !accept(path));
  });
}

/**
 * Installs what is missing. Does nothing, needs no network and no root when nothing is.
 * @param {readonly HostPackage[]} list
 * @param {(line: string) => void} [say]
 * @returns {Promise<string[]>} names of the packages that were installed
 */
export async function ensurePackages(list, say = console.log) {
  const installed = /** @type {string[]} */ ([]);
  for (;;) {
    const missing = missingPackages(list);
    if (missing.length === 0) return installed;
    const names = missing.map(({ name }) => name);
    const commands = missing.map(({ command }) => command).join(', ');
    if (findCommand('apt-get') === undefined)
      throw new Error(
        `missing commands: ${commands}. This is not Debian, so install them yourself (Debian's packages are ${names.join(', ')}).`,
      );
    if (process.getuid?.() !== 0)
      throw new Error(
        `missing commands: ${commands}. Run this as root, or: apt-get install ${names.join(' ')}`,
      );
    // A second round is only for what the first made necessary.
    if (names.some(name => installed.includes(name)))
      throw new Error(`apt-get installed ${names.join(', ')}, and still there is no ${commands}`);
    say(`installing ${names.join(', ')} …`);
    await withoutStartingServices(() => install(names, say));
    installed.push(...names);
  }
}

/**
 * @param {string[]} names
 * @param {(line: string) => void} say
 */
async function install(names, say) {
  const env = { ...environment(), DEBIAN_FRONTEND: 'noninteractive' };
  try {
    await run(['apt-get', '-qq', 'update'], { env });
  } catch (error) {
    // One unreachable archive of several must not stop us: the next step tells whether ours was it.
    say(`apt-get update had trouble: ${reason(error)}`);
  }
  const options = ['-o', 'DPkg::Lock::Timeout=120', '-o', 'Dpkg::Use-Pty=0'];
  try {
    await run(['apt-get', '-qq', '-y', '--no-install-recommends', ...options, 'install', ...names], { env });
  } catch (error) {
    throw new Error(
      `${reason(error)}\nRepair that (apt-get -f install, network, /etc/apt/sources.list.d) and run this again.`,
      { cause: error },
    );
  }
}

/**
 * Where no systemd runs, the packages' init scripts would start dockerd and etcd behind our back, dockerd before
 * our driver, or fail and leave the package half installed. For as long as we install they are told not to.
 * With systemd the machine gets what its owner expects: services that run.
 * @param {() => Promise<void>} work
 */
async function withoutStartingServices(work) {
  if (existsSync('/run/systemd/system') || existsSync(SERVICE_POLICY)) return work();
  writeFileSync(SERVICE_POLICY, '#!/bin/sh\nexit 101\n');
  chmodSync(SERVICE_POLICY, 0o755);
  try {
    await work();
  } finally {
    rmSync(SERVICE_POLICY, { force: true });
  }
}
