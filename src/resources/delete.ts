import type { Entry, Store } from '../datastore/store.js';
import { ConflictError, DatastoreError, reason, RequestError } from '../errors.js';
import { deletePool, whyPoolIsNeeded } from '../ipam/pool-removal.js';
import { parseIpPool } from '../model/ip-pool.js';
import { node } from './endpoint.js';
import { ipPool } from './ip-pool.js';
import type { Kind } from './kind.js';
import { fixedOrder, globalNetworkPolicy, networkPolicy, tier, tierOf } from './policy.js';
import { findResource, listResources, whyUnreadable } from './stored-resource.js';
import type { Found, StoredResource } from './stored-resource.js';

/** A resource that is to go. */
export interface Deletion {
  readonly kind: Kind;
  readonly namespace?: string | undefined;
  readonly name: string;
  /** Only while it is this one. */
  readonly resourceVersion?: string | undefined;
  /** What a message about it begins with: `file:line: `, or nothing. */
  readonly place: string;
}

export interface DeleteOptions {
  /** What is not there is no fault. */
  readonly skipNotExists: boolean;
  /** Pools that are in use, too, and what cannot be read. */
  readonly force: boolean;
  done(deletion: Deletion, outcome: 'deleted' | 'was not there'): void;
}

/**
 * Deletes resources. All are looked at before the first goes; tiers go last. Each is a transaction that compares what was
 * read. Throws RequestError with all that stands against it, where nothing was deleted; else what stopped it, and what is
 * left.
 */
export async function deleteResources(
  store: Store,
  deletions: readonly Deletion[],
  options: DeleteOptions,
): Promise<void> {
  const ordered = [
    ...deletions.filter(({ kind }) => kind !== tier),
    ...deletions.filter(({ kind }) => kind === tier),
  ];
  const found: { deletion: Deletion; what: Found }[] = [];
  const messages: string[] = [];
  for (const deletion of ordered) {
    const what = await findResource(store, deletion.kind, deletion.namespace, deletion.name);
    const why = await whyNot(store, deletion, what, ordered, options);
    if (why !== undefined) messages.push(`${deletion.place}${why}`);
    found.push({ deletion, what });
  }
  if (messages.length > 0)
    throw new RequestError([...(found.length > 1 ? ['nothing was deleted:'] : []), ...messages].join('\n'));
  let count = 0;
  for (const { deletion, what } of found) {
    const entry = what.stored?.entry ?? what.unreadable;
    try {
      if (what.stored && deletion.kind === ipPool) await deletePool(store, what.stored.entry, options.force);
      else if (entry) await carryOut(store, deletion, entry);
      options.done(deletion, entry ? 'deleted' : 'was not there');
      count += 1;
    } catch (error) {
      if (found.length === 1) throw error;
      const left = found.slice(count).map(one => title(one.deletion));
      const Failure = error instanceof DatastoreError ? DatastoreError : ConflictError;
      throw new Failure(
        `${reason(error)}\n${count} of ${found.length} are deleted; not deleted: ${left.join(', ')}`,
      );
    }
  }
}

function title({ kind, namespace, name }: Deletion): string {
  return `${kind.kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

async function whyNot(
  store: Store,
  deletion: Deletion,
  { stored, unreadable }: Found,
  all: readonly Deletion[],
  { skipNotExists, force }: DeleteOptions,
): Promise<string | undefined> {
  if (stored) return whyNotStored(store, deletion, stored, all, force);
  if (unreadable && force && deletion.kind.readOnly === undefined) return undefined;
  if (unreadable) return whyUnreadable(deletion.kind, deletion.name);
  return skipNotExists ? undefined : `${title(deletion)} does not exist`;
}

async function whyNotStored(
  store: Store,
  { kind, name, resourceVersion }: Deletion,
  { document, entry }: StoredResource,
  all: readonly Deletion[],
  force: boolean,
): Promise<string | undefined> {
  if (kind.readOnly !== undefined) return `${kind.kind} cannot be deleted: ${kind.readOnly}`;
  if (kind === node)
    return `a Node goes with all that its host holds: use calico-libnetwork node remove ${name} once the host is gone`;
  const found = document.metadata.resourceVersion;
  if (resourceVersion !== undefined && resourceVersion !== '' && resourceVersion !== found)
    return `${kind.kind} ${name} was changed since: its resourceVersion is ${String(found)} now and not ${resourceVersion}`;
  const pool = kind === ipPool && !force ? parseIpPool(entry.value) : undefined;
  if (pool) return whyPoolIsNeeded(store, pool);
  if (kind !== tier) return undefined;
  if (fixedOrder(name) !== undefined) return `Tier ${name} belongs to Calico itself and cannot be deleted`;
  for (const policies of [globalNetworkPolicy, networkPolicy]) {
    const { resources } = await listResources(store, policies);
    const inTier = resources
      .map(resource => resource.document)
      .filter(policy => tierOf(policy.spec) === name);
    const goes = (policy: (typeof inTier)[number]) =>
      all.some(
        other =>
          other.kind === policy.kind && other.name === policy.name && other.namespace === policy.namespace,
      );
    const staying = inTier.find(policy => !goes(policy));
    if (staying)
      return `Tier ${name} has policies, such as ${staying.kind.kind} ${staying.name}: delete these first`;
  }
  return undefined;
}

async function carryOut(store: Store, deletion: Deletion, { key, revision }: Entry): Promise<void> {
  const result = await store.transact({
    compare: [{ key, is: 'revision', revision }],
    then: [{ delete: key }],
    otherwise: [key],
  });
  // Gone already: by our own first try, or somebody else's.
  if (result.succeeded || !result.found.get(key)) return;
  throw new ConflictError(
    `${title(deletion)} was changed by somebody at this moment: look at it, and try again`,
  );
}
