import { hostname } from 'node:os';
import { checkOptions } from './datastore/etcd-options.js';
import { reason } from './errors.js';
import type { DetectionMethod } from './host/autodetect.js';
import { formatCidr } from './ipam/cidr.js';
import type { Cidr } from './ipam/cidr.js';
import {
  boolean,
  choice,
  cidr,
  detectionMethod,
  duration,
  hostAddress,
  integer,
  list,
  listenAddress,
  optional,
  parseDockerHost,
  parseDriverName,
  parseInterfacePrefix,
  parseNodeName,
  path,
  readNodeName,
} from './setting-kinds.js';
import type { Environment, Setting } from './setting-kinds.js';

const SETTINGS = {
  etcdEndpoints: list(
    ['ETCD_ENDPOINTS', 'CALICO_ETCD_ENDPOINTS'],
    'etcd members, comma separated (`https://10.0.0.1:2379,…`). Unset: the daemon runs an etcd of its own on this host',
  ),
  etcdCaFile: optional(
    ['ETCD_CA_CERT_FILE', 'CALICO_ETCD_CA_CERT_FILE'],
    'CA certificate that signed those of etcd',
  ),
  etcdCertFile: optional(['ETCD_CERT_FILE', 'CALICO_ETCD_CERT_FILE'], 'client certificate for etcd'),
  etcdKeyFile: optional(['ETCD_KEY_FILE', 'CALICO_ETCD_KEY_FILE'], 'key of the client certificate'),
  etcdUsername: optional(['ETCD_USERNAME', 'CALICO_ETCD_USERNAME'], 'etcd user'),
  etcdPassword: {
    ...optional(['ETCD_PASSWORD', 'CALICO_ETCD_PASSWORD'], 'password of the etcd user'),
    secret: true,
  },
  datastoreType: choice(
    ['DATASTORE_TYPE', 'CALICO_DATASTORE_TYPE'],
    ['etcdv3'],
    'only `etcdv3`; anything else is refused',
  ),
  nodeName: {
    names: ['NODENAME'],
    help: "this host's name in Calico, lower case; unique in the cluster",
    shown: '`/var/lib/calico/nodename`, else `HOSTNAME`, else the host name',
    parse: parseNodeName,
    fallback: env => parseNodeName(readNodeName() ?? (env.HOSTNAME || hostname())),
  } satisfies Setting<string>,
  ip: hostAddress(
    ['IP'],
    4,
    'detect where missing',
    "this host's IPv4 address for other hosts, in its Node: an address (`10.0.0.1/24`); `autodetect`: found at each start; `none`: left alone. Unset: found where the Node has none",
  ),
  ip6: hostAddress(['IP6'], 6, 'none', 'the same for IPv6'),
  ipDetection: detectionMethod(
    ['IP_AUTODETECTION_METHOD'],
    4,
    'how it is found: `first-found`, `can-reach=ADDRESS`, `interface=REGEX,…`, `skip-interface=REGEX,…`, `cidr=CIDR,…`',
  ),
  ip6Detection: detectionMethod(['IP6_AUTODETECTION_METHOD'], 6, 'the same for IPv6'),
  ipv4PoolCidr: cidr(
    ['CALICO_IPV4POOL_CIDR'],
    4,
    '192.168.0.0/16',
    'IPv4 pool that is made at start if there is none; another private range if this one overlaps a route of the host',
  ),
  ipv6PoolCidr: cidr(
    ['CALICO_IPV6POOL_CIDR'],
    6,
    undefined,
    'IPv6 pool that is made at start if there is none',
  ),
  vxlanMode: choice(
    ['CALICO_IPV4POOL_VXLAN'],
    ['Never', 'Always', 'CrossSubnet'],
    'encapsulation of IPv4 pools that we make',
  ),
  interfacePrefix: {
    names: ['CALICO_LIBNETWORK_IFPREFIX'],
    help: 'what interfaces are called inside containers; a number follows',
    shown: '`cali`',
    parse: parseInterfacePrefix,
    fallback: () => 'cali',
  } satisfies Setting<string>,
  createProfiles: boolean(
    ['CALICO_LIBNETWORK_CREATE_PROFILES'],
    true,
    'create a profile for each network that has none',
  ),
  labelEndpoints: boolean(
    ['CALICO_LIBNETWORK_LABEL_ENDPOINTS'],
    true,
    'labels `org.projectcalico.label.<k>` of a container become labels `<k>` of its endpoints',
  ),
  hostAction: choice(
    ['CALICO_LIBNETWORK_DEFAULT_HOST_ACTION'],
    ['allow', 'policy', 'deny'],
    'what the host itself sends to its containers: `allow`: passes; `policy`: is judged like what others send; `deny`: is dropped',
  ),
  syncNetworks: boolean(
    ['CALICO_LIBNETWORK_SYNC_NETWORKS'],
    true,
    'a network that is made, or removed, on one host is on all that share the etcd; not with scope `global`, where Docker does it',
  ),
  vethMtu: integer(
    ['CALICO_LIBNETWORK_VETH_MTU'],
    1280,
    65_535,
    "MTU of containers' interfaces",
    'that of the interface with the default route',
  ),
  reconcile: choice(
    ['CALICO_LIBNETWORK_RECONCILE'],
    ['repair', 'report'],
    'what the reconciler does where Docker, the datastore and the kernel disagree: `report` only logs what it would do',
  ),
  reconcileInterval: duration(
    ['CALICO_LIBNETWORK_RECONCILE_INTERVAL'],
    '30s',
    'time between looks of the reconciler; events of Docker cause more',
  ),
  gcGrace: duration(
    ['CALICO_LIBNETWORK_GC_GRACE'],
    '60s',
    'how long Docker has to lack an endpoint, address or network before it is freed',
  ),
  debug: {
    names: ['CALICO_DEBUG'],
    help: 'any value: log at level debug',
    shown: 'unset',
    parse: text => text !== '',
    fallback: () => false,
  } satisfies Setting<boolean>,
  dockerHost: {
    names: ['DOCKER_HOST'],
    help: "Docker's API: `unix://…` or `tcp://host:port`",
    shown: '`unix:///var/run/docker.sock`',
    parse: parseDockerHost,
    fallback: () => 'unix:///var/run/docker.sock',
  } satisfies Setting<string>,
  dataplane: choice(
    ['CALICO_LIBNETWORK_DATAPLANE'],
    ['native', 'felix'],
    '`native`: we program routes and NAT; `felix`: a Felix on this host does',
  ),
  scope: choice(
    ['CALICO_LIBNETWORK_SCOPE'],
    ['local', 'global'],
    "scope that Docker is told; `global` is for engines with a cluster store (20.10's `--cluster-store`)",
  ),
  driver: {
    names: ['CALICO_LIBNETWORK_DRIVER'],
    help: 'what Docker calls the driver: `calico`, or, of a managed plugin, its name and tag (`npm run plugin` sets it)',
    shown: '`calico`',
    parse: parseDriverName,
    fallback: () => 'calico',
  } satisfies Setting<string>,
  socketDir: path(['CALICO_LIBNETWORK_SOCKET_DIR'], '/run/docker/plugins', 'where the plugin sockets are'),
  autoPools: boolean(['CALICO_LIBNETWORK_AUTO_POOLS'], true, 'a `--subnet` in no IPPool makes one'),
  metricsAddress: listenAddress(
    ['CALICO_LIBNETWORK_METRICS_ADDRESS'],
    'where `/metrics` (Prometheus), `/live` and `/ready` are served: a port of 127.0.0.1, or `ADDRESS:PORT`. Unset: nowhere',
  ),
  stateDir: path(
    ['CALICO_LIBNETWORK_STATE_DIR'],
    '/var/lib/calico-libnetwork',
    "this host's id, and the data of the embedded etcd",
  ),
  embeddedListen: optional(
    ['CALICO_LIBNETWORK_ETCD_LISTEN'],
    'URL on which the embedded etcd also serves other hosts, `https://10.0.0.1:2379`; beyond loopback only with TLS and certificates of clients (`ETCD_*_FILE`)',
  ),
  embeddedPort: integer(
    ['CALICO_LIBNETWORK_ETCD_PORT'],
    1024,
    65_534,
    'loopback port of the embedded etcd',
    '23790',
    23790,
  ),
} as const;

type Settings = typeof SETTINGS;
/** All settings, parsed; made once at start and passed on. */
export type Config = {
  readonly [Name in keyof Settings]:
    ReturnType<Settings[Name]['parse']> | ReturnType<Settings[Name]['fallback']>;
};

/** Says everything that is wrong with the environment, one line each. */
export class ConfigError extends Error {}

/** Reads the settings. Throws one ConfigError that lists every bad one. */
export function loadConfig(env: Environment = process.env): Config {
  const problems: string[] = [];
  const values = Object.entries<Setting<unknown>>(SETTINGS).map(([key, setting]) => {
    const name = setting.names.toReversed().find(candidate => (env[candidate] ?? '') !== '');
    const text = name === undefined ? undefined : env[name]?.trim();
    try {
      return [key, text === undefined ? setting.fallback(env) : setting.parse(text)];
    } catch (error) {
      const shown = setting.secret ? '' : ` (is "${text ?? ''}")`;
      problems.push(
        `${name ?? setting.names[0]} ${error instanceof Error ? error.message : String(error)}${shown}`,
      );
      return [key, undefined];
    }
  });
  const config = Object.freeze(Object.fromEntries(values)) as Config;
  problems.push(...contradictions(config));
  if (problems.length > 0) throw new ConfigError(`bad settings:\n  ${problems.join('\n  ')}`);
  return config;
}

/** Every setting as one line `NAME=value`, secrets hidden. */
export function printConfig(config: Config): string {
  return Object.entries<Setting<unknown>>(SETTINGS)
    .map(([key, setting]) => {
      const value = config[key as keyof Config];
      return `${setting.names[0]}=${setting.secret && value !== undefined ? '[secret]' : shownValue(value)}`;
    })
    .join('\n');
}

/** The name that we document of every setting, and what it does. */
export function settingNames(): { name: string; help: string }[] {
  return Object.values<Setting<unknown>>(SETTINGS).map(({ names, help }) => ({
    name: names[0] ?? '',
    help: help.replaceAll('`', ''),
  }));
}

/** Variables of the environment that look like settings of ours and are none: misspelt, or of another version. */
export function unknownSettings(env: Environment): string[] {
  const known = new Set(Object.values<Setting<unknown>>(SETTINGS).flatMap(({ names }) => names));
  // calico/node's switch for the old plugin, which may be in an environment that both share.
  known.add('CALICO_LIBNETWORK_ENABLED');
  return Object.keys(env).filter(name => name.startsWith('CALICO_LIBNETWORK_') && !known.has(name));
}

/** The settings for a terminal. */
export function settingsHelp(): string {
  return Object.values<Setting<unknown>>(SETTINGS)
    .map(({ names, help, shown }) => `  ${names[0]}\n      ${help} (default: ${shown})`.replaceAll('`', ''))
    .join('\n');
}

/** The table of settings for `docs/reference.md`. */
export function settingsTable(): string {
  const rows = Object.values<Setting<unknown>>(SETTINGS).map(
    ({ names, help, shown }) => `| ${names.map(name => `\`${name}\``).join(', ')} | ${shown} | ${help} |`,
  );
  return ['| setting | default | what it does |', '| --- | --- | --- |', ...rows].join('\n');
}

function contradictions(config: Config): string[] {
  const found: string[] = [];
  if ((config.etcdCertFile === undefined) !== (config.etcdKeyFile === undefined))
    found.push('ETCD_CERT_FILE and ETCD_KEY_FILE go together: set both or none');
  if ((config.etcdUsername === undefined) !== (config.etcdPassword === undefined))
    found.push('ETCD_USERNAME and ETCD_PASSWORD go together: set both or none');
  try {
    if (config.etcdEndpoints) checkOptions({ endpoints: config.etcdEndpoints });
  } catch (error) {
    found.push(`ETCD_ENDPOINTS: ${reason(error)}`);
  }
  return found;
}

function shownValue(value: unknown): string {
  if (value === undefined) return '';
  // People do write user:password@ into URLs.
  if (Array.isArray(value)) return value.join(',').replaceAll(/\/\/[^/,]*@/g, '//[secret]@');
  if (typeof value !== 'object' || value === null) return String(value);
  if ('port' in value && 'host' in value) return shownAddress(String(value.host), String(value.port));
  if ('address' in value && !('by' in value)) return String(value.address);
  return 'by' in value ? shownMethod(value as DetectionMethod) : formatCidr(value as Cidr);
}

function shownAddress(host: string, port: string): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function shownMethod(method: DetectionMethod): string {
  if (method.by === 'first-found') return method.by;
  if (method.by === 'can-reach') return `${method.by}=${method.address}`;
  const values =
    'cidrs' in method ? method.cidrs.map(formatCidr) : method.patterns.map(({ source }) => source);
  return `${method.by}=${values.join(',')}`;
}
