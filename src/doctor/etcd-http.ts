import { request as plainRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { textOf } from '../docker/call.js';
import { checkOptions, readTlsFiles } from '../datastore/etcd-options.js';
import type { EtcdOptions } from '../datastore/etcd-options.js';
import { reason } from '../errors.js';
import { objectOrEmpty, parseJson, textOr } from '../model/json.js';

/** What a member of etcd says by HTTP, which it speaks on its client port to anybody that TLS lets in. */
export interface MemberFacts {
  readonly endpoint: string;
  /** Why it does not answer. */
  readonly failure?: string;
  /** `3.4.23`; undefined where it does not say. */
  readonly version?: string;
  /** `true`, or why not. */
  readonly health?: true | string;
  /** Its clock, in milliseconds since 1970, and ours at that moment; of a second's precision. */
  readonly clock?: { readonly theirs: number; readonly ours: number };
}

const TIMEOUT = 3_000;

/** Asks every member. Rejects only for settings that can never work. */
export async function askMembers(options: EtcdOptions): Promise<MemberFacts[]> {
  const checked = checkOptions(options);
  const tls = readTlsFiles(checked);
  return Promise.all(
    checked.endpoints.map(async endpoint => {
      const ask = (path: string) => get(`${endpoint}${path}`, tls);
      try {
        const [version, health] = await Promise.all([ask('/version'), ask('/health')]);
        return factsOf(endpoint, version, health);
      } catch (error) {
        return { endpoint, failure: reason(error) };
      }
    }),
  );
}

interface Said {
  readonly text: string;
  readonly date: string | undefined;
  readonly at: number;
}

function factsOf(endpoint: string, version: Said, health: Said): MemberFacts {
  const theirs = Date.parse(version.date ?? '');
  const said = objectIn(health.text);
  const isHealthy = String(said.health) === 'true';
  const number = textOr(objectIn(version.text).etcdserver);
  return {
    endpoint,
    ...(number === '' ? {} : { version: number }),
    health: isHealthy || textOr(said.reason, 'it says so itself'),
    ...(Number.isNaN(theirs) ? {} : { clock: { theirs, ours: version.at } }),
  };
}

function objectIn(text: string): Record<string, unknown> {
  try {
    return objectOrEmpty(parseJson(text));
  } catch {
    return {};
  }
}

function get(url: string, tls: ReturnType<typeof readTlsFiles>): Promise<Said> {
  const signal = AbortSignal.timeout(TIMEOUT);
  const files = tls && {
    ...(tls.rootCertificate ? { ca: tls.rootCertificate } : {}),
    ...(tls.certChain ? { cert: tls.certChain, key: tls.privateKey } : {}),
  };
  return new Promise((resolve, reject) => {
    const done = (answer: IncomingMessage): void => {
      const at = Date.now();
      textOf(answer).then(text => resolve({ text, date: answer.headers.date, at }), reject);
    };
    const options = { signal, agent: false, ...files } as const;
    const call = url.startsWith('https:') ? tlsRequest(url, options, done) : plainRequest(url, options, done);
    call.on('error', error =>
      reject(signal.aborted ? new Error(`no answer within ${TIMEOUT / 1_000} s`) : error),
    );
    call.end();
  });
}
