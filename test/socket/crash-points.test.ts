import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.js';
import { violations } from '../../src/ipam/block.js';
import { parseBlock, parseHandle } from '../../src/model/block.js';
import { parseEndpoint } from '../../src/model/workload-endpoint.js';
import { RequestError } from '../../src/errors.js';
import { createServices } from '../../src/services.js';
import type { Services } from '../../src/services.js';
import { FakeDataplane } from '../fakes/dataplane.js';
import { FakeDocker } from '../fakes/docker-api.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { ModelDockerd } from '../fakes/model-dockerd.js';
import { Life, MortalDataplane, MortalStore } from '../fakes/mortal.js';
import { dockerId } from './requests.js';

const log = pino({ level: 'silent' });
const NET_A = dockerId('a1');
const NET_B = dockerId('b2');
/** Worlds at a time. */
const WIDTH = 12;

/** All there is outside the daemon, and one daemon after another in it. */
class World {
  readonly store = new MemoryStore();
  readonly kernel = new FakeDataplane();
  readonly docker = new FakeDocker();
  readonly dockerd = new ModelDockerd((method, body) => this.send(method, body), this.docker, this.kernel);
  private services: Services | undefined;
  life = new Life(Infinity);
  deaths = 0;

  async begin(diesAt: number): Promise<void> {
    await this.docker.start();
    this.boot(Infinity);
    await expect
      .poll(() => Object.keys(this.store.dump()).filter(key => key.includes('/ippools/')), {
        timeout: 10_000,
      })
      .toHaveLength(1);
    // Only what comes from now on is counted.
    this.life.end();
    this.boot(diesAt);
  }

  private boot(diesAt: number): void {
    this.services?.stop();
    this.life = new Life(diesAt);
    const config = loadConfig({
      NODENAME: 'node-1',
      DOCKER_HOST: this.docker.host,
      CALICO_LIBNETWORK_GC_GRACE: '300ms',
      CALICO_LIBNETWORK_RECONCILE_INTERVAL: '100ms',
    });
    const store = new MortalStore(this.store, this.life);
    this.services = createServices(config, store, new MortalDataplane(this.kernel, this.life), log);
    this.services.start();
    void this.life.over.then(() => {
      if (diesAt === Infinity) return;
      this.deaths += 1;
      this.boot(Infinity);
    });
  }

  /** As dockerd does: a call whose connection broke is sent again, with the body lost. */
  private async send(method: string, body: object): Promise<Record<string, unknown>> {
    const { life, services } = this;
    const all = { ...services?.methods.network, ...services?.methods.ipam };
    const call = all[method];
    if (!call) throw new Error(`no method ${method}`);
    const answer = life.effect(async () => call(JSON.parse(JSON.stringify(body))));
    const died = life.over.then(() => Promise.reject(new RequestError(`${method} came without a body`)));
    return (await Promise.race([answer, died])) as Record<string, unknown>;
  }

  /** What etcd, the kernel and Docker do not agree on. */
  disagreements(): string[] {
    const found: string[] = [];
    const dump = this.store.dump();
    const list = (part: string) => Object.keys(dump).filter(key => key.includes(part));
    const inDocker = [...this.docker.endpoints];
    const wanted = inDocker.flatMap(([, { mac, addresses }]) =>
      addresses.map(address => `libnetwork.node-1.${mac.replaceAll(':', '')}.${address}`),
    );
    const reserved = [...this.docker.networks.values()].flatMap(({ ipam = [] }) =>
      ipam.flatMap(({ Gateway, AuxiliaryAddresses = {} }) => [
        ...(Gateway === undefined ? [] : [`libnetwork.gateway.${Gateway}`]),
        ...Object.values(AuxiliaryAddresses).map(address => `libnetwork.aux.${address}`),
      ]),
    );
    const compare = (what: string, there: readonly string[], should: readonly string[]) => {
      for (const one of there) if (!should.includes(one)) found.push(`left over: ${what} ${one}`);
      for (const one of should) if (!there.includes(one)) found.push(`missing: ${what} ${one}`);
    };
    compare(
      'handle',
      list('/handle/').map(key => key.split('/').at(-1) ?? ''),
      [...wanted, ...reserved],
    );
    const endpoints = list('/workloadendpoints/').flatMap(key => parseEndpoint(dump[key] ?? '') ?? []);
    compare(
      'endpoint',
      endpoints.map(({ endpointId }) => endpointId),
      inDocker.map(([id]) => id),
    );
    compare(
      'network',
      list('/libnetwork/v1/networks/').map(key => key.split('/').at(-1) ?? ''),
      [...this.docker.networks.keys()],
    );
    const addresses = inDocker.flatMap(([, endpoint]) => endpoint.addresses);
    for (const address of new Set(addresses))
      if (addresses.filter(one => one === address).length > 1) found.push(`held twice: ${address}`);
    compare('interface', [...this.kernel.attached.keys()], [...this.kernel.inUse]);
    const handles = new Map<string, number>();
    for (const key of list('/assignment/')) {
      const block = parseBlock(dump[key] ?? '');
      if (!block) return [...found, `unreadable: ${key}`];
      found.push(...violations(block).map(text => `${key}: ${text}`));
      for (const index of block.allocations) {
        const id = index === null ? undefined : block.attributes[index]?.handle_id;
        if (id !== undefined) handles.set(id, (handles.get(id) ?? 0) + 1);
      }
      const affinity = `/host/node-1/ipv${block.cidr.family}/block/${key.split('/').at(-1)}`;
      if (!list('/ipam/v2/host/').some(one => one.endsWith(affinity))) found.push(`no affinity for ${key}`);
    }
    compare('allocation', [...handles.keys()], [...wanted, ...reserved]);
    for (const key of list('/handle/')) {
      const counts = Object.values(parseHandle(dump[key] ?? ''));
      if (counts.join() !== '1') found.push(`${key} counts ${counts.join()}`);
    }
    if (inDocker.length === 0 && this.docker.networks.size === 0)
      compare(
        'pool',
        list('/ippools/').filter(key => !key.includes('default-')),
        [],
      );
    return found;
  }

  async settled(): Promise<void> {
    await expect.poll(() => this.disagreements(), { timeout: 15_000, interval: 50 }).toEqual([]);
  }

  async end(): Promise<void> {
    this.services?.stop();
    this.life.end();
    await this.docker.stop();
  }
}

/** Everything that writes, in one day of a host. */
async function day({ dockerd }: World, until = Infinity): Promise<void> {
  const steps = [
    () =>
      dockerd.createNetwork(NET_A, {
        subnet: '192.0.2.0/24',
        subnet6: 'fd80:1::/64',
        gateway: '192.0.2.1',
        aux: '192.0.2.2',
      }),
    () =>
      dockerd.createNetwork(NET_B, {
        subnet: '198.51.100.0/24',
        gateway: '198.51.100.1',
        aux: '198.51.100.1',
      }),
    () => dockerd.start('web', { network: NET_A, mac: '02:42:00:00:00:01', port: 80 }),
    () => dockerd.start('fix', { network: NET_A, mac: '02:42:00:00:00:02', ip: '192.0.2.9' }),
    () => dockerd.start('bad', { network: NET_A, mac: '02:42:00:00:00:03', ip: '192.0.2.9' }),
    () => dockerd.stop('web'),
    () => dockerd.start('web', { network: NET_A, mac: '02:42:00:00:00:04' }),
    () => dockerd.stop('fix'),
    () => dockerd.start('fix', { network: NET_A, mac: '02:42:00:00:00:02', ip: '192.0.2.9' }),
    () => dockerd.stop('fix'),
    () => dockerd.stop('web'),
    () => dockerd.removeNetwork(NET_A),
  ];
  for (const step of steps.slice(0, until)) await step();
}

/** How many effects a day has; it differs a little from day to day, as work in the background does. */
async function effectsOfADay(): Promise<number> {
  const world = new World();
  await world.begin(Infinity);
  await day(world);
  await world.settled();
  await world.end();
  return world.life.count;
}

async function forAll(numbers: readonly number[], work: (n: number) => Promise<void>): Promise<void> {
  const left = [...numbers];
  await Promise.all(
    Array.from({ length: WIDTH }, async () => {
      for (let n = left.shift(); n !== undefined; n = left.shift()) await work(n);
    }),
  );
}

describe('a daemon that dies between any two effects', { timeout: 300_000 }, () => {
  it('leaves nothing and shares nothing, at the end of the day', async () => {
    const count = await effectsOfADay();
    expect(count).toBeGreaterThan(80);
    let deaths = 0;
    await forAll(
      Array.from({ length: count }, (_, index) => index + 1),
      async diesAt => {
        const world = new World();
        await world.begin(diesAt);
        await day(world);
        await world.settled().catch((error: unknown) => {
          throw new Error(
            `death at effect ${diesAt} of ${count}: ${String(error)}\n${world.disagreements().join('\n')}`,
          );
        });
        deaths += world.deaths;
        await world.end();
      },
    );
    console.log(`${count} effects, ${deaths} deaths, nothing left`);
    expect(deaths).toBeGreaterThan(count * 0.8);
  });

  it('keeps what runs, and loses what dockerd loses with it', async () => {
    const count = await effectsOfADay();
    await forAll(
      Array.from({ length: Math.ceil(count / 3) }, (_, index) => 1 + index * 3),
      async diesAt => {
        const world = new World();
        await world.begin(diesAt);
        // Up to where both containers run.
        await day(world, 9);
        await world.settled().catch((error: unknown) => {
          throw new Error(`death at effect ${diesAt}: ${String(error)}\n${world.disagreements().join('\n')}`);
        });
        world.dockerd.crash();
        await world.settled().catch((error: unknown) => {
          throw new Error(
            `dockerd's crash after death at ${diesAt}: ${world.disagreements().join('\n')} ${String(error)}`,
          );
        });
        // Every stopped one starts again, with its address.
        const fix = { network: NET_A, mac: '02:42:00:00:00:02', ip: '192.0.2.9' };
        if (world.docker.networks.has(NET_A)) {
          const isUp = await world.dockerd.start('fix', fix);
          await world.settled();
          // The daemon may die only now.
          if (!isUp) expect(await world.dockerd.start('fix', fix), `death at ${diesAt}`).toBe(true);
        }
        await world.end();
      },
    );
  });
});
