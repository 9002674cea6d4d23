import type { Config } from '../config.js';
import { etcdOptions } from '../datastore-options.js';
import { findRunningEmbedded } from '../datastore/embedded-state.js';
import { createEtcdStore } from '../datastore/etcd.js';
import type { Store } from '../datastore/store.js';
import { DatastoreError } from '../errors.js';
import { createLogger } from '../log.js';

/**
 * The datastore of a command: the one that the daemon uses with the same settings. Where `ETCD_ENDPOINTS` is unset that
 * is the embedded etcd, which must run already: a command starts none. Connects with the first call; no round trip.
 *
 * @throws DatastoreError where no embedded etcd runs; RequestError for settings that can never work
 */
export function openDatastore(config: Config): Store {
  // What happens on the way to etcd is in the error; lines of log do not belong between those of a command.
  return createEtcdStore(etcdOptions(config, embeddedUrl(config)), createLogger('silent'));
}

/** Runs `work` with the datastore and closes it, whatever happens. Throws as {@link openDatastore} and `work` do. */
export async function withDatastore<T>(config: Config, work: (store: Store) => Promise<T>): Promise<T> {
  const store = openDatastore(config);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

function embeddedUrl(config: Config): string | undefined {
  if (config.etcdEndpoints) return undefined;
  const url = findRunningEmbedded(config.stateDir)?.clientUrls[0];
  if (url === undefined)
    throw new DatastoreError(
      `ETCD_ENDPOINTS is not set, and no etcd of the daemon's runs on this host (looked in ${config.stateDir}): start the daemon, or set what it has in its environment`,
    );
  return url;
}
