import type { Random } from './random.js';

/** The network that is there all along, and those that come and go; with what `docker network create` is told. */
export const ALWAYS_THERE = 'c0';
export const NETWORKS: Readonly<Record<string, readonly string[]>> = {
  [ALWAYS_THERE]: ['--subnet=192.0.2.0/24'],
  n0: ['--subnet=198.51.100.0/26'],
  n1: ['--subnet=198.51.100.64/26', '--gateway=198.51.100.65'],
  n2: [],
};

const CALICO = ['--driver', 'calico', '--ipam-driver', 'calico-ipam'];
const SLEEP = ['--stop-signal', 'KILL', 'busybox', 'sleep', '1d'];
/** All workers use the same few names, so that they get in each other's way. */
const NAMES = 15;

/** `docker network create` of one of {@link NETWORKS}. */
export function createNetwork(name: string): string[] {
  return ['network', 'create', ...CALICO, ...(NETWORKS[name] ?? []), name];
}

export function isNetworkCreation([first, second]: readonly string[]): boolean {
  return first === 'network' && second === 'create';
}

/** What somebody types next: arguments of docker. Follows from `random` alone, not from how things are. */
export function nextCommand(random: Random): string[] {
  const name = `w${random.below(NAMES)}`;
  const network = random.pick([ALWAYS_THERE, ALWAYS_THERE, 'n0', 'n1', 'n2']);
  const passing = random.pick(['n0', 'n1', 'n2']);
  const force = random.chance(0.5) ? ['-f'] : [];
  return random.weighted<() => string[]>([
    [40, () => run(random, name, network)],
    [6, () => ['stop', '-t', '0', name]],
    [14, () => ['start', name]],
    [8, () => ['restart', '-t', '0', name]],
    [9, () => ['rm', '-f', name]],
    [9, () => createNetwork(passing)],
    [3, () => ['network', 'rm', passing]],
    [8, () => ['network', 'connect', network, name]],
    [8, () => ['network', 'disconnect', ...force, network, name]],
    [3, () => ['pause', name]],
    [6, () => ['unpause', name]],
  ])();
}

function run(random: Random, name: string, network: string): string[] {
  const fixed = random.chance(0.25) ? ['--ip', `192.0.2.${200 + random.below(8)}`] : [];
  const port = random.chance(0.25) ? ['-p', `${8000 + random.below(6)}:80`] : [];
  const restart = random.chance(0.4) ? ['--restart', 'always'] : [];
  const own = network === ALWAYS_THERE ? fixed : [];
  return ['run', '-d', '--name', name, '--net', network, ...own, ...port, ...restart, ...SLEEP];
}

/** Refusals that are right: what was asked for is not there, is there already, or is somebody else's. */
const FAIR = [
  /no such container|no such network|network \S+ not found/i,
  /name "?\/?\S+"? is already in use|already exists/i,
  /is not running|is paused|is not paused|already paused|is already stopped/i,
  /removal of container \S+ is already in progress|marked for removal|is dead|is restarting/i,
  /already exists in network|already attached to network|endpoint with name \S+ already exists/i,
  /is not connected to (the )?network/i,
  /endpoint \S+ not found/i,
  /has active endpoints/i,
  /port .*(in use|already allocated|taken)|address already in use/i,
  /(address|ip) \S+ .*(in use|is held|is taken|belongs|already)/i,
  /cannot (pause|stop|kill|restart|start) .*(paused|not running|removal|progress)/i,
  // runc's own: of a container that was killed while paused.
  /cgroup unexpectedly frozen/i,
  /stopping container|is being (removed|stopped)|no longer exists/i,
];

/** Whether docker's complaint is what somebody has to expect who types at random, on a host where all is well. */
export function isFair(complaint: string): boolean {
  return FAIR.some(pattern => pattern.test(complaint));
}
