import { isDeepStrictEqual } from 'node:util';
import type { Store, Transaction } from '../datastore/store.js';
import { isObject, objectOrEmpty, parseJson } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { checkFitting, withKept } from './fitting.js';
import type { ResourceDocument } from './kind.js';
import type { Path, Problem } from './problem.js';
import type { FileResource } from './resource-file.js';
import { merged } from './shape.js';
import { findResource, formatStored, keysOf, printable, whyUnreadable } from './stored-resource.js';
import type { StoredResource } from './stored-resource.js';
import type { Surroundings } from './surroundings.js';

export type WriteVerb = 'apply' | 'create' | 'replace';

/** What is to be done with one resource of a file. */
export type WritePlan =
  | {
      readonly outcome: 'created' | 'changed';
      readonly key: string;
      readonly value: string;
      readonly transaction: Transaction;
    }
  /** Nothing is to be written: all is so already; or (`create --skip-exists`) there is one. */
  | { readonly outcome: 'unchanged' | 'skipped' };

/** What stands against it. */
export interface Refusal {
  readonly problems: readonly Problem[];
}

/**
 * Decides what has to be written for a resource to be as its file says. A field of the file that we do not know is fine
 * where it is stored just so; a resource that is stored just so is fine whatever it says.
 *
 * Two round trips, for a new pool more.
 */
export async function planWrite(
  store: Store,
  verb: WriteVerb,
  { document, raw, problems: own }: FileResource,
  around: Surroundings,
  skipExists = false,
): Promise<WritePlan | Refusal> {
  if (!document) return { problems: own };
  const { kind, name, namespace } = document;
  const title = `${kind.kind} ${name}`;
  if (kind.readOnly !== undefined)
    return { problems: [{ path: ['kind'], text: `${kind.kind} cannot be written: ${kind.readOnly}` }] };
  const isNamed = !own.some(
    ({ path }) => path[0] === 'metadata' && (path.length === 1 || path[1] === 'name'),
  );
  const { stored, unreadable } = isNamed ? await findResource(store, kind, namespace, name) : {};
  if (stored && verb === 'create')
    return skipExists
      ? { outcome: 'skipped' }
      : { problems: [refusal([], `${title} exists already: use apply or replace`)] };
  if (stored && isSame(raw, stored.document)) return { outcome: 'unchanged' };
  const problems = own.filter(problem => problem.isNote !== true && !isStoredSo(problem, stored));
  if (unreadable) problems.push(refusal([], whyUnreadable(kind, name)));
  else if (!stored && verb === 'replace' && isNamed)
    problems.push(refusal([], `${title} does not exist: use apply or create`));
  if (problems.length > 0) return { problems };
  const fresh = desired(document, stored?.document);
  const keys = keysOf(kind, namespace, name, fresh.spec);
  const key = stored?.entry.key ?? keys[0] ?? '';
  const value = formatStored(fresh, key, new Date());
  if (stored && isDeepStrictEqual(parseJson(value), parseJson(stored.entry.value)))
    return { outcome: 'unchanged' };
  const stale = stored && staleness(document, stored);
  if (stale) return { problems: [stale] };
  const besides = await checkFitting(fresh, stored?.document, around, problem => problems.push(problem));
  if (problems.length > 0) return { problems };
  around.add(fresh);
  const compare = stored
    ? [{ key, is: 'revision', revision: stored.entry.revision } as const]
    : keys.map(one => ({ key: one, is: 'absent' }) as const);
  const transaction: Transaction = {
    compare: [...compare, ...besides.compare],
    then: [{ put: key, value }, ...besides.then],
    otherwise: [key],
  };
  return { outcome: stored ? 'changed' : 'created', key, value, transaction };
}

/** The resource as it is to be stored. */
function desired(document: ResourceDocument, stored: ResourceDocument | undefined): ResourceDocument {
  const { kind, metadata, status } = document;
  const kept = withKept(document, stored?.spec);
  const whole = objectOrEmpty(stored ? merged(kind.spec, kept, stored.spec) : kept);
  const spec = kind.complete?.(whole) ?? whole;
  const labels = { ...objectOrEmpty(metadata.labels), ...kind.ownLabels?.(spec) };
  return {
    ...document,
    spec,
    status: stored ? stored.status : status,
    metadata: {
      ...others(stored?.metadata),
      ...metadata,
      ...(Object.keys(labels).length > 0 ? { labels } : {}),
      ...(stored ? { uid: stored.metadata.uid, creationTimestamp: stored.metadata.creationTimestamp } : {}),
    },
  };
}

/** What of stored metadata stays although a file does not tell it. */
function others(metadata: JsonObject = {}): JsonObject {
  const { labels: _labels, annotations: _annotations, ...rest } = metadata;
  return rest;
}

/** True where a document is just what `get` prints, whatever the revision. */
function isSame(raw: unknown, stored: ResourceDocument): boolean {
  return isDeepStrictEqual(comparable(raw), comparable(printable(stored)));
}

function comparable(value: unknown): unknown {
  const { metadata, status: _status, ...rest } = objectOrEmpty(value);
  const { resourceVersion: _version, ...named } = objectOrEmpty(metadata);
  return { ...rest, metadata: named };
}

/** True where a problem is a field we do not know, and the stored resource has the very same. */
function isStoredSo({ path, unknown }: Problem, stored: StoredResource | undefined): boolean {
  if (!unknown || !stored) return false;
  let value: unknown = printable(stored.document);
  for (const part of path) {
    if (Array.isArray(value) && typeof part === 'number') value = value[part];
    else value = isObject(value) && Object.hasOwn(value, part) ? value[part] : undefined;
  }
  return value !== undefined && isDeepStrictEqual(value, unknown.value);
}

/** Somebody has changed it since the file's `resourceVersion` was read. */
function staleness({ metadata }: ResourceDocument, stored: StoredResource): Problem | undefined {
  const { resourceVersion: asked } = metadata;
  const { resourceVersion: found } = stored.document.metadata;
  if (asked === undefined || asked === '' || asked === found) return undefined;
  return refusal(
    ['metadata', 'resourceVersion'],
    `somebody has changed it since: it is ${String(found)} now and not ${String(asked)}; get it again, or take resourceVersion out to overwrite`,
  );
}

function refusal(path: Path, text: string): Problem {
  return { path, text, isRefusal: true };
}
