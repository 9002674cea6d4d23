import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import type { Host } from '../bed/host.js';

describe('the test bed itself', () => {
  let bed: Bed;
  let host: Host;

  beforeAll(async () => {
    bed = await Bed.up({ hosts: 2, engine: '20', fabric: 'l3' });
    host = bed.host(1);
    await host.dockerd();
    await host.image();
  });
  afterAll(() => bed?.down());

  it('reaches the outside world and other hosts, until the cable is pulled or frames are lost', async () => {
    const reaches = async (address: string) =>
      (await host.run(['busybox', 'ping', '-c1', '-W1', address], { check: false })).code === 0;
    expect(await reaches('10.99.1.1')).toBe(true);
    expect(await reaches(bed.addressOf(bed.host(2)))).toBe(true);
    expect((await bed.fabric(['busybox', 'ping', '-c1', '-W1', host.address])).code).toBe(0);

    await bed.drop(host, bed.host(2));
    expect(await reaches(bed.addressOf(bed.host(2)))).toBe(false);
    expect(await reaches('10.99.1.1')).toBe(true);
    await bed.heal();
    expect(await reaches(bed.addressOf(bed.host(2)))).toBe(true);

    await bed.cut(host);
    expect((await host.run(['cat', '/sys/class/net/eth0/carrier'])).stdout).toBe('0\n');
    await bed.heal(host);
    expect((await host.run(['cat', '/sys/class/net/eth0/carrier'])).stdout).toBe('1\n');
  });

  it('runs containers that reach each other and the outside world', async () => {
    expect(await host.docker('version', '--format', '{{.Server.Version}}')).toMatch(/^20\./);
    await host.docker('run', '-d', '--name', 'one', 'busybox', 'sleep', '1d');
    const format = '{{.NetworkSettings.IPAddress}}';
    const address = await host.docker('inspect', '--format', format, 'one');
    expect(await host.docker('run', '--rm', 'busybox', 'ping', '-c1', '-W2', address)).toContain(
      '1 packets received',
    );
    expect(await host.docker('exec', 'one', 'ping', '-c1', '-W2', '10.99.1.1')).toContain(
      '1 packets received',
    );
    // As on a real host: forwarding was off, so Docker closed what it opened.
    expect((await host.run(['iptables', '-S', 'FORWARD'])).stdout).toContain('-P FORWARD DROP');
    expect(await host.dockerFails('run', '--rm', '--net', 'nowhere', 'busybox', 'true')).toContain('nowhere');
  });

  it('keeps its disk when it crashes', async () => {
    // Frozen processes outlive a kill, and their cgroup would still be frozen for the next start.
    await host.docker('pause', 'one');
    await host.crash();
    await host.boot();
    await host.dockerd();
    expect(await host.docker('images', '--format', '{{.Repository}}')).toBe('busybox');
    expect(await host.docker('ps', '-a', '--format', '{{.Status}}')).toContain('Exited');
    expect(await host.docker('start', 'one')).toBe('one');
  });
});
