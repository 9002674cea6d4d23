import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import { ENGINES } from '../bed/engines.js';
import { startEtcd } from '../bed/etcd.js';
import type { Host } from '../bed/host.js';
import { CALICO } from './calico-host.js';
import { handles, keys } from './datastore.js';

const GATEWAY = '192.0.2.1';
const NET = ['--subnet=192.0.2.0/24', `--gateway=${GATEWAY}`, '--aux-address=a=192.0.2.9', 'net24'] as const;

describe.each(ENGINES)('addresses kept back on two hosts with Docker %s', { concurrent: true }, engine => {
  describe('', { concurrent: false }, () => {
    let bed: Bed | undefined;
    let hosts: Host[] = [];
    let endpoint = '';

    beforeAll(async () => {
      bed = await Bed.up({ engine, hosts: 2 });
      hosts = [bed.host(1), bed.host(2)];
      ({ endpoint } = await startEtcd(bed.host(1)));
      await Promise.all(
        hosts.map(async host => {
          // Each host's own networks, else one is made and removed for both.
          await host.serve({ ETCD_ENDPOINTS: endpoint, CALICO_LIBNETWORK_SYNC_NETWORKS: 'false' });
          await host.dockerd();
          await host.image();
        }),
      );
    });
    afterAll(() => bed?.down());

    const each = (work: (host: Host) => Promise<unknown>) => Promise.all(hosts.map(work));
    const kept = async (host: Host) =>
      (await handles(host, endpoint)).filter(key => key.includes('192.0.2.'));

    it('are shared by the networks of both, and freed with the last', async () => {
      const [one, two] = hosts;
      if (!one || !two) throw new Error('two hosts are needed');
      // At once: they also make the pool together.
      await each(host => host.docker('network', 'create', ...CALICO, ...NET));
      expect(await kept(one)).toHaveLength(2);
      await each(async host => {
        const args = ['run', '--rm', '--net', 'net24', '--ip', GATEWAY, 'busybox', 'true'];
        expect(await host.dockerFails(...args)).toContain(GATEWAY);
      });
      await one.docker('network', 'rm', 'net24');
      expect(await kept(one)).toHaveLength(2);
      await one.docker('network', 'create', ...CALICO, ...NET);
      await two.docker('network', 'rm', 'net24');
      expect(await kept(one)).toHaveLength(2);
      await one.docker('network', 'rm', 'net24');
      expect(await keys(one, '192.0.2.', endpoint)).toEqual([]);
      expect(await keys(one, '192-0-2-0', endpoint)).toEqual([]);
    });

    it('are freed when both go at once', async () => {
      await each(host => host.docker('network', 'create', ...CALICO, ...NET));
      await each(host => host.docker('network', 'rm', 'net24'));
      const [one] = hosts;
      if (!one) throw new Error('a host is needed');
      expect(await kept(one)).toEqual([]);
      expect(await keys(one, '192-0-2-0', endpoint)).toEqual([]);
    });
  });
});
