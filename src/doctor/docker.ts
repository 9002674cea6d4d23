import { existsSync, lstatSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { reason } from '../errors.js';
import { isCalicoDriver } from '../docker/defined-network.js';
import { ok, problem, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import { startedAt } from './processes.js';
import type { Subject } from './subject.js';

/** The oldest major version that it is shown with. */
const OLDEST = { major: 20, minor: 10 } as const;

/** Docker answers, and is new enough. */
export const docker: Check<Subject> = {
  name: 'docker',
  async look({ config, docker }) {
    const facts = await docker().catch((error: unknown) => reason(error));
    if (typeof facts === 'string')
      return [
        problem(
          `Docker does not answer at ${config.dockerHost} (${facts})`,
          'start dockerd, or set DOCKER_HOST to where it listens',
        ),
      ];
    return [judgeVersion(facts.version, config.dockerHost)];
  },
};

/** By `Version` of Docker's API. */
export function judgeVersion(version: string, host: string): Verdict {
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(version) ?? [];
  const [a, b] = [Number(major), Number(minor)];
  if (major === undefined)
    return warning(`Docker is ${version} at ${host}`, `use Docker ${OLDEST.major}.${OLDEST.minor} or later`);
  if (a < OLDEST.major || (a === OLDEST.major && b < OLDEST.minor))
    return problem(`Docker ${version} is too old`, `install Docker ${OLDEST.major}.${OLDEST.minor} or later`);
  return ok(`Docker ${version} answers at ${host}`);
}

/** Where systemd looks for units, in its order. */
const UNIT_FOLDERS = [
  '/etc/systemd/system',
  '/run/systemd/system',
  '/lib/systemd/system',
  '/usr/lib/systemd/system',
];
const UNIT = 'calico-libnetwork.service';
const SOCKET_UNIT = 'calico-libnetwork.socket';
const DOCKER_UNIT = 'docker.service';

/** The daemon is started before dockerd, which else waits a quarter of a minute for each network. */
export const order: Check<Subject> = {
  name: 'start order',
  async look({ daemon, dockerd, docker }) {
    const units = readUnits(UNIT_FOLDERS);
    const [first, second] = [daemon, dockerd].map(pid => (pid === undefined ? undefined : startedAt(pid)));
    const networks = (await docker().catch(() => undefined))?.networks ?? [];
    const ours = networks.filter(network => isCalicoDriver(network.driver));
    return [judgeOrder({ units, daemon: first, dockerd: second, networks: ours.length })];
  },
};

/** Texts of units with their drop-ins. */
export interface Units {
  readonly ours: string;
  readonly docker: string;
  /** systemd starts ours when the host boots. */
  readonly isEnabled: boolean;
}

/** What tells who starts first. */
export interface StartOrder {
  /** systemd's units: our service and its socket, docker's; undefined where there is none of ours. */
  readonly units: Units | undefined;
  /** Seconds since boot; undefined where it does not run. */
  readonly daemon: number | undefined;
  readonly dockerd: number | undefined;
  /** Networks that dockerd needs us for when it starts. */
  readonly networks: number;
}

/** Seconds: started so soon after dockerd, the daemon was not just restarted. */
const SAME_START = 120;
const BEFORE = `start calico-libnetwork before docker (systemd: Before=${DOCKER_UNIT} in ${UNIT}); then: systemctl daemon-reload`;

export function judgeOrder({ units, daemon, dockerd, networks }: StartOrder): Verdict {
  const waits = 'a dockerd that starts first waits 15 s for each network, and containers do not start';
  if (units) {
    if (!isOrdered(units.ours, 'Before', DOCKER_UNIT) && !isOrdered(units.docker, 'After', UNIT))
      return problem(`systemd may start ${DOCKER_UNIT} before ${UNIT}: ${waits}`, BEFORE);
    if (!units.isEnabled)
      return warning(
        `systemd does not start ${UNIT} when the host boots: ${waits}`,
        `systemctl enable ${SOCKET_UNIT} ${UNIT}`,
      );
    return ok(`systemd starts ${UNIT} before ${DOCKER_UNIT}`);
  }
  if (daemon === undefined || dockerd === undefined) return ok('nothing is known to start in a wrong order');
  const late = daemon - dockerd;
  if (late > 0 && late < SAME_START)
    return warning(
      `dockerd was started ${Math.ceil(late)} s before calico-libnetwork (${networks} calico networks now): ${waits}`,
      'start calico-libnetwork first when the host boots',
    );
  return ok(
    late > 0
      ? 'dockerd runs for long; calico-libnetwork was restarted since'
      : 'calico-libnetwork was started first',
  );
}

function isOrdered(unit: string, word: 'Before' | 'After', other: string): boolean {
  return unit.split('\n').some(
    line =>
      line.startsWith(`${word}=`) &&
      line
        .slice(word.length + 1)
        .split(/\s+/)
        .includes(other),
  );
}

/** `folders`: where systemd looks, in its order. */
export function readUnits(folders: readonly string[]): Units | undefined {
  const own = [UNIT, SOCKET_UNIT];
  const ours = own.flatMap(unit => readUnit(folders, unit) ?? []);
  if (ours.length === 0) return undefined;
  const isEnabled = folders.some(folder =>
    listOf(folder).some(
      name => name.endsWith('.wants') && own.some(unit => isThere(join(folder, name, unit))),
    ),
  );
  return { ours: ours.join('\n'), docker: readUnit(folders, DOCKER_UNIT) ?? '', isEnabled };
}

/** The first that is found, with the drop-ins of all folders. */
function readUnit(folders: readonly string[], name: string): string | undefined {
  const file = folders.map(folder => join(folder, name)).find(path => existsSync(path));
  if (file === undefined) return undefined;
  const more = folders.flatMap(folder => {
    const dropIns = join(folder, `${name}.d`);
    return listOf(dropIns).map(one => join(dropIns, one));
  });
  return [file, ...more.filter(one => one.endsWith('.conf'))]
    .map(one => readFileSync(one, 'utf8'))
    .join('\n');
}

function listOf(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** A link counts, whatever it leads to: units are enabled by links. */
function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
