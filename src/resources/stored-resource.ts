import { randomUUID } from 'node:crypto';
import { IPAM_CONFIG_KEY, resourcesPrefix } from '../datastore/keys.js';
import { etcdRevisionOf } from '../datastore/revision.js';
import type { Entry, Store } from '../datastore/store.js';
import { goTime } from '../ipam/block.js';
import { formatJson, isObject, parseJson, textOr } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { parseResource } from '../model/resource.js';
import { API_VERSION } from './check-document.js';
import { configOfSpec, ipamConfiguration, specOfConfig } from './ipam.js';
import type { Kind, ResourceDocument } from './kind.js';
import { globalNetworkPolicy, networkPolicy, storedPolicyNames, tierOf } from './policy.js';

/** How resources are kept in etcd, and read from there. */

/** A resource as it is in etcd. */
export interface StoredResource {
  readonly document: ResourceDocument;
  readonly entry: Entry;
}

function isPolicy(kind: Kind): boolean {
  return kind === globalNetworkPolicy || kind === networkPolicy;
}

/** What the keys of a kind begin with. */
function prefixOf(kind: Kind, namespace?: string): string {
  if (kind === ipamConfiguration) return IPAM_CONFIG_KEY;
  return `${resourcesPrefix(kind.plural)}${kind.isNamespaced && namespace !== undefined ? `${namespace}/` : ''}`;
}

/** The keys a resource may be at; a new one comes to the first. `spec`: of a policy, for its tier. */
export function keysOf(kind: Kind, namespace: string | undefined, name: string, spec?: JsonObject): string[] {
  const prefix = prefixOf(kind, namespace);
  if (kind === ipamConfiguration) return [prefix];
  const names = isPolicy(kind) ? storedPolicyNames(name, spec && tierOf(spec)) : [name];
  return names.map(stored => prefix + stored);
}

/** What is stored under a name. */
export interface Found {
  readonly stored?: StoredResource | undefined;
  /** Something is there, but no resource of the kind. */
  readonly unreadable?: Entry | undefined;
}

/** What is stored under the name of a resource, readable or not. One or two round trips. */
export async function findResource(
  store: Store,
  kind: Kind,
  namespace: string | undefined,
  name: string,
): Promise<Found> {
  let unreadable: Entry | undefined;
  for (const key of keysOf(kind, namespace, name)) {
    const entry = await store.get(key);
    const document = entry && parseStored(kind, entry);
    if (entry && document) return { stored: { document, entry } };
    unreadable ??= entry;
  }
  return { unreadable };
}

/** A resource as it is stored; undefined where there is none, or what is there cannot be read. One or two round trips. */
export async function getResource(
  store: Store,
  kind: Kind,
  namespace: string | undefined,
  name: string,
): Promise<StoredResource | undefined> {
  return (await findResource(store, kind, namespace, name)).stored;
}

/** What to do about something under a resource's name that is none. */
export function whyUnreadable(kind: Kind, name: string): string {
  return `what etcd has as ${kind.kind} ${name} cannot be read: see who wrote it; delete ${kind.kind.toLowerCase()} ${name} --force removes it`;
}

/**
 * All resources of a kind, of one namespace or, where that is undefined, of all, in the order of their keys. What cannot
 * be read is left out, as Calico does. One round trip per 1,000.
 */
export async function listResources(
  store: Store,
  kind: Kind,
  namespace?: string,
): Promise<{ readonly resources: StoredResource[]; readonly revision: string }> {
  const { entries, revision } = await store.list(prefixOf(kind, namespace));
  const resources = entries.flatMap(entry => {
    const document = parseStored(kind, entry);
    return document ? [{ document, entry }] : [];
  });
  return { resources, revision: etcdRevisionOf(revision) };
}

/** The resource in an entry; undefined where it is none. */
export function parseStored(kind: Kind, { key, value, revision }: Entry): ResourceDocument | undefined {
  const resourceVersion = etcdRevisionOf(revision);
  if (kind === ipamConfiguration) {
    const config = objectIn(value);
    const metadata = { name: 'default', resourceVersion };
    return key === IPAM_CONFIG_KEY && config
      ? { kind, name: 'default', metadata, spec: specOfConfig(config) }
      : undefined;
  }
  const resource = parseResource(value);
  const [name = '', namespace] = key.slice(resourcesPrefix(kind.plural).length).split('/').reverse();
  if (!resource || resource.name !== name || (namespace !== undefined) !== kind.isNamespaced)
    return undefined;
  const shown = kind.shownName?.(name) ?? name;
  return {
    ...{ kind, name: shown, spec: resource.spec, status: resource.rest.status },
    metadata: {
      ...resource.metadata,
      name: shown,
      resourceVersion,
      ...(namespace === undefined ? {} : { namespace }),
    },
    ...(namespace === undefined ? {} : { namespace }),
  };
}

/** The text for a key. A new resource gets what Calico's clients set on creation. */
export function formatStored(
  { kind, metadata, spec, status }: ResourceDocument,
  key: string,
  now: Date,
): string {
  if (kind === ipamConfiguration) return formatJson(configOfSpec(spec));
  const { resourceVersion: _version, selfLink: _link, ...kept } = metadata;
  const kindStatus = status ?? (kind.hasStatus === true ? {} : undefined);
  return formatJson({
    kind: kind.kind,
    apiVersion: API_VERSION,
    metadata: {
      ...kept,
      name: key.slice(key.lastIndexOf('/') + 1),
      uid: textOr(kept.uid) || randomUUID(),
      creationTimestamp: textOr(kept.creationTimestamp) || goTime(now),
    },
    spec,
    ...(kindStatus === undefined ? {} : { status: kindStatus }),
  });
}

/** A resource as `get -o yaml` prints it. */
export function printable({ kind, metadata, spec, status }: ResourceDocument): JsonObject {
  const hasStatus = isObject(status) && Object.keys(status).length > 0;
  return { apiVersion: API_VERSION, kind: kind.kind, metadata, spec, ...(hasStatus ? { status } : {}) };
}

function objectIn(text: string): JsonObject | undefined {
  try {
    const value = parseJson(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
