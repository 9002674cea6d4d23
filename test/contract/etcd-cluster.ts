import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { EtcdProcess, demandEtcd, freePorts, healthy } from './etcd-process.js';

const execute = promisify(execFile);

/** What `etcdctl endpoint status -w json` says of a member: of all that, whether it leads. */
interface MemberStatus {
  readonly Endpoint: string;
  readonly Status: { readonly header: { readonly member_id: number }; readonly leader: number };
}

/** A cluster of etcd members on loopback, each of which can be killed and started again on its data. */
export class EtcdCluster {
  private constructor(readonly members: readonly EtcdProcess[]) {}

  /** Resolves when the cluster answers. */
  static async start(size = 3): Promise<EtcdCluster> {
    demandEtcd();
    const ports = await freePorts(size * 2);
    const members = Array.from(
      { length: size },
      (_, index) =>
        new EtcdProcess(
          ports[index] ?? 0,
          ports[size + index] ?? 0,
          'http',
          ['--log-level', 'error'],
          `m${index}`,
        ),
    );
    const cluster = new EtcdCluster(members);
    for (const member of members) cluster.launch(member);
    await healthy({ endpoints: cluster.endpoints }).catch(async (error: unknown) => {
      await cluster.remove();
      throw error;
    });
    return cluster;
  }

  get endpoints(): string[] {
    return this.members.map(member => member.endpoint);
  }

  /** Starts a member, or starts it again. */
  launch(member: EtcdProcess): void {
    member.launch(this.members.map(({ name, peerPort }) => `${name}=http://127.0.0.1:${peerPort}`).join(','));
  }

  /** The member that leads as the others see it; undefined while there is none. */
  async leader(): Promise<EtcdProcess | undefined> {
    // With a member down etcdctl fails, and prints what the others said all the same.
    const { stdout } = await execute(
      'etcdctl',
      [
        '--endpoints',
        this.endpoints.join(','),
        '--command-timeout',
        '2s',
        'endpoint',
        'status',
        '-w',
        'json',
      ],
      { env: { ...process.env, ETCDCTL_API: '3' } },
    ).catch((error: { stdout?: string }) => ({ stdout: error.stdout ?? '' }));
    // Member ids are 64 bits long: as numbers they are rounded, all of them alike.
    const answers: MemberStatus[] = stdout.trim() === '' ? [] : JSON.parse(stdout);
    const leads = answers.find(({ Status }) => Status.leader === Status.header.member_id);
    return this.members.find(({ endpoint }) => endpoint === leads?.Endpoint);
  }

  async remove(): Promise<void> {
    await Promise.all(this.members.map(member => member.remove()));
  }
}
