import { aliveKey, endpointKey, HANDLES_PREFIX, ownerKey } from '../datastore/keys.js';
import type { Compare, Entry, Store } from '../datastore/store.js';
import { ConflictError } from '../errors.js';
import { endpointHandlePrefix, parseEndpointHandle } from '../ipam/handles.js';
import { formatJson, isObject, parseJson } from '../model/json.js';
import { parsePresence } from '../model/presence.js';
import { endpointNamePrefix, parseEndpoint } from '../model/workload-endpoint.js';

const ATTEMPTS = 5;

/**
 * Which host the things of a node's name belong to, whether it lives or not. A host that is cut off is not seen to live,
 * and its containers run: a new host with its name would take their endpoints for its own, and free them.
 */
export class NameOwner {
  constructor(
    private readonly store: Store,
    private readonly node: string,
    /** Of this host; see `host-id.ts`. */
    private readonly id: string,
  ) {}

  /**
   * Makes the name this host's, for good, and answers with the revision that says so. Undefined where it is another's that
   * still has containers or addresses: one round trip where it is ours already, a few more otherwise. Throws
   * DatastoreError, and ConflictError where another live host has the name.
   */
  async take(): Promise<string | undefined> {
    const key = ownerKey(this.node);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entry = await this.store.get(key);
      const owner = entry && idIn(entry.value);
      if (owner === this.id) return entry?.revision;
      if (owner !== undefined && (await this.hasAnything())) return undefined;
      // Of two hosts that start at once, one may be alive by now; it has nothing yet that would keep its name.
      const alive = await this.store.get(aliveKey(this.node));
      const other = alive && parsePresence(alive.value);
      if (other && other.id !== this.id)
        throw new ConflictError(`another live host calls itself ${this.node} (since ${other.since})`);
      const compare = [asRead(key, entry), asRead(aliveKey(this.node), alive)];
      const value = formatJson({ id: this.id });
      const { succeeded, revision } = await this.store.transact({ compare, then: [{ put: key, value }] });
      if (succeeded) return revision;
    }
    throw new ConflictError(`${key} in etcd is being written by others`);
  }

  private async hasAnything(): Promise<boolean> {
    const { node, store } = this;
    const endpoints = await store.list(endpointKey(endpointNamePrefix(node)));
    if (endpoints.entries.some(({ value }) => parseEndpoint(value)?.node === node)) return true;
    const handles = await store.list(HANDLES_PREFIX + endpointHandlePrefix(node));
    return handles.entries.some(
      ({ key }) => parseEndpointHandle(key.slice(HANDLES_PREFIX.length))?.node === node,
    );
  }
}

function asRead(key: string, entry: Entry | undefined): Compare {
  return entry ? { key, is: 'revision', revision: entry.revision } : { key, is: 'absent' };
}

function idIn(text: string): string | undefined {
  try {
    const value = parseJson(text);
    return isObject(value) && typeof value.id === 'string' ? value.id : undefined;
  } catch {
    return undefined;
  }
}
