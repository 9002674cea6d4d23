import { setTimeout as pause } from 'node:timers/promises';
import { remaining } from '../deadline.js';
import { DatastoreError } from '../errors.js';
import type { Logger } from '../log.js';
import { EtcdConnection } from './etcd-connection.js';
import type { Calls } from './etcd-connection.js';
import { failureOf } from './etcd-failure.js';
import type { Failure, FailureKind } from './etcd-failure.js';
import type { EtcdHistory } from './etcd-history.js';
import type { CheckedOptions } from './etcd-options.js';
import { PROBE } from './etcd-wire.js';

/** Longest time for one call with all its tries, where the caller set no earlier deadline. */
export const CALL_MILLISECONDS = 5_000;
/** Longest time for one try, so that an endpoint that swallows calls leaves time for another. */
const TRY_MILLISECONDS = 2_000;
const FIRST_PAUSE_MILLISECONDS = 50;
const LONGEST_PAUSE_MILLISECONDS = 500;

/** A failure that is no reason to try again; `etcd.ts` and its neighbours act on the kind. */
export class EtcdRefusal extends DatastoreError {
  constructor(
    readonly failure: Failure,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What the earlier tries of a call have come to. */
export interface Tries {
  /** A try was sent and its answer lost: it may have had its effect. */
  lost: boolean;
  /** The era in which the next try is sent; see `revision.ts`. */
  era: number;
}

/** An answer of etcd. */
export interface Answer<M extends keyof Calls> {
  readonly response: Calls[M]['response'];
  /** The era that the answer's revisions are of. */
  readonly era: number;
}

/**
 * The way to the cluster: one connection at a time, kept while it works, replaced by one to the next endpoint when
 * it fails. Calls are tried again until the deadline in force; each is bounded by gRPC's own deadline.
 */
export class EtcdLink {
  /** Where etcd has been so far. */
  readonly history: EtcdHistory;
  readonly #options: CheckedOptions;
  readonly #log: Logger;
  #connection: EtcdConnection | undefined;
  #turn: number;
  #login = true;
  #closed = false;

  constructor(options: CheckedOptions, history: EtcdHistory, log: Logger) {
    this.#options = options;
    this.history = history;
    this.#log = log;
    // Hosts share one list of endpoints; a random start spreads them over the members.
    this.#turn = Math.floor(Math.random() * options.endpoints.length);
  }

  /**
   * The connection in use, or a new one to the endpoint whose turn it is.
   *
   * @throws DatastoreError after `close`; Error of `fs` where a TLS file cannot be read
   */
  connection(): EtcdConnection {
    if (this.#closed) throw new DatastoreError('the connection to etcd was closed');
    return (this.#connection ??= new EtcdConnection(this.#endpoint(), this.#options, this.#login));
  }

  /** Lets go of a connection that failed: the next call uses the next endpoint, fresh TLS files and a new login. */
  drop(connection: EtcdConnection): void {
    if (this.#connection !== connection) return; // somebody else saw it fail first
    this.#connection = undefined;
    this.#turn++;
    connection.close();
  }

  /**
   * One call, tried until it is answered.
   *
   * @param request made anew for every try, as a transaction asks for more once it became doubtful
   * @throws DatastoreError when the deadline passes; its subclass EtcdRefusal when etcd says no
   */
  async call<M extends keyof Calls>(
    method: M,
    request: (tries: Tries) => Calls[M]['request'],
  ): Promise<Answer<M>> {
    const until = Date.now() + remaining(CALL_MILLISECONDS);
    const tries: Tries = { lost: false, era: this.history.era };
    if (until <= Date.now()) throw new DatastoreError('no time is left to ask etcd: the deadline has passed');
    let trouble: Trouble | undefined;
    for (;;) {
      let connection: EtcdConnection | undefined;
      let isSent = false;
      try {
        connection = this.connection();
        if (method === 'txn') await this.#greet(connection, until);
        const mark = this.history.mark();
        tries.era = mark.era;
        isSent = true;
        const response = await connection.call(method, request(tries), this.#tryUntil(until));
        // What concerns leases is answered by a member as far as that has come.
        if (method !== 'range' && method !== 'txn') return { response, era: mark.era };
        connection.isGreeted = true;
        return { response, era: this.history.answered(mark, response.header) };
      } catch (error) {
        if (this.#closed) throw new DatastoreError('the connection to etcd was closed', { cause: error });
        trouble ??= new Trouble();
        await this.#failed(connection, error, isSent, trouble, tries, until);
      }
    }
  }

  /** Is final. Calls under way fail, or run to their deadline without a further try. */
  close(): void {
    this.#closed = true;
    this.#connection?.close();
    this.#connection = undefined;
  }

  /**
   * Has etcd say where it is, on a new connection, before it is sent a transaction: it may have gone back while we were
   * not connected, and revisions remembered from before must not be compared. One round trip per connection.
   */
  async #greet(connection: EtcdConnection, until: number): Promise<void> {
    if (connection.isGreeted || !this.history.isKnown) return;
    const mark = this.history.mark();
    try {
      const { header } = await connection.call('range', PROBE, this.#tryUntil(until));
      this.history.answered(mark, header);
    } catch (error) {
      // Not allowed to read, it can still be allowed to write.
      const { kind } = failureOf(error);
      if (kind !== 'refused' && !(kind === 'forbidden' && !this.#canLogIn(connection))) throw error;
    }
    connection.isGreeted = true;
  }

  /** A user is known that this connection was made without, as etcd had no users then. */
  #canLogIn(connection: EtcdConnection): boolean {
    return this.#options.username !== undefined && !connection.hasLogin;
  }

  #endpoint(): string {
    const { endpoints } = this.#options;
    return endpoints[this.#turn % endpoints.length] ?? '';
  }

  /** When a try that starts now is given up: with several endpoints, never later than half of what is left. */
  #tryUntil(until: number): number {
    const now = Date.now();
    const left = until - now;
    return now + Math.min(TRY_MILLISECONDS, this.#options.endpoints.length > 1 ? left / 2 : left);
  }

  /** Returns when the call may be tried again; throws when it may not. */
  async #failed(
    connection: EtcdConnection | undefined,
    error: unknown,
    isSent: boolean,
    trouble: Trouble,
    tries: Tries,
    until: number,
  ): Promise<void> {
    // Without a connection, it was a TLS file that could not be read: perhaps it is being replaced right now.
    const failure: Failure = connection
      ? failureOf(error)
      : { kind: 'unsent', reason: error instanceof Error ? error.message : 'unknown' };
    if (failure.kind === 'lost' && isSent) tries.lost = true;
    const endpoint = connection?.endpoint ?? this.#endpoint();
    if (!trouble.mayTryAgain(failure, !connection || this.#canLogIn(connection)))
      throw new EtcdRefusal(failure, `etcd at ${endpoint} refused: ${failure.reason}`, { cause: error });
    // Users can be enabled and disabled while we run.
    if (failure.kind === 'auth-off') this.#login = false;
    if (failure.kind === 'token' || failure.kind === 'anonymous' || failure.kind === 'forbidden')
      this.#login = true;
    this.#log.debug({ endpoint, reason: failure.reason }, 'a call to etcd failed');
    trouble.reasons.set(endpoint, failure.reason);
    if (connection) this.drop(connection);
    else this.#turn++;
    const wait = trouble.pauseBefore(this.#options.endpoints.length);
    if (Date.now() + wait >= until) throw unreachable(trouble.reasons, tries.lost, error);
    if (wait > 0) await pause(wait);
  }
}

/** What one call has gone through so far. */
class Trouble {
  /** The newest reason per endpoint, for the message. */
  readonly reasons = new Map<string, string>();
  #tries = 0;
  /** Why a new login (or none) was tried: each reason once, or a stubborn etcd would keep us busy. */
  readonly #logins = new Set<FailureKind>();

  mayTryAgain({ kind }: Failure, canLogIn: boolean): boolean {
    if (kind === 'unsent' || kind === 'lost') return true;
    const isStranger = kind === 'anonymous' || kind === 'forbidden';
    const newLogin = kind === 'token' || kind === 'auth-off' || (isStranger && canLogIn);
    if (!newLogin || this.#logins.has(kind)) return false;
    this.#logins.add(kind);
    return true;
  }

  /** None while there is an endpoint not tried yet, then longer and longer. */
  pauseBefore(endpoints: number): number {
    const rounds = Math.floor(++this.#tries / endpoints) - 1;
    if (this.#tries % endpoints !== 0) return 0;
    return Math.min(LONGEST_PAUSE_MILLISECONDS, FIRST_PAUSE_MILLISECONDS * 2 ** rounds);
  }
}

function unreachable(reasons: ReadonlyMap<string, string>, lost: boolean, cause: unknown): DatastoreError {
  const doubt = lost ? '; the change may have been made nevertheless' : '';
  const [only] = reasons;
  const where =
    reasons.size === 1 && only
      ? `the datastore is unreachable: etcd at ${only[0]} does not answer (${only[1]}${doubt})`
      : `the datastore is unreachable: etcd does not answer (${[...reasons].map(pair => pair.join(': ')).join('; ')}${doubt})`;
  return new DatastoreError(`${where}: check that it runs and that ETCD_ENDPOINTS is right`, { cause });
}
