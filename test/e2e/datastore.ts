import { isObject } from '../../src/model/json.js';
import type { Host } from '../bed/host.js';

/** Where the daemon's own etcd serves by default. */
export const EMBEDDED = 'http://127.0.0.1:23790';

/** A host's Node, which stays; who made a pool last, since when which daemon lives on which host: no two dumps agree. */
const VOLATILE =
  /^\/calico\/(libnetwork\/v1\/(pool-creation$|alive\/|hosts\/)|resources\/v3\/projectcalico\.org\/(nodes|tiers)\/)/;

/** What is in an etcd, by key, without what is there with every host and changes by itself. */
export async function dump(
  host: Host,
  endpoint = EMBEDDED,
): Promise<Readonly<Record<string, string | undefined>>> {
  const all = Object.entries(await everything(host, endpoint));
  return Object.fromEntries(all.filter(([key]) => !VOLATILE.test(key)));
}

/** Everything in an etcd, by key; `host` is where etcdctl runs. */
export async function everything(
  host: Host,
  endpoint = EMBEDDED,
): Promise<Readonly<Record<string, string | undefined>>> {
  const { stdout } = await host.run(
    [
      'etcdctl',
      '--endpoints',
      endpoint,
      '--command-timeout=10s',
      'get',
      '',
      '--from-key',
      '--write-out=json',
    ],
    { env: { ETCDCTL_API: '3' } },
  );
  const answer: unknown = JSON.parse(stdout);
  const entries = isObject(answer) && Array.isArray(answer['kvs']) ? (answer['kvs'] as unknown[]) : [];
  const pairs = entries.flatMap(entry => {
    if (!isObject(entry)) return [];
    const key = decode(entry['key']);
    return [[key, decode(entry['value'])] as const];
  });
  return Object.fromEntries(pairs);
}

/** The keys that contain `part`. */
export async function keys(host: Host, part = '', endpoint = EMBEDDED): Promise<string[]> {
  return Object.keys(await dump(host, endpoint)).filter(key => key.includes(part));
}

/** The addresses that are allocated, as their handles tell. */
export async function handles(host: Host, endpoint = EMBEDDED): Promise<string[]> {
  return keys(host, '/calico/ipam/v2/handle/', endpoint);
}

function decode(text: unknown): string {
  return typeof text === 'string' ? Buffer.from(text, 'base64').toString() : '';
}
