import { readFileSync } from 'node:fs';
import { reason, RequestError } from '../errors.js';

/** Where etcd is and how to be let in. */
export interface EtcdOptions {
  /** Client URLs such as `https://10.0.0.1:2379`, all of one scheme; the port is 2379 where none is given. */
  readonly endpoints: readonly string[];
  /** PEM file with the authorities that sign etcd's certificate; the system's own where absent. */
  readonly caFile?: string | undefined;
  /** PEM files of our client certificate; both or none. */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  /** etcd's own users; both or none. */
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

/** Options that were checked: endpoints in the one form `scheme://host:port`. */
export interface CheckedOptions extends EtcdOptions {
  readonly secure: boolean;
}

/** scheme, host (a name, an IPv4 address or a bracketed IPv6 one), optional port: no user, path or query. */
const ENDPOINT = /^(https?):\/\/(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?\/?$/;

/**
 * Refuses options that can never work, before anything is connected.
 *
 * @throws RequestError which says what to change
 */
export function checkOptions(options: EtcdOptions): CheckedOptions {
  if (options.endpoints.length === 0) throw new RequestError('no etcd endpoint is given: set ETCD_ENDPOINTS');
  const endpoints = options.endpoints.map(normalise);
  const secure = endpoints.filter(endpoint => endpoint.startsWith('https:')).length;
  if (secure > 0 && secure < endpoints.length)
    throw new RequestError(`etcd endpoints must all be http or all be https: ${endpoints.join(', ')}`);
  bothOrNone('etcd certificate file', options.certFile, 'key file', options.keyFile);
  bothOrNone('etcd user name', options.username, 'password', options.password);
  return { ...options, endpoints, secure: secure > 0 };
}

function normalise(endpoint: string): string {
  const [, scheme, host, port = '2379'] = ENDPOINT.exec(endpoint.trim()) ?? [];
  // The text itself is not repeated: people do write user:password@ into such URLs.
  if (scheme === undefined || host === undefined || Number(port) > 65535)
    throw new RequestError('an etcd endpoint is not of the form http://host:port or https://host:port');
  return `${scheme}://${host}:${port}`;
}

function bothOrNone(one: string, first: string | undefined, other: string, second: string | undefined): void {
  if ((first === undefined) !== (second === undefined))
    throw new RequestError(`${one} and ${other} must be given together`);
}

/** What etcd3 takes as TLS credentials. */
export interface TlsFiles {
  rootCertificate: Buffer;
  privateKey?: Buffer;
  certChain?: Buffer;
}

/**
 * Reads the TLS files as they are now. Called for every new connection, so that a certificate replaced on disk
 * is used without a restart.
 *
 * @throws Error that names the setting and the file
 */
export function readTlsFiles(options: CheckedOptions): TlsFiles | undefined {
  if (!options.secure || (options.caFile === undefined && options.certFile === undefined)) return undefined;
  const { caFile, certFile, keyFile } = options;
  // etcd3 hands an absent root on to grpc-js, which then takes the system's; only its type says otherwise.
  const rootCertificate = (caFile === undefined ? null : fileOf('ETCD_CA_CERT_FILE', caFile)) as Buffer;
  if (certFile === undefined || keyFile === undefined) return { rootCertificate };
  const privateKey = fileOf('ETCD_KEY_FILE', keyFile);
  return { rootCertificate, privateKey, certChain: fileOf('ETCD_CERT_FILE', certFile) };
}

function fileOf(setting: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Error(`${setting} cannot be read: ${reason(error)}`, { cause: error });
  }
}
