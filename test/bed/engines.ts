import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { findCommand, reason, run } from '../../src/setup/command.mjs';
import { Archive, ownSuite } from './apt.js';
import { ENGINE_CACHE } from './paths.js';

/** Major versions of Docker that a host can have: 20 is the system's own, the others are unpacked. */
export type Engine = '20' | '26' | '28';

/** Every engine, for tests that go through all of them. */
export const ENGINES: readonly Engine[] = ['20', '26', '28'];

/**
 * The oldest and the newest, for tests of what was never seen to differ on one in between; `CALICO_LIBNETWORK_TEST_ENGINES=all`
 * runs these with every one as well.
 */
export const OUTER_ENGINES: readonly Engine[] =
  process.env['CALICO_LIBNETWORK_TEST_ENGINES'] === 'all' ? ENGINES : ['20', '28'];

/** Suites of Debian that have the engines which this system has not. */
const SUITES = { '26': 'trixie', '28': 'forky' } as const;

/** Programs of an engine. runc and docker-init are made fit separately. */
const PROGRAMS = [
  ...['dockerd', 'docker', 'docker-proxy', 'containerd', 'containerd-shim-runc-v2', 'ctr'],
  ...['etcd', 'etcdctl', 'etcdutl'],
];

/** The folder of an engine's programs, to be put first in PATH. Unpacks it from Debian's archive when need be. */
export async function engineFolder(engine: Engine): Promise<string> {
  if (engine === '20') return systemEngine();
  const target = join(ENGINE_CACHE, engine);
  if (!existsSync(target)) await unpackEngine(engine, SUITES[engine], target);
  return join(target, 'bin');
}

/** Links to the installed programs, since a docker client of another version may come before Debian's in PATH. */
async function systemEngine(): Promise<string> {
  const target = join(ENGINE_CACHE, 'system');
  if (existsSync(target)) return target;
  await makeWhole(target, async folder => {
    const init = { 'docker-init': '/usr/bin/tini-static' };
    const places = ['/usr/sbin', '/usr/bin', '/usr/libexec/docker'];
    for (const name of [...PROGRAMS, 'runc']) {
      const found = places.map(place => join(place, name)).find(path => existsSync(path));
      if (found !== undefined) symlinkSync(found, join(folder, name));
      else if (name === 'dockerd') throw new Error('Docker 20 is not installed: apt-get install docker.io');
    }
    for (const [name, path] of Object.entries(init)) symlinkSync(path, join(folder, name));
  });
  return target;
}

async function unpackEngine(engine: Engine, suite: string, target: string): Promise<void> {
  try {
    await makeWhole(target, async folder => {
      const packages = [
        'docker.io',
        'docker-cli',
        'containerd',
        'runc',
        'tini',
        'etcd-server',
        'etcd-client',
      ];
      // runc wants a newer C library than this system may have.
      packages.push('libc6', 'libseccomp2');
      const root = join(folder, 'root');
      await new Archive(suite, join(folder, 'apt')).unpack(packages, root);
      mkdirSync(join(folder, 'bin'));
      for (const name of PROGRAMS) {
        const place = ['sbin', 'bin', 'libexec/docker'].find(p => existsSync(join(root, 'usr', p, name)));
        if (place !== undefined) symlinkSync(join('../root/usr', place, name), join(folder, 'bin', name));
      }
      // docker-init is bind-mounted into containers, where no library is: the static one.
      symlinkSync('../root/usr/bin/tini-static', join(folder, 'bin/docker-init'));
      await fitRunc(folder, target);
      rmSync(join(folder, 'apt'), { recursive: true });
    });
  } catch (error) {
    throw new Error(
      `Docker ${engine} cannot be had: ${reason(error)}\n` +
        `It is unpacked from Debian's archive (suite ${suite}, through the mirror in /etc/apt) into ${target}. ` +
        `Make that mirror reachable, or copy the folder from a machine that has it (CALICO_LIBNETWORK_TEST_CACHE ` +
        `names another place for it).`,
      { cause: error },
    );
  }
}

/**
 * Gives runc the C library of its own suite. Calling it through that library's loader would not do: runc executes
 * /proc/self/exe again, which would be the loader.
 */
async function fitRunc(folder: string, target: string): Promise<void> {
  const libraries = join('root/usr/lib', firstMatch(join(folder, 'root/usr/lib'), /-linux-gnu$/));
  const loader = firstMatch(join(folder, libraries), /^ld-linux/);
  const runc = join(folder, 'bin/runc');
  copyFileSync(join(folder, 'root/usr/sbin/runc'), runc);
  await run([
    await patchelf(folder),
    ...['--set-interpreter', join(target, libraries, loader)],
    ...['--force-rpath', '--set-rpath', join(target, libraries), runc],
  ]);
}

/** The system's patchelf, else one unpacked from the system's own suite. */
async function patchelf(folder: string): Promise<string> {
  const installed = findCommand('patchelf');
  if (installed !== undefined) return installed;
  const tools = join(folder, 'apt/tools');
  await new Archive(ownSuite(), join(folder, 'apt', ownSuite())).unpack(['patchelf'], tools);
  return join(tools, 'usr/bin/patchelf');
}

function firstMatch(folder: string, pattern: RegExp): string {
  const found = readdirSync(folder).find(name => pattern.test(name));
  if (found === undefined) throw new Error(`nothing like ${pattern} in ${folder}`);
  return found;
}

/**
 * Fills a folder beside `target` and renames it: a folder of that name is always complete, and of two processes
 * that make it at once one wins and the other uses that.
 */
async function makeWhole(target: string, fill: (folder: string) => Promise<void>): Promise<void> {
  mkdirSync(ENGINE_CACHE, { recursive: true });
  const folder = mkdtempSync(join(ENGINE_CACHE, `.${basename(target)}-`));
  try {
    await fill(folder);
    renameSync(folder, target);
  } catch (error) {
    if (!existsSync(target)) throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
