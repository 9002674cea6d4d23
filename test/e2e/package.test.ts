import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answers } from '../../src/setup/answers.mjs';
import { run } from '../../src/setup/command.mjs';
import { Bed } from '../bed/bed.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { Service, valuesOf } from '../bed/service.js';
import { documented } from './documented.js';

describe('the npm package', () => {
  const folder = mkdtempSync(join(tmpdir(), 'calico-package-'));
  const prefix = join(folder, 'prefix');
  let bed: Bed;
  let host: Host;
  let tarball: string;
  const guide = documented('install.md');

  beforeAll(async () => {
    bed = await Bed.up({ engine: '28' });
    host = bed.host(1);
  });
  afterAll(async () => {
    await bed?.down();
    rmSync(folder, { recursive: true, force: true });
  });

  it('has the built code, what Docker and systemd are given, and nothing else', async () => {
    const { stdout } = await run(['npm', 'pack', '--json', '--pack-destination', folder], {
      cwd: REPOSITORY,
    });
    const [packed] = JSON.parse(stdout.slice(stdout.indexOf('['))) as {
      filename: string;
      files: { path: string }[];
    }[];
    if (packed === undefined) throw new Error('npm pack says nothing');
    tarball = join(folder, packed.filename);
    const paths = packed.files.map(({ path }) => path);
    const sources = readdirSync(join(REPOSITORY, 'src'), { recursive: true })
      .map(String)
      .filter(name => name.endsWith('.ts'));
    expect(paths.filter(path => path.startsWith('dist/')).sort()).toEqual(
      sources.map(name => `dist/${name.replace(/\.ts$/, '.js')}`).sort(),
    );
    const others = paths.filter(path => !path.startsWith('dist/') && !path.startsWith('plugin-spec/'));
    expect(others.sort()).toEqual(['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']);
  });

  it('is installed offline, from a cache', async () => {
    const install = (to: string, how: string) =>
      run(['npm', 'install', '-g', how, '--prefix', to, tarball], { check: false, timeout: 120_000 });
    const first = await install(prefix, '--offline');
    if (first.code !== 0) {
      // A cache that `npm ci` alone has filled may lack descriptions of packages.
      expect(await install(join(folder, 'fill'), '--prefer-offline')).toMatchObject({ code: 0 });
      expect(await install(prefix, '--offline')).toMatchObject({ code: 0 });
    }
    const { version } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as {
      version: string;
    };
    const program = join(prefix, 'bin/calico-libnetwork');
    expect((await run([program, '--version'])).stdout).toBe(`${version}\n`);
    expect((await run([program, '--help'])).stdout).toContain('ETCD_ENDPOINTS');
  });

  it('is a service after the documented commands, and systemd finds nothing to say about its units', async () => {
    const mount = (...args: string[]) => host.run(['mount', ...args]);
    await mount('-t', 'overlay', '-o', `lowerdir=${prefix}:/usr/local`, 'overlay', '/usr/local');
    mkdirSync('/etc/systemd/system', { recursive: true });
    await mount('-t', 'tmpfs', 'tmpfs', '/etc/systemd/system');
    await guide.run('units', host);
    const units = ['socket', 'service'].map(kind => `/etc/systemd/system/calico-libnetwork.${kind}`);
    const { code, stdout, stderr } = await host.run(
      ['systemd-analyze', 'verify', '--man=no', '--recursive-errors=no', ...units],
      { check: false },
    );
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: '' });

    const sockets = valuesOf('socket', 'ListenStream');
    const specs = ['calico.spec', 'calico-ipam.spec'].map(name =>
      readFileSync(host.path(`/etc/docker/plugins/${name}`), 'utf8').trim(),
    );
    expect(specs).toEqual(sockets.map(path => `unix://${path}`));
    const service = await Service.start(host, (valuesOf('service', 'ExecStart')[0] ?? '').split(' '));
    for (const path of sockets)
      await poll(`an answer on ${path}`, 30_000, () => answers(host.path(path), 'POST', '/Plugin.Activate'));
    await service.until('said: READY=1');
    await service.stop();
    expect(service.count('service ended: status 0')).toBe(1);
  });

  it('is removed as documented', async () => {
    await guide.run('cleanup', host);
    expect((await host.run(['nft', 'list', 'tables'])).stdout).not.toContain('calico');
    await guide.run('remove', host);
    expect(readdirSync(host.path('/etc/docker/plugins'))).toEqual([]);
    expect(readdirSync(host.path('/etc/systemd/system'))).toEqual([]);
  });
});
