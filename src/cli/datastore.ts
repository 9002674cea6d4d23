import type { Config } from '../config.js';
import { runningEtcdOptions } from '../datastore-options.js';
import type { EtcdOptions } from '../datastore/etcd-options.js';
import { createEtcdStore } from '../datastore/etcd.js';
import type { Store } from '../datastore/store.js';
import { DatastoreError, reason } from '../errors.js';
import { createLogger } from '../log.js';

/**
 * The datastore of a command: the one that the daemon uses with the same settings. Connects with the first call; no round
 * trip.
 *
 * @throws DatastoreError where no embedded etcd runs; RequestError for settings that can never work
 */
export function openDatastore(config: Config): Store {
  // What happens on the way to etcd is in the error; lines of log do not belong between those of a command.
  return createEtcdStore(options(config), createLogger('silent'));
}

function options(config: Config): EtcdOptions {
  try {
    return runningEtcdOptions(config);
  } catch (error) {
    throw new DatastoreError(`${reason(error)}: start the daemon, or set what it has in its environment`);
  }
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
