import type { Logger } from 'pino';
import { makeDefaultPools, untilMade } from './agent/default-pools.js';
import { hostState } from './agent/host-state.js';
import { keepApplied } from './agent/keep-applied.js';
import { Observer } from './agent/observe.js';
import { PolicyKeeper } from './agent/policy.js';
import type { Presence } from './agent/presence.js';
import { Reconciler } from './agent/reconciler.js';
import { carryOut } from './agent/repairs.js';
import { makeStandardTiers } from './agent/standard-tiers.js';
import { SharedNetworks } from './agent/shared-networks.js';
import { NetworkSync } from './agent/sync-networks.js';
import { createCluster, pathMtu } from './cluster.js';
import type { Config } from './config.js';
import type { Store } from './datastore/store.js';
import { inTime } from './deadline.js';
import { ContainerLabels } from './docker/container-labels.js';
import { DockerEngine } from './docker/engine.js';
import type { DockerEvent } from './docker/engine.js';
import { followDocker } from './docker/follow.js';
import { NetworkNames } from './docker/network-names.js';
import { ConflictError, reason } from './errors.js';
import type { Dataplane } from './host/dataplane.js';
import { PortReservations } from './host/port-reservations.js';
import { Allocator } from './ipam/allocator.js';
import { cidrOf, formatCidr, parseAddress } from './ipam/cidr.js';
import { formatHandle } from './model/block.js';
import { IpamFacts } from './ipam/facts.js';
import { PoolLifecycle } from './ipam/pool-lifecycle.js';
import { KeyedLock } from './keyed-lock.js';
import { measuredApply, NO_METRICS } from './metrics/metrics.js';
import type { HostFigures, Metrics } from './metrics/metrics.js';
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

/** Milliseconds that a look at Docker waits for the name of this host to be its own. */
const NAME_PATIENCE = 10_000;

/** Everything between the sockets and the outside. */
export interface Services {
  readonly methods: { readonly network: Methods; readonly ipam: Methods };
  /** Begins to follow Docker and to keep the host up to date; returns at once. */
  start(): void;
  /** Ends what `start` began. Store and dataplane stay open. */
  stop(): void;
  /** For whoever measures. */
  readonly figures: HostFigures;
  /** What keeps it from its work, in words; empty where nothing does. */
  waitingFor(): readonly string[];
}

/**
 * Puts the drivers together on a datastore and a dataplane, whichever they are. Nothing is done to the host by
 * what the datastore says of its `name` before that is its own, nor while another live host has it (`presence.ts`).
 */
export function createServices(
  config: Config,
  store: Store,
  dataplane: Dataplane,
  log: Logger,
  name: Pick<Presence, 'ours' | 'check'> = { ours: Promise.resolve(), check: () => undefined },
  metrics: Metrics = NO_METRICS,
): Services {
  const logOf = (module: string) => log.child({ module });
  const node = config.nodeName;
  const facts = new IpamFacts(store, node, logOf('facts'));
  const pools = new PoolLifecycle(store, facts, config, () => dataplane.foreignRoutes(), logOf('pools'));
  const isGlobal = config.scope === 'global';
  const isNative = config.dataplane === 'native';
  const networks = new Networks(store, facts, pools, isGlobal, logOf('networks'));
  const newHandle = (text: string): string => {
    const address = parseAddress(text);
    const pool = address && facts.poolOf(address);
    return formatHandle(address && pool ? { [formatCidr(cidrOf(address, pool.blockSize))]: 1 } : {});
  };
  const { createProfiles } = config;
  const endpoints = new Endpoints(store, node, { createProfiles, newHandle }, logOf('endpoints'));
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
    measuredApply(metrics, 'host', async () => {
      const state = stateNow();
      const text = JSON.stringify(state);
      // Most changes of the datastore change nothing here: an endpoint comes and goes without a port.
      if (text === applied) return;
      await dataplane.apply(state);
      applied = text;
    }),
    logOf('host'),
  );
  const reservations = new PortReservations();
  const ports = new PortPublisher(endpoints, reservations, host.applyNow, logOf('ports'));
  const engine = new DockerEngine(config.dockerHost);
  const labels = config.labelEndpoints
    ? new ContainerLabels(engine, endpoints, logOf('labels'), {
        isAwaited: () => policy?.gate.isAwaited() === true,
        read: id => policy?.gate.read(id),
        failed: (id, why) => policy?.gate.failed(id, why),
        known: id => policy?.gate.known(id),
      })
    : undefined;
  const joiner: Joiner = new Joiner({
    endpoints,
    dataplane,
    facts,
    interfacePrefix: config.interfacePrefix,
    mtu: config.vethMtu,
    pathMtu: (address, hostMtu) => pathMtu(facts, dataplane.peers, address, hostMtu),
    applyHostState: host.applyNow,
    enforcePolicy: async (id, sandbox) => policy?.enforce(id, () => labels?.joined(id, sandbox)),
    left: id => policy?.left(id),
    log: logOf('endpoints'),
  });
  // Felix follows the same resources by itself.
  const policy: PolicyKeeper | undefined = isNative
    ? new PolicyKeeper({
        ...{ store, node, endpoints, dataplane, metrics, hostAction: config.hostAction },
        nameIsOurs: name.ours,
        labelsCopied: labels?.copied,
        sandboxOf: id => joiner.sandboxOf(id),
        log: logOf('policy'),
      })
    : undefined;
  const names = new NetworkNames((id, name) => {
    void networks.name(id, name);
    endpoints.setMissingProfiles(profileOf);
  });
  const profileOf = (networkId: string) => {
    const record = networks.known(networkId);
    return record?.options.profile ?? names.get(networkId) ?? record?.name;
  };
  const requests = new PoolRequests();
  const saidGone = new SaidGone();
  const creations = new NetworkCreations();
  const ensureDefaultPools = () => makeDefaultPools(config, facts, pools, dataplane);
  const allocator = new Allocator(
    store,
    facts,
    { isGlobal, isRouted: address => dataplane.routedTo(address) !== undefined },
    logOf('ipam'),
  );
  const cluster = createCluster({ config, store, facts, allocator, dataplane, metrics, log });
  const removal = { endpoints, dataplane, joiner, ports, perEndpoint: new KeyedLock() };
  const isUsed = async (hostInterface: string): Promise<boolean> =>
    (await dataplane.hostInterfaces()).some(({ name, isInUse }) => isInUse && name === hostInterface);
  const ipam = ipamDriver({
    allocator,
    facts,
    pools,
    requests,
    ensureDefaultPools,
    addressGone: async address => {
      const gone = await endpoints.dropAddress(address);
      if (gone === "another's") return false;
      if (gone)
        await removal.perEndpoint.run(gone.endpointId, () => removeEndpoint(removal, gone.endpointId));
      return true;
    },
    hasContainer: async address => {
      const name = dataplane.routedTo(address);
      return name !== undefined && (await isUsed(name));
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
    pools,
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
      await inTime(
        name.ours,
        NAME_PATIENCE,
        () => new ConflictError('whose name this host has is not known yet'),
      );
      name.check();
      if (config.reconcile === 'repair') await repairWires();
      return observer.observe();
    },
    carryOut: (repair, observed) => carryOut(repairs, repair, observed),
    dryRun: config.reconcile === 'report',
    interval: config.reconcileInterval,
    grace: config.gcGrace,
    now: () => performance.now(),
    metrics,
    log: logOf('reconciler'),
  });

  // An etcd that no other host can reach is shared with nobody.
  const isShared = config.syncNetworks && !isGlobal && (config.etcdEndpoints ?? config.embeddedListen);
  const sync = isShared
    ? new NetworkSync({
        ...{
          node,
          driver: config.driver,
          name,
          engine,
          networks,
          endpoints,
          interval: config.reconcileInterval,
          log: logOf('sync'),
        },
        shared: new SharedNetworks(store, node, logOf('sync')),
      })
    : undefined;

  const whenDatastoreAnswers = async (): Promise<void> => {
    await Promise.all([facts.whenRead(), networks.ready, endpoints.ready, name.ours]);
    for (const source of [facts, networks, endpoints]) source.onChange(host.changed);
    // Whatever of it fails, the reconciler tries again; the rest shall not wait for that.
    const repaired = await repairWires().catch((error: unknown) => [reason(error)]);
    if (repaired.length > 0)
      log.info({ repaired }, 'looked after what endpoints had lost while the daemon was away');
    await ports.restore(endpoints.own());
    host.changed();
    endpoints.setMissingProfiles(profileOf);
    await untilMade(() => makeStandardTiers(store), 'the standard tiers', log);
    await untilMade(ensureDefaultPools, 'the default pools', log);
    // Docker may have been asked before there were endpoints to put its labels on.
    await labels?.copyAll().catch(() => undefined);
    reconciler.happened();
  };
  const dockerConnected = (): void => {
    void dataplane.dockerStarted();
    // Another dockerd, perhaps: one that was killed may have lost what it had just made.
    networks.served.clear();
    reconciler.dockerConnected();
    sync?.dockerConnected();
    engine
      .networks()
      .then(found => names.learnAll(found))
      .then(() => labels?.copyAll())
      .catch((error: unknown) => log.warn({ reason: reason(error) }, 'cannot list what Docker has'));
  };
  const dockerLost = (): void => {
    reconciler.dockerLost();
    labels?.dockerLost();
    sync?.dockerLost();
  };
  const dockerSaid = (event: DockerEvent): void => {
    const { action, id, attributes } = event;
    sync?.happened(event);
    if (action === 'create') names.learn(id, attributes.name ?? '');
    if (action === 'destroy') names.forget(id);
    if (action === 'connect' && networks.known(id)) labels?.connected(attributes.container ?? '', id);
    if (action !== 'connect' && action !== 'create') reconciler.happened();
  };
  // What was put back by it may be gone in Docker, and the other way round.
  let isNameOurs = false;
  void name.ours.then(() => (isNameOurs = true));
  const waitingFor = (): string[] => {
    const sources = { 'pools and blocks': facts, networks, endpoints };
    const stale = Object.entries(sources).filter(([, { isCurrent }]) => !isCurrent);
    const missing = stale.map(([what]) => `the datastore is out of sight: ${what} may be old`);
    try {
      name.check();
      if (!isNameOurs) missing.push('whose name this host has is not known yet');
    } catch (error) {
      missing.push(reason(error));
    }
    return missing;
  };
  const unfollowRewinds = store.onRewind(() => reconciler.happened());
  let unfollow = (): void => undefined;

  return {
    methods: { network, ipam },
    figures: {
      routes: () => ({
        container: isNative ? endpoints.own().flatMap(({ addresses }) => addresses).length : 0,
        block: isNative ? facts.confirmedBlocks().length : 0,
        host: cluster.routes(),
      }),
      endpoints: () => endpoints.own().length,
      networks: () => networks.own().length,
      pools: () => facts.allPools(),
    },
    waitingFor,
    start() {
      unfollow = followDocker(
        engine,
        { connected: dockerConnected, lost: dockerLost, event: dockerSaid },
        logOf('docker'),
      );
      cluster.start();
      whenDatastoreAnswers().catch((error: unknown) =>
        log.error({ reason: reason(error) }, 'start is incomplete'),
      );
    },
    stop() {
      unfollow();
      unfollowRewinds();
      host.stop();
      policy?.close();
      reconciler.stop();
      sync?.close();
      cluster.close();
      for (const part of [facts, networks, endpoints, reservations]) part.close();
    },
  };
}
