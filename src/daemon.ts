import { basename } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { hostId } from './agent/host-id.js';
import { Presence } from './agent/presence.js';
import type { Config } from './config.js';
import { etcdOptions } from './datastore-options.js';
import { startEmbedded } from './datastore/embedded.js';
import { createEtcdStore } from './datastore/etcd.js';
import type { Dataplane } from './host/dataplane.js';
import { createFelixDataplane } from './host/felix.js';
import { createLinuxDataplane } from './host/linux.js';
import { CALL_DEADLINE, createPluginApp } from './plugin/app.js';
import { NO_METRICS } from './metrics/metrics.js';
import type { Metrics } from './metrics/metrics.js';
import type { Observation, startObservation } from './metrics/observation.js';
import { handedSockets } from './plugin/handed-sockets.js';
import { assertUnused, listenOnHanded, listenOnSocket, stopServing } from './plugin/socket.js';
import { createServices } from './services.js';
import type { Services } from './services.js';
import type { Environment } from './setting-kinds.js';

/** Milliseconds that calls in flight get at the end: as long as a call may take. */
const FINISH = CALL_DEADLINE + 1_500;

export interface Daemon {
  /** Finishes calls in flight, removes the sockets, leaves containers and the host as they are. */
  stop(): Promise<void>;
}

/**
 * Puts the parts together and starts them. The sockets answer before the datastore does: dockerd asks for
 * capabilities at any time, and never again if that fails once. `env`: where a service manager says what it hands over.
 */
export async function startDaemon(
  config: Config,
  version: string,
  log: Logger,
  env: Environment,
): Promise<Daemon> {
  const sockets = [`${config.socketDir}/calico.sock`, `${config.socketDir}/calico-ipam.sock`];
  const handed = handedSockets(
    env,
    sockets.map(socket => basename(socket)),
  );
  // Before anything is touched: a second daemon on this host must not disturb the first.
  for (const socket of sockets) if (!handed.has(basename(socket))) await assertUnused(socket);

  const closing: (() => Promise<void> | void)[] = [];
  const close = async (): Promise<void> => {
    for (const end of closing.splice(0).reverse()) await end();
  };
  try {
    const observation = config.metricsAddress
      ? await observe(
          config.metricsAddress,
          { node: config.nodeName, version },
          log.child({ module: 'metrics' }),
        )
      : undefined;
    if (observation) closing.push(() => observation.close());
    const embedded = config.etcdEndpoints
      ? undefined
      : await startEmbedded(embeddedOptions(config), log.child({ module: 'etcd' }));
    if (embedded) closing.push(() => embedded.stop());
    const etcd = createEtcdStore(
      etcdOptions(config, embedded?.clientUrl),
      log.child({ module: 'datastore' }),
    );
    const store = observation ? observation.measure(etcd) : etcd;
    closing.push(() => store.close());
    const dataplane = createDataplane(config, log.child({ module: 'host' }));
    closing.push(() => dataplane.close());
    const self = { node: config.nodeName, id: hostId(config.stateDir), version };
    const presence = new Presence(store, self, log.child({ module: 'presence' }));
    closing.push(() => presence.close());
    const guarded = presence.guard(store);
    const services = createServices(config, guarded, dataplane, log, presence, observation?.metrics);
    closing.push(() => services.stop());
    const { network, ipam } = services.methods;
    const methods = { network: presence.gate(network), ipam: presence.gate(ipam) };
    const apps = await listen(sockets, methods, log, { handed, metrics: observation?.metrics });
    closing.push(() => closeAll(apps));
    log.info(
      {
        sockets,
        ...(handed.size > 0 ? { handedOver: handed.size } : {}),
        node: config.nodeName,
        etcd: embedded?.clientUrl ?? config.etcdEndpoints,
      },
      'serving Docker',
    );
    services.start();
    observation?.follow(services, etcd);
    closing.push(() => observation?.ending());
  } catch (error) {
    await close();
    throw error;
  }
  return {
    async stop() {
      await close();
      log.info('stopped');
    },
  };
}

/** Code and cost of it all only where somebody wants it. */
async function observe(...args: Parameters<typeof startObservation>): Promise<Observation> {
  return (await import('./metrics/observation.js')).startObservation(...args);
}

/** Lets calls in flight finish. */
async function closeAll(apps: readonly FastifyInstance[]): Promise<void> {
  await Promise.all(apps.map(app => stopServing(app, FINISH)));
}

interface Listening {
  /** Sockets that listen already, by file name. */
  readonly handed?: ReadonlyMap<string, number>;
  readonly metrics?: Metrics | undefined;
}

/** Two plugins of Docker's: `calico` is both drivers, so that either use of it registers both; `calico-ipam` is the
 *  name people know for the second. */
export async function listen(
  sockets: readonly string[],
  methods: Services['methods'],
  log: Logger,
  { handed, metrics = NO_METRICS }: Listening = {},
): Promise<FastifyInstance[]> {
  const plugins = [
    { implements: ['NetworkDriver', 'IpamDriver'], methods: { ...methods.network, ...methods.ipam } },
    { implements: ['IpamDriver'], methods: methods.ipam },
  ];
  const apps: FastifyInstance[] = [];
  for (const [index, plugin] of plugins.entries()) {
    const activate = { 'Plugin.Activate': () => ({ Implements: plugin.implements }) };
    const app = createPluginApp({ ...activate, ...plugin.methods }, log.child({ module: 'plugin' }), metrics);
    apps.push(app);
    const path = sockets[index] ?? '';
    const fd = handed?.get(basename(path));
    await (fd === undefined ? listenOnSocket(app, path) : listenOnHanded(app, fd)).catch(
      async (error: unknown) => {
        await closeAll(apps);
        throw error;
      },
    );
  }
  return apps;
}

function createDataplane(config: Config, log: Logger): Dataplane {
  return config.dataplane === 'felix' ? createFelixDataplane({}, log) : createLinuxDataplane({}, log);
}

function embeddedOptions(config: Config) {
  return {
    dataDir: `${config.stateDir}/etcd`,
    clientPort: config.embeddedPort,
    listen: config.embeddedListen,
    caFile: config.etcdCaFile,
    certFile: config.etcdCertFile,
    keyFile: config.etcdKeyFile,
  };
}
