import { readFileSync } from 'node:fs';
import type { Config } from '../config.js';
import { runningEtcdOptions } from '../datastore-options.js';
import { resourcesPrefix } from '../datastore/keys.js';
import type { EtcdOptions } from '../datastore/etcd-options.js';
import type { Store } from '../datastore/store.js';
import { RtNetlink } from '../host/rtnetlink.js';
import type { Link } from '../host/link-messages.js';
import { createEtcdStore } from '../datastore/etcd.js';
import { createLogger } from '../log.js';
import { parseIpPool } from '../model/ip-pool.js';
import type { IpPool } from '../model/ip-pool.js';
import { parseNode } from '../model/node.js';
import type { CalicoNode } from '../model/node.js';
import { askDocker } from './docker-api.js';
import type { DockerFacts } from './docker-api.js';
import { daemonOn, processes, shortName } from './processes.js';

/** What is examined. What several checks need is asked for once. */
export interface Subject {
  readonly config: Config;
  /** Of this program. */
  readonly version: string;
  /** Process ids; undefined where they do not run, or not on this host. */
  readonly daemon: number | undefined;
  readonly dockerd: number | undefined;
  /** Rejects where Docker does not answer. */
  docker(): Promise<DockerFacts>;
  /** How etcd is reached. Throws DatastoreError where no etcd is configured and the embedded one does not run. */
  etcd(): EtcdOptions;
  /** Throws as `etcd` does. */
  store(): Store;
  /** All IPPools that parse. Throws DatastoreError. One round trip. */
  pools(): Promise<readonly IpPool[]>;
  /** All Nodes that parse. Throws DatastoreError. One round trip. */
  nodes(): Promise<readonly CalicoNode[]>;
  readonly netlink: RtNetlink;
  /** The host's interfaces. */
  links(): Promise<readonly Link[]>;
}

/** Runs `work` on this host as the settings see it, and closes what that opened. */
export async function withSubject<T>(
  config: Config,
  version: string,
  work: (subject: Subject) => Promise<T>,
): Promise<T> {
  const netlink = new RtNetlink();
  let store: Store | undefined;
  const once = <V>(ask: () => Promise<V>): (() => Promise<V>) => {
    let answer: Promise<V> | undefined;
    return () => (answer ??= ask());
  };
  const etcd = (): EtcdOptions => runningEtcdOptions(config);
  const openStore = (): Store => (store ??= createEtcdStore(etcd(), createLogger('silent')));
  try {
    return await work({
      config,
      version,
      daemon: daemonOn(`${config.socketDir}/calico.sock`),
      dockerd: config.dockerHost.startsWith('unix:') ? findDockerd() : undefined,
      docker: once(() => askDocker(config.dockerHost)),
      etcd,
      store: openStore,
      pools: once(() => readable(openStore(), 'ippools', parseIpPool)),
      nodes: once(() => readable(openStore(), 'nodes', parseNode)),
      netlink,
      links: once(() => netlink.links()),
    });
  } finally {
    netlink.close();
    await store?.close();
  }
}

/** All resources of a kind that parse. One round trip. */
async function readable<T>(
  store: Store,
  plural: Parameters<typeof resourcesPrefix>[0],
  parse: (text: string) => T | undefined,
): Promise<T[]> {
  const { entries } = await store.list(resourcesPrefix(plural));
  return entries.flatMap(({ value }) => {
    try {
      return parse(value) ?? [];
    } catch {
      return [];
    }
  });
}

/** By its pid file; else any of that name, which may be one in a container. */
function findDockerd(): number | undefined {
  const isDockerd = (pid: number): boolean => shortName(pid) === 'dockerd';
  try {
    const pid = Number(readFileSync('/var/run/docker.pid', 'utf8'));
    if (isDockerd(pid)) return pid;
  } catch {
    // No pid file, or one we may not read.
  }
  return processes().find(isDockerd);
}
