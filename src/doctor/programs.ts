import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config.js';
import { PATH } from '../host/run.js';
import { ok, problem } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

/** A program that the daemon runs. */
interface Program {
  readonly command: string;
  /** Debian's package. */
  readonly source: string;
  /** What does not work without it. */
  readonly missing: string;
  isNeeded(config: Config): boolean;
}

const isNative = ({ dataplane }: Config): boolean => dataplane === 'native';
const PROGRAMS: readonly Program[] = [
  {
    command: 'nft',
    source: 'nftables',
    missing: 'nothing is masqueraded, and no port is published',
    isNeeded: isNative,
  },
  {
    command: 'ip',
    source: 'iproute2',
    missing: 'what others take from the host is noticed only every 30 s',
    isNeeded: () => true,
  },
  {
    command: 'iptables',
    source: 'iptables',
    missing: "Docker's firewall drops what containers send",
    isNeeded: isNative,
  },
  {
    command: 'etcd',
    source: 'etcd-server',
    missing: 'the daemon cannot run an etcd of its own',
    isNeeded: ({ etcdEndpoints }) => etcdEndpoints === undefined,
  },
];

/** What the daemon runs is installed. */
export const programs: Check<Subject> = {
  name: 'programs',
  look: async ({ config }) => judgePrograms(config, command => isInstalled(command, PATH)),
};

export function judgePrograms(config: Config, isThere: (command: string) => boolean): Verdict[] {
  const needed = PROGRAMS.filter(program => program.isNeeded(config));
  const missing = needed.filter(({ command }) => !isThere(command));
  if (missing.length === 0) return [ok(`${needed.map(({ command }) => command).join(', ')} are installed`)];
  return missing.map(program =>
    problem(
      `${program.command} is missing: ${program.missing}`,
      `install it (Debian: apt-get install ${program.source})`,
    ),
  );
}

/** `path`: folders with colons between, as in $PATH. */
export function isInstalled(command: string, path: string): boolean {
  return path.split(':').some(folder => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
