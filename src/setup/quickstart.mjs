/**
 * `npm run quickstart`: from a fresh Debian host to two containers that talk over a calico network. Does only what
 * is not done yet, so it can be run again at any time.
 */
import { existsSync, statSync } from 'node:fs';
import { answers } from './answers.mjs';
import { startInBackground } from './background.mjs';
import { BUILD_STAMP, MAIN, build } from './build.mjs';
import { findCommand, reason, run } from './command.mjs';
import { ensureDependencies } from './dependencies.mjs';
import { IMAGE, IMPORT_ARGUMENTS, busyboxTar } from './image.mjs';
import { RUNTIME_PACKAGES, ensurePackages } from './packages.mjs';

const NETWORK = 'quickstart';
const CONTAINERS = /** @type {const} */ (['quickstart-a', 'quickstart-b']);
const DOCKER_SOCKET = '/run/docker.sock';
const DOCKER_LOG = '/var/log/dockerd.log';
const PLUGIN_SOCKET = '/run/docker/plugins/calico.sock';
const DAEMON_LOG = '/var/log/calico-libnetwork.log';
const DAEMON_PID = '/run/calico-libnetwork.pid';
const STOP_DAEMON = `kill $(cat ${DAEMON_PID})`;

/** @param {string} line */
const say = line => console.log(`quickstart: ${line}`);

/**
 * What the docker client prints. It is the user's own, so what works here works at the prompt.
 * @param {...string} args
 */
const docker = async (...args) => (await run(['docker', ...args])).stdout.trimEnd();

/**
 * Whether a docker command succeeds.
 * @param {...string} args
 */
const dockerSays = async (...args) => (await run(['docker', ...args], { check: false })).code === 0;

try {
  if (process.getuid?.() !== 0) throw new Error('a network driver needs root: run this with sudo or as root');
  await ensurePackages(RUNTIME_PACKAGES, say);
  await ensureDependencies(say);
  await build();
  say('built');
  // Before dockerd: one that starts with calico networks and finds no driver waits a quarter of a minute for each.
  await ensureDaemon();
  await ensureDockerd();
  await ensureImage();
  await ensureNetwork();
  await startContainers();
  await show();
  explain();
} catch (error) {
  console.error(`quickstart: ${reason(error)}`);
  process.exitCode = 1;
}

async function ensureDaemon() {
  const ready = () => answers(PLUGIN_SOCKET, 'POST', '/Plugin.Activate');
  if (await ready()) {
    say(`the driver answers on ${PLUGIN_SOCKET} already`);
    // A socket is as old as the daemon that listens on it.
    if (statSync(PLUGIN_SOCKET).mtimeMs < statSync(BUILD_STAMP).mtimeMs)
      say(
        `it is an older build. To change over (containers keep their network): ${STOP_DAEMON}; npm run quickstart`,
      );
    return;
  }
  if (!existsSync(MAIN)) throw new Error(`the build left no ${MAIN}: npm run build`);
  await startInBackground({
    name: 'the driver',
    argv: [MAIN, 'serve'],
    log: DAEMON_LOG,
    pidFile: DAEMON_PID,
    ready,
  });
  say(`driver started, log in ${DAEMON_LOG}`);
}

async function ensureDockerd() {
  const ready = () => answers(DOCKER_SOCKET, 'GET', '/_ping');
  if (await ready()) {
    say('dockerd answers already');
  } else if (await systemdHasDocker()) {
    await run(['systemctl', 'start', 'docker.service']);
    say('docker.service started, log in journalctl -u docker');
  } else {
    const dockerd = findCommand('dockerd') ?? 'dockerd';
    await startInBackground({ name: 'dockerd', argv: [dockerd], log: DOCKER_LOG, ready });
    say(`dockerd started, log in ${DOCKER_LOG}`);
  }
  // The client may be another version than the engine, or be set to another machine's.
  await docker('version', '--format', '{{.Server.Version}}');
}

async function systemdHasDocker() {
  if (!existsSync('/run/systemd/system')) return false;
  return (await run(['systemctl', 'cat', 'docker.service'], { check: false })).code === 0;
}

async function ensureImage() {
  if (await dockerSays('image', 'inspect', IMAGE)) return;
  await run(['docker', ...IMPORT_ARGUMENTS], { input: await busyboxTar() });
  say(`${IMAGE} imported from this machine's busybox`);
}

async function ensureNetwork() {
  if (await dockerSays('network', 'inspect', NETWORK)) {
    const driver = await docker('network', 'inspect', '--format', '{{.Driver}}', NETWORK);
    if (driver === 'calico') return;
    throw new Error(
      `there is a network ${NETWORK} of driver ${driver}: docker network rm ${NETWORK}, and again`,
    );
  }
  await docker('network', 'create', '--driver', 'calico', '--ipam-driver', 'calico-ipam', NETWORK);
  say(`network ${NETWORK} created`);
}

async function startContainers() {
  for (const name of CONTAINERS) {
    // Starting one that runs does nothing.
    if (await dockerSays('container', 'inspect', name)) await docker('start', name);
    else await docker('run', '--detach', '--net', NETWORK, '--name', name, IMAGE, 'sleep', '1d');
  }
  say(`containers ${CONTAINERS.join(' and ')} run`);
}

/** The proof: a name, a ping, and the routes of a calico endpoint. */
async function show() {
  const [from, to] = CONTAINERS;
  for (const command of [
    ['ping', '-c1', to],
    ['ip', 'route'],
  ]) {
    console.log(`\n$ docker exec ${from} ${command.join(' ')}`);
    console.log(await docker('exec', from, ...command));
  }
}

function explain() {
  const systemd = existsSync('/run/systemd/system') && !existsSync(DOCKER_LOG);
  console.log(`
It works. Now your own:
  docker network create --driver calico --ipam-driver calico-ipam --subnet=192.0.2.0/24 my_net
  docker run -d --net my_net --name web busybox sleep 1d
  docker run -d --net my_net --name db --ip 192.0.2.100 busybox sleep 1d
  docker exec web ping -c1 db

Logs       driver ${DAEMON_LOG}, dockerd ${systemd ? 'journalctl -u docker' : DOCKER_LOG}
Stop       dockerd first: ${systemd ? 'systemctl stop docker.socket docker' : 'kill $(cat /run/docker.pid)'}
           then the driver: ${STOP_DAEMON}
Start      npm run quickstart
Remove     docker rm -f ${CONTAINERS.join(' ')}; docker network rm ${NETWORK}; stop both as above;
           rm -rf /var/lib/calico-libnetwork ${DAEMON_LOG}`);
}
