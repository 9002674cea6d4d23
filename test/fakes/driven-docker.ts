import { isObject, objectOrEmpty, parseJson, textOr } from '../../src/model/json.js';
import { FakeDocker } from './docker-api.js';
import type { Send } from './model-dockerd.js';

const SPACE = 'CalicoGlobalAddressSpace';

/** A dockerd whose networks can be made and removed, by a user or over the API: it asks the driver and tells everybody. */
export class DrivenDocker extends FakeDocker {
  /** To the daemon of this host. */
  send: Send = () => Promise.reject(new Error('no daemon'));
  /** Calls over the API, refused ones among them. */
  readonly calls: string[] = [];
  /** Refuses to make networks, in these words. */
  refusal: string | undefined;
  private next = 0;

  constructor(private readonly prefix: string) {
    super();
  }

  /** `docker network create`: the id. Throws what a user would see. */
  async create(name: string, subnet: string, more: Record<string, unknown> = {}): Promise<string> {
    const ipam = { Driver: 'calico-ipam', Options: {}, Config: [{ Subnet: subnet }] };
    return this.make({ Name: name, Driver: 'calico', IPAM: ipam, Options: {}, Labels: {}, ...more });
  }

  /** `docker network rm`. Throws what a user would see. */
  async remove(name: string): Promise<void> {
    const id = this.idOf(name);
    if (id === undefined) throw new Error(`network ${name} not found`);
    await this.unmake(id);
  }

  /** `docker network prune`. */
  async prune(): Promise<void> {
    for (const id of [...this.networks.keys()]) await this.unmake(id).catch(() => undefined);
    this.event('prune');
  }

  /** Names of the networks that it has. */
  get names(): string[] {
    return [...this.networks.values()].map(({ name }) => name).sort();
  }

  idOf(name: string): string | undefined {
    return [...this.networks].find(([, network]) => network.name === name)?.[0];
  }

  protected override async change(call: string, body: string): Promise<{ status: number; answer?: object }> {
    this.calls.push(call.replace(/[0-9a-f]{64}$/, 'ID'));
    try {
      if (call === 'POST /networks/create')
        return { status: 201, answer: { Id: await this.make(objectOrEmpty(parseJson(body))), Warning: '' } };
      await this.unmake(call.replace('DELETE /networks/', ''));
      return { status: 204 };
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return { status: message.includes('active endpoints') ? 403 : 409, answer: { message } };
    }
  }

  private async make(body: Record<string, unknown>): Promise<string> {
    const { Name, Options, ...more } = body;
    const name = textOr(Name);
    if (this.refusal !== undefined) throw new Error(this.refusal);
    if (this.idOf(name) !== undefined) throw new Error(`network with name ${name} already exists`);
    this.next += 1;
    const id = `${this.prefix}${String(this.next)}`.padEnd(64, '0');
    const { Config } = objectOrEmpty(more.IPAM);
    const subnets = (Array.isArray(Config) ? Config.filter(isObject) : []).map(({ Subnet }) =>
      textOr(Subnet),
    );
    for (const Pool of subnets)
      await this.send('IpamDriver.RequestPool', {
        ...{ AddressSpace: SPACE, Pool, SubPool: '', Options: {}, V6: Pool.includes(':') },
      });
    const data = subnets.map(Pool => ({ AddressSpace: SPACE, Pool, Gateway: '169.254.1.1/32' }));
    await this.send('NetworkDriver.CreateNetwork', {
      NetworkID: id,
      Options: { 'com.docker.network.generic': Options },
      IPv4Data: data,
      IPv6Data: [],
    });
    this.networks.set(id, { name, more: { ...more, Options } });
    this.event('create', id, { name, type: 'calico' });
    return id;
  }

  private async unmake(id: string): Promise<void> {
    const network = this.networks.get(id);
    if (!network) return;
    if ([...this.endpoints.values()].some(endpoint => endpoint.network === id))
      throw new Error(`error while removing network: network ${network.name} has active endpoints`);
    await this.send('NetworkDriver.DeleteNetwork', { NetworkID: id });
    this.networks.delete(id);
    this.event('destroy', id, { name: network.name, type: 'calico' });
  }
}
