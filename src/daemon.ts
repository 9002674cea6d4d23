import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Config } from './config.js';
import { startEmbedded } from './datastore/embedded.js';
import { createEtcdStore } from './datastore/etcd.js';
import type { Dataplane } from './host/dataplane.js';
import { createFelixDataplane } from './host/felix.js';
import { createLinuxDataplane } from './host/linux.js';
import { createPluginApp } from './plugin/app.js';
import { assertUnused, listenOnSocket } from './plugin/socket.js';
import { createServices } from './services.js';
import type { Services } from './services.js';

/** Milliseconds that calls in flight get at the end. */
const FINISH = 5_000;

export interface Daemon {
  /** Finishes calls in flight, removes the sockets, leaves containers and the host as they are. */
  stop(): Promise<void>;
}

/**
 * Puts the parts together and starts them. The sockets answer before the datastore does: dockerd asks for
 * capabilities at any time, and never again if that fails once.
 */
export async function startDaemon(config: Config, log: Logger): Promise<Daemon> {
  const sockets = [`${config.socketDir}/calico.sock`, `${config.socketDir}/calico-ipam.sock`];
  // Before anything is touched: a second daemon on this host must not disturb the first.
  for (const socket of sockets) await assertUnused(socket);

  const embedded = config.etcdEndpoints
    ? undefined
    : await startEmbedded(embeddedOptions(config), log.child({ module: 'etcd' }));
  const store = createEtcdStore(
    embedded ? { endpoints: [embedded.clientUrl] } : etcdOptions(config),
    log.child({ module: 'datastore' }),
  );
  const dataplane = createDataplane(config, log.child({ module: 'host' }));
  const services = createServices(config, store, dataplane, log);
  const close = async (): Promise<void> => {
    services.stop();
    await dataplane.close();
    await store.close();
    await embedded?.stop();
  };
  const apps = await listen(sockets, services.methods, log).catch(async (error: unknown) => {
    await close();
    throw error;
  });
  log.info(
    { sockets, node: config.nodeName, etcd: embedded?.clientUrl ?? config.etcdEndpoints },
    'serving Docker',
  );
  services.start();

  return {
    async stop() {
      await Promise.race([
        Promise.all(apps.map(app => app.close())),
        new Promise(resolve => setTimeout(resolve, FINISH).unref()),
      ]);
      await close();
      log.info('stopped');
    },
  };
}

/** Two plugins of Docker's: `calico` is both drivers, so that either use of it registers both; `calico-ipam` is the
 *  name people know for the second. */
export async function listen(
  sockets: readonly string[],
  methods: Services['methods'],
  log: Logger,
): Promise<FastifyInstance[]> {
  const plugins = [
    { implements: ['NetworkDriver', 'IpamDriver'], methods: { ...methods.network, ...methods.ipam } },
    { implements: ['IpamDriver'], methods: methods.ipam },
  ];
  const apps: FastifyInstance[] = [];
  for (const [index, plugin] of plugins.entries()) {
    const activate = { 'Plugin.Activate': () => ({ Implements: plugin.implements }) };
    const app = createPluginApp({ ...activate, ...plugin.methods }, log.child({ module: 'plugin' }));
    await listenOnSocket(app, sockets[index] ?? '');
    apps.push(app);
  }
  return apps;
}

function createDataplane(config: Config, log: Logger): Dataplane {
  return config.dataplane === 'felix' ? createFelixDataplane({}, log) : createLinuxDataplane({}, log);
}

function etcdOptions(config: Config) {
  return {
    endpoints: config.etcdEndpoints ?? [],
    caFile: config.etcdCaFile,
    certFile: config.etcdCertFile,
    keyFile: config.etcdKeyFile,
    username: config.etcdUsername,
    password: config.etcdPassword,
  };
}

function embeddedOptions(config: Config) {
  return {
    dataDir: `${config.stateDir}/etcd`,
    clientPort: config.embeddedPort,
    listen: config.embeddedListen,
    caFile: config.etcdCaFile,
    certFile: config.etcdCertFile,
    keyFile: config.etcdKeyFile,
    hasUsers: config.etcdUsername !== undefined,
  };
}
