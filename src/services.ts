import type { Logger } from 'pino';
import { hostState } from './agent/host-state.js';
import { keepApplied } from './agent/keep-applied.js';
import type { Config } from './config.js';
import type { Store } from './datastore/store.js';
import { withDeadline } from './deadline.js';
import { DockerEngine } from './docker/engine.js';
import { NetworkNames } from './docker/network-names.js';
import { reason } from './errors.js';
import type { Dataplane } from './host/dataplane.js';
import { Allocator } from './ipam/allocator.js';
import { parseCidr } from './ipam/cidr.js';
import { choosePool } from './ipam/default-pool.js';
import { IpamFacts } from './ipam/facts.js';
import { PoolLifecycle } from './ipam/pool-lifecycle.js';
import { KeyedLock } from './keyed-lock.js';
import { Endpoints } from './plugin/endpoints.js';
import { ipamDriver, isDefaultSubnet } from './plugin/ipam-driver.js';
import { networkDriver, wiringOf } from './plugin/network-driver.js';
import { Networks } from './plugin/networks.js';
import type { Methods } from './plugin/protocol.js';
import { RequestLoop } from './plugin/request-loop.js';

const DEFAULT_POOL_RETRY = 2_000;

/** Everything between the sockets and the outside. */
export interface Services {
  readonly methods: { readonly network: Methods; readonly ipam: Methods };
  /** Begins to follow Docker and to keep the host up to date; returns at once. */
  start(): void;
  /** Ends what `start` began. Store and dataplane stay open. */
  stop(): void;
}

/** Puts the drivers together on a datastore and a dataplane, whichever they are. */
export function createServices(config: Config, store: Store, dataplane: Dataplane, log: Logger): Services {
  const node = config.nodeName;
  const facts = new IpamFacts(store, node, log.child({ module: 'facts' }));
  const pools = new PoolLifecycle(store, facts, config, log.child({ module: 'pools' }));
  const networks = new Networks(store, facts, pools, log.child({ module: 'networks' }));
  const endpoints = new Endpoints(store, node, config, log.child({ module: 'endpoints' }));
  const names = new NetworkNames(new DockerEngine(config.dockerHost), log.child({ module: 'docker' }), {
    named: (id, name) => void networks.name(id, name),
    dockerStarted: () => void dataplane.dockerStarted(),
  });
  const host = keepApplied(
    'routes and NAT',
    () => dataplane.apply(hostState(facts.allPools(), facts.confirmedBlocks())),
    log.child({ module: 'host' }),
  );
  const ensureDefaultPools = () => defaultPools(config, facts, pools, dataplane);
  const loop = new RequestLoop();
  const allocator = new Allocator(store, facts, log.child({ module: 'ipam' }));
  const ipam = ipamDriver({
    allocator,
    facts,
    pools,
    loop,
    ensureDefaultPools,
    isNeeded: pool => networks.isNeeded(pool),
  });
  const network = networkDriver({
    node,
    scope: config.scope,
    interfacePrefix: config.interfacePrefix,
    mtu: config.vethMtu,
    networks,
    endpoints,
    dataplane,
    loop,
    perEndpoint: new KeyedLock(),
    networkName: id => names.get(id),
    isDefaultSubnet: subnet => isDefaultSubnet(subnet, facts),
  });

  const whenDatastoreAnswers = async (): Promise<void> => {
    await Promise.all([facts.whenRead(), networks.ready, endpoints.ready]);
    facts.onChange(host.changed);
    host.changed();
    await untilDone(ensureDefaultPools, log);
    const mtu = config.vethMtu ?? (await dataplane.defaultMtu());
    const repaired = await dataplane.repair(endpoints.all().map(endpoint => wiringOf(endpoint, mtu)));
    if (repaired.length > 0)
      log.info({ repaired }, 'put back what endpoints had lost while the daemon was away');
  };

  return {
    methods: { network, ipam },
    start() {
      void names.follow();
      whenDatastoreAnswers().catch((error: unknown) =>
        log.error({ reason: reason(error) }, 'start is incomplete'),
      );
    },
    stop() {
      names.close();
      host.stop();
      for (const part of [facts, networks, endpoints]) part.close();
    },
  };
}

async function defaultPools(
  config: Config,
  facts: IpamFacts,
  pools: PoolLifecycle,
  dataplane: Dataplane,
): Promise<void> {
  const routes = (await dataplane.foreignRoutes()).flatMap(text => parseCidr(text) ?? []);
  const others = [...routes, ...facts.allPools().map(pool => pool.cidr)];
  const { ipv4PoolCidr, ipv6PoolCidr } = config;
  const cidr = ipv4PoolCidr && choosePool(ipv4PoolCidr, others);
  if (cidr) await pools.ensureDefault(cidr);
  if (ipv6PoolCidr) await pools.ensureDefault(ipv6PoolCidr);
}

async function untilDone(work: () => Promise<void>, log: Logger): Promise<void> {
  for (;;) {
    try {
      return await withDeadline(30_000, work);
    } catch (error) {
      log.error({ reason: reason(error) }, 'cannot make the default pools; trying again');
      await new Promise(resolve => setTimeout(resolve, DEFAULT_POOL_RETRY).unref());
    }
  }
}
