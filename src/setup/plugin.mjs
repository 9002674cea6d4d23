/**
 * `npm run plugin [-- NAME]`: makes a managed plugin of Docker's out of this repository, without any registry: the image of
 * the Dockerfile, and `plugin-spec/config.json`. Enabling it is left to the user, as settings come before that.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { BUILD_STAMP, build } from './build.mjs';
import { reason, run } from './command.mjs';
import { ROOT, ensureDependencies } from './dependencies.mjs';

/** Name of the image that the plugin's root file system comes from. */
export const IMAGE = 'calico-libnetwork:latest';

/** Without `docker plugin set`, as in `plugin-spec/config.json`. Docker does not make it. */
const STATE = '/var/lib/calico-libnetwork';

/** What the image's base has and the driver does not need: Docker keeps the whole of a plugin in one file. */
const NOT_NEEDED = [
  'dev/*',
  ...['usr/lib', 'usr/local/lib'].map(folder => `${folder}/node_modules`),
  ...['usr/local/include', 'usr/share/doc', 'usr/share/locale', 'usr/share/man', 'opt/yarn*'],
];

/** @param {string} line */
const say = line => console.log(`plugin: ${line}`);

/**
 * What the docker client prints.
 * @param {...string} args
 */
const docker = async (...args) => (await run(['docker', ...args])).stdout.trimEnd();

try {
  const [name = 'calico:latest', ...rest] = process.argv.slice(2);
  if (rest.length > 0 || !/^[a-z0-9][a-z0-9._/-]*(:[\w.-]+)?$/.test(name))
    throw new Error('usage: npm run plugin [-- NAME[:TAG]], by default calico:latest');
  await makePlugin(name.includes(':') ? name : `${name}:latest`);
} catch (error) {
  console.error(`plugin: ${reason(error)}`);
  process.exitCode = 1;
}

/** @param {string} name */
async function makePlugin(name) {
  await docker('version', '--format', '{{.Server.Version}}');
  if ((await run(['docker', 'plugin', 'inspect', name], { check: false })).code === 0)
    throw new Error(
      `there is a plugin ${name}. To replace it, remove the containers and networks that use it, then: docker plugin rm -f ${name}`,
    );
  await ensureDependencies(say);
  await build();
  if (await imageIsNew()) say(`image ${IMAGE} is there`);
  else {
    await run(['docker', 'build', '--tag', IMAGE, ROOT]);
    say(`image ${IMAGE} built`);
  }
  const folder = mkdtempSync(join(tmpdir(), 'calico-plugin-'));
  try {
    await unpackImage(join(folder, 'rootfs'));
    writeFileSync(join(folder, 'config.json'), JSON.stringify(await configOf(name)));
    if (process.getuid?.() === 0) mkdirSync(STATE, { recursive: true, mode: 0o700 });
    await docker('plugin', 'create', name, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  say(`made. Now
  mkdir -p ${STATE}                               # on every host, before the plugin is enabled
  docker plugin set ${name} ETCD_ENDPOINTS=…       # and other settings, where need be
  docker plugin enable ${name}
  docker network create --driver ${name} --ipam-driver ${name} --subnet=192.0.2.0/24 my_net`);
}

/** Whether the image was built of what is here now. */
async function imageIsNew() {
  const format = ['--format', '{{.Created}}'];
  const { code, stdout } = await run(['docker', 'image', 'inspect', ...format, IMAGE], { check: false });
  const parts = ['Dockerfile', '.dockerignore', 'package-lock.json'].map(name => join(ROOT, name));
  const newest = Math.max(...[BUILD_STAMP, ...parts].map(file => statSync(file).mtimeMs));
  return code === 0 && Date.parse(stdout.trim()) > newest;
}

/** @param {string} folder */
async function unpackImage(folder) {
  mkdirSync(folder);
  const container = await docker('create', IMAGE);
  const tar = `${folder}.tar`;
  try {
    await docker('export', '--output', tar, container);
  } finally {
    await docker('rm', container);
  }
  const without = NOT_NEEDED.flatMap(path => ['--exclude', path]);
  await run(['tar', '--extract', '--file', tar, '--directory', folder, ...without]);
  rmSync(tar);
}

/**
 * The plugin's configuration: what the repository has, with all settings, so that `docker plugin set` knows them.
 * @param {string} name
 */
async function configOf(name) {
  const config = JSON.parse(readFileSync(join(ROOT, 'plugin-spec/config.json'), 'utf8'));
  const built = pathToFileURL(join(ROOT, 'dist/config.js')).href;
  const { settingNames } = /** @type {typeof import('../config.js')} */ (await import(built));
  config.env = settingNames().map(({ name: setting, help }) => ({
    name: setting,
    description: help,
    settable: ['value'],
    // The driver is called after the plugin, and has to know: it makes networks on this host, too.
    value: setting === 'CALICO_LIBNETWORK_DRIVER' ? name : '',
  }));
  return config;
}
