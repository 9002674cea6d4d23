import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkDatastore } from '../../src/ipam/check-datastore.js';
import { startEtcd } from '../contract/etcd-process.js';
import type { EtcdProcess } from '../contract/etcd-process.js';
import { TestDaemon } from './dockerd.js';
import { MAC } from './requests.js';

/**
 * What real engines sent to a driver, request by request, for some thirty commands. The recordings were made with a stub
 * of other answers; so ids, pools and addresses are translated, the shapes are as they were.
 */

type Body = Record<string, unknown>;
interface Recorded {
  readonly req: string;
  readonly body: Body | '';
  readonly reply?: { PoolID?: string; Address?: string };
}

const OURS = 'CalicoGlobalAddressSpace';

function recording(name: string): Recorded[] {
  const text = readFileSync(new URL(`../fixtures/${name}.jsonl`, import.meta.url), 'utf8');
  return text
    .trim()
    .split('\n')
    .map(line => JSON.parse(line));
}

/** Speaks a recording to our daemon. */
class Replay {
  private readonly pools = new Map<string, string>();
  private readonly addresses = new Map<string, string>();
  /** Pools whose network exists: what is asked of them now is for endpoints. */
  private readonly inUse = new Set<string>();
  /** Networks that we refuse: those with Docker's own IPAM. */
  private readonly foreign = new Set<unknown>();
  refused = 0;
  /** One MAC for each endpoint, whatever the number of its addresses. */
  private endpoints = 0;

  constructor(private readonly daemon: TestDaemon) {}

  async play({ req, body, reply }: Recorded): Promise<void> {
    if (body === '') return void (await this.daemon.ok(req));
    if (this.foreign.has(body.NetworkID)) return;
    const answer = await this.send(req, body);
    if (req === 'IpamDriver.RequestPool') this.pools.set(reply?.PoolID ?? '', String(answer?.PoolID));
    if (req === 'IpamDriver.RequestAddress')
      this.addresses.set(plain(reply?.Address), plain(answer?.Address));
  }

  private async send(req: string, body: Body): Promise<Body | undefined> {
    if (req === 'IpamDriver.RequestPool')
      return this.daemon.ok(req, { ...body, AddressSpace: OURS, Options: {} });
    if (req === 'NetworkDriver.CreateNetwork') return this.createNetwork(body);
    if (req === 'NetworkDriver.CreateEndpoint') return this.daemon.ok(req, this.endpoint(body));
    if (!req.startsWith('IpamDriver.')) return this.daemon.ok(req, body);
    const PoolID = this.pools.get(String(body.PoolID)) ?? '';
    if (req !== 'IpamDriver.RequestAddress') {
      return this.daemon.ok(req, {
        ...body,
        PoolID,
        ...(body.Address ? { Address: this.translated(body.Address) } : {}),
      });
    }
    // Our capability makes dockerd send a MAC with what is for an endpoint.
    const mac = { [MAC]: `02:42:00:00:${hex(this.endpoints >> 8)}:${hex(this.endpoints)}` };
    return this.daemon
      .ok(req, { ...body, PoolID, ...(this.inUse.has(PoolID) ? { Options: mac } : {}) })
      .then(answer => {
        this.macs.set(plain(answer.Address), mac[MAC] ?? '');
        return answer;
      });
  }
  private readonly macs = new Map<string, string>();

  private async createNetwork(body: Body): Promise<Body | undefined> {
    const data = (family: unknown) =>
      (family as Body[]).map(pool => ({
        ...pool,
        AddressSpace: pool.AddressSpace === 'StubLocal' ? OURS : pool.AddressSpace,
        ...(this.isDefault(pool) ? { Pool: '0.0.0.0/0' } : {}),
      }));
    const options = { ...(body.Options as Body), 'com.docker.network.generic': {} };
    const sent = { ...body, Options: options, IPv4Data: data(body.IPv4Data), IPv6Data: data(body.IPv6Data) };
    if (sent.IPv4Data.some(({ AddressSpace }) => AddressSpace !== OURS)) {
      this.foreign.add(body.NetworkID);
      expect(await this.daemon.refused('NetworkDriver.CreateNetwork', sent)).toContain(
        '--ipam-driver calico-ipam',
      );
      this.refused += 1;
      return undefined;
    }
    for (const PoolID of this.pools.values()) this.inUse.add(PoolID);
    return this.daemon.ok('NetworkDriver.CreateNetwork', sent);
  }

  private isDefault({ Pool }: Body): boolean {
    return String(Pool).startsWith('10.200.');
  }

  private endpoint(body: Body): Body {
    const { Address, AddressIPv6 } = body.Interface as Record<string, string>;
    const [v4, v6] = [this.translated(Address), this.translated(AddressIPv6)];
    this.endpoints += 1;
    return {
      ...body,
      Options: Object.fromEntries(
        Object.entries(body.Options as Body).filter(([name]) => name.startsWith('com.docker.')),
      ),
      Interface: {
        Address: v4 && `${v4}/32`,
        AddressIPv6: v6 && `${v6}/128`,
        MacAddress: this.macs.get(v4 || v6),
      },
    };
  }

  private translated(address: unknown): string {
    return address ? (this.addresses.get(plain(address)) ?? plain(address)) : '';
  }
}

function plain(address: unknown): string {
  return String(address ?? '').split('/')[0] ?? '';
}

function hex(byte: number): string {
  return (byte & 255).toString(16).padStart(2, '0');
}

describe.each(['docker-20.10-basic', 'docker-28.5-basic'])('what %s sent', name => {
  let etcd: EtcdProcess;
  let daemon: TestDaemon;
  beforeAll(async () => {
    etcd = await startEtcd();
    daemon = await new TestDaemon(etcd.endpoint, { CALICO_IPV6POOL_CIDR: 'fd77::/64' }).start();
  });
  afterAll(async () => {
    await daemon.stop();
    await etcd.remove();
  });

  it('is answered to the end, and leaves nothing', async () => {
    const replay = new Replay(daemon);
    const left = async () =>
      Object.keys(await daemon.dump()).filter(
        key => !/\/ippools\/default|\/tiers\/|\/block\/|\/nodes\/|pool-creation/.test(key),
      );
    await expect
      .poll(async () => Object.keys(await daemon.dump()).filter(key => key.includes('/ippools/')))
      .toHaveLength(2);
    expect(await left()).toEqual([]);
    for (const recorded of recording(name)) await replay.play(recorded);
    expect(replay.refused).toBe(3);
    await expect.poll(left).toEqual([]);
    expect(daemon.dataplane.attached.size).toBe(0);
    expect((await checkDatastore(daemon.store, { fix: false, settle: 0 })).findings).toEqual([]);
  });
});
