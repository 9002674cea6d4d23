import type { Host } from './host.js';
import { poll } from './poll.js';
import type { Running } from './running.js';

/** A cluster of etcd with one member on each of some hosts, plain: what is under test is who goes away, not TLS. */
export class EtcdMembers {
  private readonly running = new Map<Host, Running>();

  private constructor(private readonly hosts: readonly Host[]) {}

  /** Resolves when the cluster answers. */
  static async start(hosts: readonly Host[]): Promise<EtcdMembers> {
    const members = new EtcdMembers(hosts);
    for (const host of hosts) await members.launch(host);
    await members.untilHealthy();
    return members;
  }

  /** For ETCD_ENDPOINTS. */
  get endpoints(): string {
    return this.hosts.map(clientUrl).join(',');
  }

  /** Starts a member, or starts it again on its data. */
  async launch(host: Host): Promise<void> {
    const peer = (one: Host) => `http://${one.address}:2380`;
    const process = await host.spawn([
      ...['etcd', '--name', host.name, '--data-dir', '/var/lib/etcd/member', '--log-level', 'error'],
      ...['--listen-client-urls', clientUrl(host), '--advertise-client-urls', clientUrl(host)],
      ...['--listen-peer-urls', peer(host), '--initial-advertise-peer-urls', peer(host)],
      ...['--initial-cluster', this.hosts.map(one => `${one.name}=${peer(one)}`).join(',')],
    ]);
    this.running.set(host, process);
  }

  /** Ends a member at once; its data stays. Fine where its host is down. */
  async kill(host: Host): Promise<void> {
    await this.running.get(host)?.stop('SIGKILL');
    this.running.delete(host);
  }

  /** The host whose member leads, as the members that answer see it; undefined while there is none. */
  async leader(from = this.hosts[0]): Promise<Host | undefined> {
    const status = await from?.run(
      ['etcdctl', '--endpoints', this.endpoints, '--command-timeout=2s', 'endpoint', 'status', '-w', 'json'],
      { env: { ETCDCTL_API: '3' }, check: false },
    );
    // Ids are larger than JavaScript's numbers: compared as text.
    const leads = (status?.stdout ?? '').split('"Endpoint"').find(one => {
      const [, member] = /"member_id":(\d+)/.exec(one) ?? [];
      return member !== undefined && /"leader":(\d+)/.exec(one)?.[1] === member;
    });
    return this.hosts.find(host => leads?.includes(`"${clientUrl(host)}"`));
  }

  /** Waits until most members are there: a read through the log of the cluster works from each of these hosts. */
  async untilHealthy(hosts = this.hosts): Promise<void> {
    for (const host of hosts)
      await poll(`etcd as ${host.name} sees it`, 30_000, async () => {
        const argv = ['etcdctl', '--endpoints', clientUrl(host), '--command-timeout=1s', 'get', 'none'];
        return (await host.run(argv, { env: { ETCDCTL_API: '3' }, check: false })).code === 0;
      });
  }
}

function clientUrl(host: Host): string {
  return `http://${host.address}:2379`;
}
