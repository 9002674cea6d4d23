import type { Config } from './config.js';
import type { EtcdOptions } from './datastore/etcd-options.js';

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
