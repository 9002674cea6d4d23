import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importBase } from '../bed/base-image.js';
import { Bed } from '../bed/bed.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { CALICO, container, ping, pingOutside } from './calico-host.js';

const SPECS = ['calico.spec', 'calico-ipam.spec'];

describe('the packages', () => {
  let bed: Bed;
  let host: Host;

  beforeAll(async () => {
    bed = await Bed.up({ engine: '28' });
    host = bed.host(1);
    // As systemd leaves it, for containers that see what is mounted there later.
    await host.run(['mount', '--make-shared', '/run']);
    await host.dockerd();
    await host.image();
  });
  afterAll(() => bed?.down());

  it('an image is built out of what a clone has, without a network', async () => {
    const base = await importBase(host);
    await host.run(['docker', 'build', '--tag', 'calico-libnetwork', REPOSITORY]);
    const sizeOf = async (name: string) =>
      Number(await host.docker('image', 'inspect', '--format', '{{.Size}}', name));
    const [own, its] = [await sizeOf('calico-libnetwork'), await sizeOf(base)];
    console.log(`image: ${((own - its) / 1e6).toFixed(1)} MB above its base`);
    expect(own - its).toBeLessThan(60e6);
    expect(await host.docker('run', '--rm', '--net', 'none', 'calico-libnetwork', '--version')).toMatch(
      /^\d+\.\d+\.\d+/,
    );
    const files = await host.docker(
      'run',
      '--rm',
      '--net',
      'none',
      '--entrypoint',
      'ls',
      'calico-libnetwork',
      '/opt/calico-libnetwork',
      '/opt/calico-libnetwork/node_modules',
    );
    expect(files).not.toMatch(/\b(src|test|typescript|vitest|eslint)\b/);
  });
});
