import type { Config } from './config.js';
import { findRunningEmbedded } from './datastore/embedded-state.js';
import type { EtcdOptions } from './datastore/etcd-options.js';
import { DatastoreError } from './errors.js';

/**
 * How etcd is reached by the settings: `ETCD_ENDPOINTS` with its TLS files and user, else the embedded etcd.
 *
 * @param embeddedUrl client URL of the embedded etcd on loopback, where it is used
 */
export function etcdOptions(config: Config, embeddedUrl: string | undefined): EtcdOptions {
  const { etcdUsername: username, etcdPassword: password } = config;
  if (embeddedUrl !== undefined) return { endpoints: [embeddedUrl], username, password };
  return {
    endpoints: config.etcdEndpoints ?? [],
    caFile: config.etcdCaFile,
    certFile: config.etcdCertFile,
    keyFile: config.etcdKeyFile,
    username,
    password,
  };
}

/**
 * How a command reaches the etcd that the daemon uses with the same settings. Where `ETCD_ENDPOINTS` is unset that is the
 * embedded etcd, which must run already: a command starts none.
 *
 * @throws DatastoreError where no embedded etcd runs
 */
export function runningEtcdOptions(config: Config): EtcdOptions {
  if (config.etcdEndpoints) return etcdOptions(config, undefined);
  const url = findRunningEmbedded(config.stateDir)?.clientUrls[0];
  if (url === undefined)
    throw new DatastoreError(
      `ETCD_ENDPOINTS is not set, and no etcd of the daemon's runs on this host (looked in ${config.stateDir})`,
    );
  return etcdOptions(config, url);
}
