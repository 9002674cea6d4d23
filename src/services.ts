import type { Logger } from 'pino';
import { hostState } from './agent/host-state.js';
import { keepApplied } from './agent/keep-applied.js';
import { NodeRegistration } from './agent/node-registration.js';
import { NodeWriter } from './agent/node-writer.js';
import { Observer } from './agent/observe.js';
import { OtherHosts, mirrorOfNodes } from './agent/other-hosts.js';
import { Reconciler } from './agent/reconciler.js';
import { carryOut } from './agent/repairs.js';
import { TunnelAddresses } from './agent/tunnel-addresses.js';
import type { Config } from './config.js';
import type { Store } from './datastore/store.js';
import { withDeadline } from './deadline.js';
import { ContainerLabels } from './docker/container-labels.js';
import { DockerEngine } from './docker/engine.js';
import type { DockerEvent } from './docker/engine.js';
import { followDocker } from './docker/follow.js';
import { NetworkNames } from './docker/network-names.js';
import { reason, RequestError } from './errors.js';
import type { Dataplane } from './host/dataplane.js';
import { encapsulatedMtu } from './host/peers.js';
import { PortReservations } from './host/port-reservations.js';
import { Allocator } from './ipam/allocator.js';
import { parseAddress, parseCidr } from './ipam/cidr.js';
import { choosePool } from './ipam/default-pool.js';
import { IpamFacts } from './ipam/facts.js';
import { PoolLifecycle } from './ipam/pool-lifecycle.js';
import { KeyedLock } from './keyed-lock.js';
import { NetworkCreations } from './plugin/creations.js';
import { removeEndpoint } from './plugin/endpoint-removal.js';
import { Endpoints } from './plugin/endpoints.js';
import { ipamDriver } from './plugin/ipam-driver.js';
import { Joiner } from './plugin/joiner.js';
import { networkDriver } from './plugin/network-driver.js';
import { Networks } from './plugin/networks.js';
import { PoolRequests } from './plugin/pool-requests.js';
import { PortPublisher } from './plugin/port-publisher.js';
import { SaidGone } from './plugin/said-gone.js';
import type { Methods } from './plugin/protocol.js';

/** Milliseconds between tries to make the default pools. */
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
  const logOf = (module: string) => log.child({ module });
  const node = config.nodeName;
  const facts = new IpamFacts(store, node, logOf('facts'));
  const pools = new PoolLifecycle(store, facts, config, () => dataplane.foreignRoutes(), logOf('pools'));
  const isGlobal = config.scope === 'global';
  const networks = new Networks(store, facts, pools, isGlobal, logOf('networks'));
  const endpoints = new Endpoints(store, node, config, logOf('endpoints'));
  const stateNow = () =>
    hostState({
      node,
      pools: facts.allPools(),
      ownBlocks: facts.confirmedBlocks(),
      endpoints: endpoints.all(),
      internal: networks.internal(),
    });
  let applied = '';
  const host = keepApplied(
    'routes, NAT and ports',
    async () => {
      const state = stateNow();
      const text = JSON.stringify(state);
      // Most changes of the datastore change nothing here: an endpoint comes and goes without a port.
      if (text === applied) return;
      await dataplane.apply(state);
      applied = text;
    },
    logOf('host'),
  );
  const reservations = new PortReservations();
  const ports = new PortPublisher(endpoints, reservations, host.applyNow, logOf('ports'));
  const joiner = new Joiner({
    endpoints,
    dataplane,
    facts,
    interfacePrefix: config.interfacePrefix,
    mtu: config.vethMtu,
    pathMtu: (address, hostMtu) => {
      const parsed = parseAddress(address);
      const pool = parsed && facts.poolOf(parsed);
      return pool && pool.vxlanMode !== 'Never'
        ? encapsulatedMtu(peers, pool.cidr.family, hostMtu)
        : undefined;
    },
    applyHostState: host.applyNow,
    log: logOf('endpoints'),
  });
  const { peers } = dataplane;
  const nodes = mirrorOfNodes(store, logOf('nodes'));
  const others = new OtherHosts(store, { node, pools: facts.pools, nodes, peers, log: logOf('routing') });
  const writer = new NodeWriter(store, node, nodes);
  const registration = new NodeRegistration({
    ...{ writer, nodes, host: peers, log: logOf('node') },
    source: { 4: config.ip, 6: config.ip6 },
    method: { 4: config.ipDetection, 6: config.ip6Detection },
  });
  const engine = new DockerEngine(config.dockerHost);
  const names = new NetworkNames((id, name) => {
    void networks.name(id, name);
    endpoints.setMissingProfiles(profileOf);
  });
  const profileOf = (networkId: string) => {
    const record = networks.known(networkId);
    return record?.options.profile ?? names.get(networkId) ?? record?.name;
  };
  const labels = config.labelEndpoints ? new ContainerLabels(engine, endpoints, logOf('labels')) : undefined;
  const requests = new PoolRequests();
  const saidGone = new SaidGone();
  const creations = new NetworkCreations();
  const ensureDefaultPools = () => defaultPools(config, facts, pools, dataplane);
  const allocator = new Allocator(store, facts, isGlobal, logOf('ipam'));
  const tunnels = new TunnelAddresses({
    ...{ store, node, facts, allocator, writer, log: logOf('node') },
    onNodeChange: changed => nodes.onEntries(keys => keys.has(writer.key) && changed()),
  });
  const removal = { endpoints, dataplane, joiner, ports, perEndpoint: new KeyedLock() };
  const ipam = ipamDriver({
    allocator,
    facts,
    pools,
    requests,
    ensureDefaultPools,
    isNeeded: pool => networks.isNeeded(pool),
    addressGone: async address => {
      const gone = await endpoints.dropAddress(address);
      if (gone) await removeEndpoint(removal, gone.endpointId);
    },
    furtherRanges: subnet => networks.furtherRanges(subnet),
    creations,
    saidGone,
    hasNetwork: subnet => networks.hasSubnet(subnet),
    hasEndpoint: address => endpoints.own().some(({ addresses }) => addresses.includes(address)),
    log: logOf('ipam'),
  });
  const network = networkDriver({
    ...removal,
    node,
    scope: config.scope,
    networks,
    requests,
    creations,
    saidGone,
    profileOf,
  });
  const observer = new Observer({
    store,
    engine,
    facts,
    networks,
    endpoints,
    allocator,
    dataplane,
    saidGone,
    isGlobal,
  });
  const repairs = { ...removal, node, allocator, networks, pools, profileOf };
  const repairWires = async () =>
    dataplane.repair(await joiner.restore(endpoints.own(), id => networks.known(id)));
  const reconciler = new Reconciler({
    observe: async () => {
      await repairWires();
      return observer.observe();
    },
    carryOut: (repair, observed) => carryOut(repairs, repair, observed),
    dryRun: config.reconcile === 'report',
    interval: config.reconcileInterval,
    grace: config.gcGrace,
    now: () => performance.now(),
    log: logOf('reconciler'),
  });

  const whenDatastoreAnswers = async (): Promise<void> => {
    await Promise.all([facts.whenRead(), networks.ready, endpoints.ready]);
    for (const source of [facts, networks, endpoints]) source.onChange(host.changed);
    const repaired = await repairWires();
    if (repaired.length > 0)
      log.info({ repaired }, 'put back what endpoints had lost while the daemon was away');
    await ports.restore(endpoints.own());
    host.changed();
    endpoints.setMissingProfiles(profileOf);
    await untilDone(ensureDefaultPools, log);
    // Docker may have been asked before there were endpoints to put its labels on.
    await labels?.copyAll().catch(() => undefined);
    reconciler.happened();
  };
  const dockerConnected = (): void => {
    void dataplane.dockerStarted();
    reconciler.dockerConnected();
    engine
      .networks()
      .then(found => names.learnAll(found))
      .then(() => labels?.copyAll())
      .catch((error: unknown) => log.warn({ reason: reason(error) }, 'cannot list what Docker has'));
  };
  const dockerSaid = ({ action, id, attributes }: DockerEvent): void => {
    if (action === 'create') names.learn(id, attributes.name ?? '');
    if (action === 'destroy') names.forget(id);
    if (action === 'connect' && networks.known(id)) labels?.connected(attributes.container ?? '', id);
    else reconciler.happened();
  };
  let unfollow = (): void => undefined;

  return {
    methods: { network, ipam },
    start() {
      unfollow = followDocker(
        engine,
        { connected: dockerConnected, lost: () => reconciler.dockerLost(), event: dockerSaid },
        logOf('docker'),
      );
      registration.start();
      if (config.dataplane === 'native') for (const part of [others, tunnels]) part.start();
      whenDatastoreAnswers().catch((error: unknown) =>
        log.error({ reason: reason(error) }, 'start is incomplete'),
      );
    },
    stop() {
      unfollow();
      host.stop();
      reconciler.stop();
      for (const part of [registration, tunnels, others, nodes, facts, networks, endpoints, reservations])
        part.close();
    },
  };
}

async function defaultPools(
  config: Config,
  facts: IpamFacts,
  pools: PoolLifecycle,
  dataplane: Dataplane,
): Promise<void> {
  const routes = (await dataplane.foreignRoutes()).flatMap(({ cidr }) => parseCidr(cidr) ?? []);
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
      // Nothing that time would change; a network without --subnet will say so again.
      if (error instanceof RequestError)
        return log.error({ reason: error.message }, 'cannot make the default pools');
      log.error({ reason: reason(error) }, 'cannot make the default pools; trying again');
      await new Promise(resolve => setTimeout(resolve, DEFAULT_POOL_RETRY).unref());
    }
  }
}
