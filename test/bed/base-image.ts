import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { findCommand, run } from '../../src/setup/command.mjs';
import type { Host } from './host.js';
import { REPOSITORY } from './paths.js';

/** What the image's own build and the driver in it need of a base; all else is busybox. */
const PROGRAMS = ['env', 'ip', 'nft', 'iptables', 'setpriv', 'nsenter', 'etcd'];

/** What iptables loads by name, and the names by which one program is several. */
const IPTABLES = /^(ip6?tables(-nft|-legacy)?(-save|-restore)?|xtables-(nft|legacy)-multi)$/;

/**
 * Imports an image under the name that the Dockerfile begins with, made of what this machine has: node, npm, busybox and
 * the programs above, with their libraries. No registry can be reached from a bed.
 */
export async function importBase(host: Host): Promise<string> {
  const [, name] = /^ARG BASE=(\S+)$/m.exec(readFileSync(join(REPOSITORY, 'Dockerfile'), 'utf8')) ?? [];
  if (name === undefined) throw new Error('the Dockerfile names no base');
  const folder = mkdtempSync(join(tmpdir(), 'calico-base-'));
  try {
    const root = join(folder, 'root');
    await fill(root);
    const tar = join(folder, 'base.tar');
    await run(['tar', '--create', '--owner=0', '--group=0', '--file', tar, '--directory', root, '.']);
    const path = 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    await host.docker('import', '--change', path, tar, name);
    return name;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function fill(root: string): Promise<void> {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(root, 'usr', name), { recursive: true });
    symlinkSync(`usr/${name}`, join(root, name));
  }
  for (const name of ['dev', 'etc', 'proc', 'run', 'sys', 'tmp', 'root', 'usr/local/bin', 'var'])
    mkdirSync(join(root, name), { recursive: true });
  symlinkSync('/run', join(root, 'var/run'));

  const programs = [process.execPath, ...PROGRAMS.map(program)];
  const copies = new Map(programs.map(path => [path, `/usr/bin/${basename(path)}`]));
  const sbin = dirname(program('iptables'));
  const { stdout } = await run(['ls', sbin]);
  for (const name of stdout.split('\n').filter(each => IPTABLES.test(each)))
    copies.set(join(sbin, name), `/usr/bin/${name}`);
  const libraries = new Set<string>();
  for (const [from, to] of copies) {
    cpSync(realpathSync(from), join(root, to));
    for (const library of await librariesOf(from)) libraries.add(library);
  }
  for (const library of libraries) {
    // /lib is a link to /usr/lib in there, whatever it is here.
    const to = join(root, library.replace(/^\/(lib|lib64)\//, '/usr/$1/'));
    mkdirSync(dirname(to), { recursive: true });
    cpSync(realpathSync(library), to);
  }
  const extensions = [...libraries].map(library => join(dirname(library), 'xtables')).find(existsSync);
  if (extensions !== undefined)
    cpSync(extensions, join(root, extensions.replace(/^\/lib\//, '/usr/lib/')), { recursive: true });

  const npm = dirname(dirname(realpathSync(program('npm'))));
  cpSync(npm, join(root, 'usr/lib/node_modules/npm'), { recursive: true, dereference: true });
  symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/bin/npm'));

  cpSync(program('busybox'), join(root, 'usr/bin/busybox'));
  const applets = (await run([program('busybox'), '--list'])).stdout.split('\n').filter(name => name !== '');
  for (const applet of applets)
    if (!existsSync(join(root, 'usr/bin', applet))) symlinkSync('busybox', join(root, 'usr/bin', applet));
}

function program(name: string): string {
  const found = findCommand(name);
  if (found === undefined) throw new Error(`no ${name} on this machine`);
  return found;
}

/** Shared libraries of a program, its loader included. */
async function librariesOf(path: string): Promise<string[]> {
  const { stdout } = await run(['ldd', realpathSync(path)], { check: false });
  return [...stdout.matchAll(/(?:=> |^\s*)(\/\S+) \(/gm)].flatMap(([, library]) => library ?? []);
}
