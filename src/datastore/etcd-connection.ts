import { Etcd3 } from 'etcd3';
import type { IDuplexStream, IRangeRequest, IRangeResponse, ITxnRequest, ITxnResponse } from 'etcd3';
import type { IWatchRequest, IWatchResponse } from 'etcd3';
import type {
  ILeaseGrantRequest,
  ILeaseGrantResponse,
  ILeaseRevokeRequest,
  ILeaseRevokeResponse,
} from 'etcd3';
import type { ILeaseKeepAliveRequest, ILeaseKeepAliveResponse } from 'etcd3';
import { noop } from 'cockatiel';
import { readTlsFiles } from './etcd-options.js';
import type { CheckedOptions } from './etcd-options.js';
import { wasBroken } from './etcd-way.js';

/** Time for a login, which costs the server a password hash. */
const LOGIN_MILLISECONDS = 2_000;

const CHANNEL = {
  // A peer that vanished without a word is noticed after 15 s. Not more often, and not while nothing is in flight:
  // etcd hangs up on clients that ping every 5 s or ping an idle connection.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 0,
  // grpc-js waits up to two minutes before it dials again; etcd restarts in a second.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  // Lists are paged; this is room for a page of ordinary size and a halved one of extraordinary size.
  'grpc.max_receive_message_length': 16 * 1024 * 1024,
  // All retries are ours: only we know when a transaction became doubtful.
  'grpc.enable_retries': 0,
};

/** How many connections were made. */
let made = 0;

/** The calls we make, by their gRPC name. */
export interface Calls {
  range: { request: IRangeRequest; response: IRangeResponse };
  txn: { request: ITxnRequest; response: ITxnResponse };
  leaseGrant: { request: ILeaseGrantRequest; response: ILeaseGrantResponse };
  /** A stream in gRPC; we ask it one question. */
  leaseKeepAlive: { request: ILeaseKeepAliveRequest; response: ILeaseKeepAliveResponse };
  leaseRevoke: { request: ILeaseRevokeRequest; response: ILeaseRevokeResponse };
}

export type WatchStream = IDuplexStream<IWatchRequest, IWatchResponse>;

/** The part of grpc-js' Metadata we use; etcd3 does not export the class. */
interface Metadata {
  clone(): Metadata;
  set(name: string, value: string): void;
}

type Callback = (error: Error | null, response: unknown) => void;
type LeaseStream = IDuplexStream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>;
type Unary = (request: unknown, metadata: Metadata, options: { deadline: number }, done: Callback) => void;

/** The methods grpc-js generates from etcd's .proto; etcd3 types its clients as having none. */
interface Services {
  readonly kv: { range: Unary; txn: Unary };
  readonly lease: {
    leaseGrant: Unary;
    leaseRevoke: Unary;
    leaseKeepAlive(metadata: Metadata, options: { deadline: number }): LeaseStream;
  };
  readonly watch: { watch(metadata: Metadata): WatchStream };
  readonly metadata: Metadata;
}

/** Opens the door to etcd3's pool, which knows how to log in and holds the generated clients. */
class Client extends Etcd3 {
  async services(): Promise<Services> {
    return this.pool.withConnection('KV', kv => {
      const metadata: Metadata = (kv.metadata as Metadata).clone();
      // A member that was cut off from its cluster then says so at once, instead of keeping silent.
      metadata.set('hasleader', 'true');
      const watch = kv.resource.getServiceClient('Watch') as unknown as Services['watch'];
      const lease = kv.resource.getServiceClient('Lease') as unknown as Services['lease'];
      return { kv: kv.client as unknown as Services['kv'], lease, watch, metadata };
    });
  }
}

/**
 * One connection to one endpoint, with the login and the TLS files of the time it was opened. It never heals:
 * whoever sees it fail drops it and opens another. All its calls and watches share one TCP connection.
 *
 * Calls go to the generated gRPC methods: etcd3's own `exec` retries an expired token without end and
 * hides gRPC's error, from which we tell "not sent" from "answer lost".
 */
export class EtcdConnection {
  readonly endpoint: string;
  /** It has answered once, and so told where etcd is now. */
  isGreeted = false;
  /** A user's name and password went along. */
  readonly hasLogin: boolean;
  readonly #client: Client;
  #opening: Promise<Services> | undefined;
  #services: Services | undefined;
  readonly #onBroken = new Set<() => void>();
  #suspected: Promise<void> | undefined;

  /**
   * Reads the TLS files; connects and logs in with the first call.
   *
   * @throws Error of `fs` where a TLS file cannot be read
   */
  constructor(endpoint: string, options: CheckedOptions, login: boolean) {
    this.endpoint = endpoint;
    const credentials = readTlsFiles(options);
    const { username, password } = options;
    this.hasLogin = login && username !== undefined && password !== undefined;
    const callOptions = (): { deadline: number } => ({ deadline: Date.now() + LOGIN_MILLISECONDS });
    this.#client = new Client({
      hosts: endpoint,
      // The services of one connection share its TCP connection as their options are the same. Those of the next must not:
      // grpc-js would hand them the one that was dropped because it is dead.
      grpcOptions: { ...CHANNEL, 'calico.connection': (made += 1) },
      faultHandling: { global: noop, host: () => noop },
      ...(credentials && { credentials }),
      ...(login && username !== undefined && password !== undefined
        ? { auth: { username, password, callOptions } }
        : {}),
    });
  }

  /** One round trip (and, the first time, those of connecting and of the login). Rejects with gRPC's error. */
  async call<M extends keyof Calls>(
    method: M,
    request: Calls[M]['request'],
    deadline: number,
  ): Promise<Calls[M]['response']> {
    const services = this.#services ?? (await this.#open());
    return new Promise((resolve, reject) => {
      const done: Callback = (error, response) => {
        if (error) reject(error);
        else resolve(response as Calls[M]['response']);
      };
      send(services, method, request, deadline, done);
    });
  }

  /** A stream of watch requests and answers, which ends only when it breaks or is cancelled. */
  async watch(): Promise<WatchStream> {
    const services = this.#services ?? (await this.#open());
    return services.watch.watch(services.metadata);
  }

  /** It has not answered for a while: if that is the network's fault, all who follow `onBroken` hear when it is over. */
  suspect(): void {
    this.#suspected ??= wasBroken(this.endpoint).then(isBroken => {
      this.#suspected = undefined;
      if (isBroken) for (const listener of [...this.#onBroken]) listener();
    });
  }

  /** Calls back when the way to etcd was broken and is whole again: a new connection will serve better. Returns the end
   *  of it. */
  onBroken(listener: () => void): () => void {
    this.#onBroken.add(listener);
    return () => this.#onBroken.delete(listener);
  }

  async #open(): Promise<Services> {
    this.#opening ??= this.#client.services();
    return (this.#services = await this.#opening);
  }

  /** Accepts no new calls. What is under way runs to its end or its deadline. */
  close(): void {
    this.#client.close();
  }
}

function send(
  services: Services,
  method: keyof Calls,
  request: unknown,
  deadline: number,
  done: Callback,
): void {
  const { kv, lease, metadata } = services;
  if (method === 'range' || method === 'txn') return kv[method](request, metadata, { deadline }, done);
  if (method !== 'leaseKeepAlive') return lease[method](request, metadata, { deadline }, done);
  const stream = lease.leaseKeepAlive(metadata, { deadline });
  stream.on('data', response => {
    done(null, response);
    stream.end();
  });
  stream.on('error', error => done(error, undefined));
  stream.on('end', () => done(new Error('14 UNAVAILABLE: the stream ended without an answer'), undefined));
  stream.write(request as ILeaseKeepAliveRequest);
}
