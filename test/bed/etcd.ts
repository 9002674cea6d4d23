import type { Host } from './host.js';
import { poll } from './poll.js';
import type { Running } from './running.js';

/** An etcd of its own on a host, as others run it: not the daemon's embedded one. */
export interface HostEtcd {
  readonly process: Running;
  /** Reachable from all hosts of the bed. */
  readonly endpoint: string;
}

/**
 * Starts a single-member etcd on a host, with its data on the host's disk, and waits until it answers. Started
 * again after a kill or a crash it goes on with that data.
 */
export async function startEtcd(host: Host): Promise<HostEtcd> {
  const endpoint = `http://${host.address}:2379`;
  const peer = `http://${host.address}:2380`;
  const process = await host.spawn([
    ...['etcd', '--name', host.name, '--data-dir', '/var/lib/etcd/member'],
    ...['--listen-client-urls', 'http://0.0.0.0:2379', '--advertise-client-urls', endpoint],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
    ...['--initial-cluster', `${host.name}=${peer}`],
    // Docker 20 with a cluster store speaks etcd's first protocol.
    '--enable-v2=true',
  ]);
  await poll(`etcd on ${host.name}`, 30_000, async () => {
    if (process.ended) throw new Error(`etcd on ${host.name} ended:\n${process.tail()}`);
    const health = await host.run(['etcdctl', '--command-timeout=1s', 'endpoint', 'health'], {
      env: { ETCDCTL_API: '3' },
      check: false,
    });
    return health.code === 0;
  });
  return { process, endpoint };
}
