import { reason } from '../errors.js';

/**
 * What a failed call to etcd means for the next step.
 *
 * - `unsent`: it certainly had no effect; another endpoint, or the same one later, may do it
 * - `lost`: it may have had its effect, the answer did not arrive
 * - `token`: refused because our token is old; no effect
 * - `anonymous`: refused because etcd wants a user and we sent none; no effect
 * - `forbidden`: refused for lack of a right; no effect. Where we did not log in, etcd may have taken the name of our
 *   client certificate for that of a user
 * - `auth-off`: etcd has no users, a login is neither possible nor needed
 * - `too-large`: the answer is more than we accept
 * - `compacted`: the revision asked for is gone, or has not come (again) in an etcd that went back
 * - `no-lease`: the lease named has expired
 * - `refused`: etcd understood and said no; asking again is useless
 */
export type FailureKind =
  | 'unsent'
  | 'lost'
  | 'token'
  | 'anonymous'
  | 'forbidden'
  | 'auth-off'
  | 'too-large'
  | 'compacted'
  | 'no-lease'
  | 'refused';

export interface Failure {
  readonly kind: FailureKind;
  /** A few words for a person, without secrets. */
  readonly reason: string;
}

/** gRPC's message is `<code> <NAME>: <details>`; etcd3 keeps it even where its own errors drop the code. */
const GRPC_MESSAGE = /(\d+) [A-Z_]+: ([^]*)/;

const USER = 'ETCD_USERNAME and ETCD_PASSWORD';

/** Refusals by name: [what etcd says, what it means, what we say where that is clearer]. */
const KNOWN: readonly (readonly [RegExp, FailureKind, string?])[] = [
  [/no leader/, 'unsent', 'this member has lost its cluster (no leader)'],
  [/too many requests/, 'unsent'],
  [/invalid auth token|revision of auth store is old/, 'token', 'the login has expired'],
  [/user name is empty/, 'anonymous', `etcd wants a user name and a password: set ${USER}`],
  [/authentication is not enabled/, 'auth-off'],
  [/authentication failed/, 'refused', `etcd does not accept the user name and password: check ${USER}`],
  [
    /permission denied/,
    'forbidden',
    `the etcd user may not do this (permission denied): check ${USER}, and that its role has readwrite on the prefix /calico/`,
  ],
  [/database space exceeded/, 'refused', 'etcd is full: compact and defragment it, then disarm its alarm'],
  [/required revision has been compacted|required revision is a future revision/, 'compacted'],
  [/larger than max/, 'too-large'],
  [/requested lease not found/, 'no-lease', 'the lease has expired'],
];

/** Failures to get a connection at all, in the words of grpc-js: nothing was sent. */
const NO_CONNECTION =
  /^(No connection established|Name resolution failed|Channel closed before call started)/;

/** Decides what a call's error means. Unknown errors count as `lost`, the one kind that claims nothing. */
export function failureOf(error: unknown): Failure {
  const text = reason(error);
  const [, code, details = text] = GRPC_MESSAGE.exec(text) ?? [];
  const known = KNOWN.find(([pattern]) => pattern.test(details));
  if (known) return { kind: known[1], reason: known[2] ?? details };
  switch (code) {
    case '14':
      return { kind: NO_CONNECTION.test(details) ? 'unsent' : 'lost', reason: connectionTrouble(details) };
    case '4':
      return details.includes('Waiting for LB pick')
        ? { kind: 'unsent', reason: 'no connection in time' }
        : { kind: 'lost', reason: 'no answer in time' };
    case '16':
      return { kind: 'token', reason: details };
    case '3': // invalid argument
    case '5': // not found
    case '7': // permission denied
    case '8': // resource exhausted
    case '9': // failed precondition
    case '11': // out of range
    case '12': // not implemented
      return { kind: 'refused', reason: details };
    default:
      return { kind: 'lost', reason: details };
  }
}

/** The usual reasons for a missing connection, in plain words. */
const TROUBLE: readonly (readonly [RegExp, string])[] = [
  [/ECONNREFUSED/, 'connection refused'],
  [/ECONNRESET|Connection dropped|socket hang up|GOAWAY/i, 'connection lost'],
  [/ETIMEDOUT/, 'connection timed out'],
  [/EHOSTUNREACH|ENETUNREACH/, 'no route to host'],
  [/ENOTFOUND|EAI_AGAIN|Name resolution failed/, 'host name not found'],
  [/wrong version number|packet length too long/i, 'it does not speak TLS'],
  [/certificate|altnames|alert|handshake/i, 'TLS'],
];

/** What is wrong with which certificate, and the setting to look at. Alerts are what etcd says of ours. */
const TLS_TROUBLE: readonly (readonly [RegExp, string])[] = [
  [
    // Go, and so etcd, says "bad certificate" of one that is missing, too.
    /alert (certificate required|bad certificate|unknown ca)|alert number (116|42|48)/,
    'etcd wants a client certificate that it accepts: check ETCD_CERT_FILE and ETCD_KEY_FILE',
  ],
  [/alert certificate expired|alert number 45/, 'our client certificate has expired: renew ETCD_CERT_FILE'],
  [/certificate has expired/, 'the certificate of etcd has expired: renew it'],
  [/altnames/i, 'the certificate of etcd is not for this address'],
  [
    /unable to (verify|get)|self.signed/i,
    'the certificate of etcd is not signed by what we trust: check ETCD_CA_CERT_FILE',
  ],
];

function connectionTrouble(details: string): string {
  const words = TROUBLE.find(([pattern]) => pattern.test(details))?.[1];
  const last = /Last error: ([^]*?)\. Resolution note:/.exec(details)?.[1];
  if (words === 'TLS')
    return `TLS: ${TLS_TROUBLE.find(([pattern]) => pattern.test(details))?.[1] ?? last ?? details}`;
  // grpc-js has no words for a peer that hangs up before HTTP/2 begins.
  if (last === 'null') return 'no connection; the URL of an etcd with TLS begins with https';
  return words ?? last ?? details;
}
