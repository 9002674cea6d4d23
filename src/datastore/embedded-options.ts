import { RequestError } from '../errors.js';

/** How our own etcd is to run. */
export interface EmbeddedOptions {
  /** Its data, in a directory of its own (created, 0700). State file and log lie beside it. */
  readonly dataDir: string;
  /** Program to run; default `etcd`, looked up in `path`. */
  readonly binary?: string | undefined;
  /** Directories to look in, as in $PATH; default the system's usual ones. */
  readonly path?: string | undefined;
  /** Ports on 127.0.0.1 to use where they are free, else the next free ones; default 23790 and 23801. */
  readonly clientPort?: number | undefined;
  readonly peerPort?: number | undefined;
  /** Further client URL for other hosts, such as `https://10.0.0.1:2379`. */
  readonly listen?: string | undefined;
  /** Client URL to announce; default `listen`, else the one on loopback. */
  readonly advertise?: string | undefined;
  /** TLS of `listen`. Clients must show a certificate that `caFile` signed; beyond loopback it is demanded. */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly caFile?: string | undefined;
}

export interface Ports {
  readonly client: number;
  readonly peer: number;
}

/** Not etcd's own 2379 and 2380, which an etcd of the operator's may want. */
export const DEFAULT_PORTS: Ports = { client: 23790, peer: 23801 };

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/**
 * Refuses to open the datastore to the network unprotected: whoever can write it rules the network of all hosts.
 *
 * @throws RequestError
 */
export function checkEmbeddedOptions(options: EmbeddedOptions): void {
  const { listen, certFile, keyFile, caFile } = options;
  if (listen === undefined) return;
  const url = URL.canParse(listen) ? new URL(listen) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.username !== '' || url.pathname !== '/')
    throw new RequestError('the listen URL of etcd is not of the form https://address:port');
  const hasTls = url.protocol === 'https:' && certFile !== undefined && keyFile !== undefined;
  if (url.protocol === 'https:' && !hasTls)
    throw new RequestError(`etcd cannot listen on ${listen} without a certificate file and its key file`);
  if (LOOPBACK.test(url.hostname)) return;
  if (!hasTls)
    throw new RequestError(`etcd must not listen on ${listen} without TLS: use https:// and a certificate`);
  // etcd's users are no substitute: nobody here can tell whether they are enabled.
  if (caFile === undefined)
    throw new RequestError(
      `etcd must not let everybody in on ${listen}: give a CA file, so that clients must show a certificate`,
    );
}

/** The one client URL that is always there, for this host only. */
export function loopbackUrl(ports: Ports): string {
  return `http://127.0.0.1:${ports.client}`;
}

/** The arguments of etcd 3.4 and later. Data is durable (fsync stays on); history is kept for an hour. */
export function embeddedArguments(options: EmbeddedOptions, ports: Ports): string[] {
  const client = loopbackUrl(ports);
  const peer = `http://127.0.0.1:${ports.peer}`;
  const { listen, certFile, keyFile, caFile } = options;
  const tls =
    certFile === undefined || keyFile === undefined
      ? []
      : [
          '--cert-file',
          certFile,
          '--key-file',
          keyFile,
          ...(caFile === undefined ? [] : clientCertificates(caFile)),
        ];
  return [
    ...['--name', 'calico-libnetwork', '--data-dir', options.dataDir],
    ...['--listen-client-urls', listen === undefined ? client : `${client},${listen}`],
    ...['--advertise-client-urls', options.advertise ?? listen ?? client],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
    ...['--initial-cluster', `calico-libnetwork=${peer}`],
    ...[
      '--auto-compaction-mode',
      'periodic',
      '--auto-compaction-retention',
      '1h',
      '--snapshot-count',
      '10000',
    ],
    ...['--logger', 'zap', '--log-level', 'warn'],
    ...tls,
  ];
}

function clientCertificates(caFile: string): string[] {
  return ['--trusted-ca-file', caFile, '--client-cert-auth'];
}
