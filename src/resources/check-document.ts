import { isObject, objectOrEmpty, textOr } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import type { Kind, ResourceDocument } from './kind.js';
import { kindNames, kindOfFile } from './kinds.js';
import { shown } from './problem.js';
import type { Say } from './problem.js';
import { anything, group, required, scalar, text } from './shape.js';
import type { Shape } from './shape.js';
import { annotations, wrongTierName } from './values.js';

export const API_VERSION = 'projectcalico.org/v3';
/** Fields of metadata that Calico, or Kubernetes' tools, set by themselves: kept, not looked at. */
const OTHERS = Object.fromEntries(
  [
    ...['generateName', 'generation', 'selfLink', 'managedFields', 'ownerReferences', 'finalizers'],
    ...['deletionTimestamp', 'deletionGracePeriodSeconds'],
  ].map(name => [name, anything]),
);
/** calicoctl prints it in quotes; who types it may not. */
const resourceVersion: Shape = scalar(value =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint'
    ? { value: String(value) }
    : { wrong: `${shown(value)} is no resourceVersion: take it out` },
);

/**
 * Checks one resource of a file by itself: kind, names, and every field. All that is wrong is said; the document comes
 * also where something is, and is undefined only where it cannot be told what it is.
 *
 * @param namespace of a resource that does not tell its own
 */
export function checkDocument(value: unknown, namespace: string, say: Say): ResourceDocument | undefined {
  if (!isObject(value)) {
    say({ path: [], text: `${shown(value)} is no resource: it has kind, apiVersion, metadata and spec` });
    return undefined;
  }
  const kind = kindOf(value, say);
  if (!kind) return undefined;
  const shape = group({
    kind: anything,
    apiVersion: anything,
    metadata: required(metadataOf(kind)),
    spec: kind.spec,
    status: anything,
  });
  const checked = objectOrEmpty(shape.check(value, [], say));
  const metadata = objectOrEmpty(checked.metadata);
  const called = textOr(metadata.name);
  const wrong = called === '' ? undefined : kind.wrongName(called);
  const name = kind.shownName?.(called) ?? called;
  if (wrong !== undefined) say({ path: ['metadata', 'name'], text: wrong });
  if (!kind.isNamespaced && metadata.namespace !== undefined)
    say({ path: ['metadata', 'namespace'], text: `${kind.kind} resources have no namespace: take it out` });
  const own = textOr(metadata.namespace) || namespace;
  const note = kind.namespaceNote?.(own);
  if (note !== undefined) say({ path: ['metadata', 'namespace'], text: note, isNote: true });
  return {
    ...{ kind, name, spec: objectOrEmpty(checked.spec), status: checked.status },
    metadata: { ...metadata, name, ...(kind.isNamespaced ? { namespace: own } : {}) },
    ...(kind.isNamespaced ? { namespace: own } : {}),
  };
}

function metadataOf(kind: Kind): Shape {
  return group({
    name: required(text(name => (name === '' ? 'is empty' : undefined))),
    namespace: text(name =>
      wrongTierName(name) === undefined ? undefined : `${shown(name)} is no namespace`,
    ),
    labels: kind.labels,
    annotations,
    uid: text(),
    resourceVersion,
    creationTimestamp: text(),
    ...OTHERS,
  });
}

function kindOf({ kind, apiVersion }: JsonObject, say: Say): Kind | undefined {
  const found = typeof kind === 'string' ? kindOfFile(kind) : undefined;
  if (apiVersion !== API_VERSION) say({ path: ['apiVersion'], text: wrongVersion(apiVersion) });
  if (found) return found;
  const problem =
    kind === undefined || kind === null
      ? 'is missing'
      : `${shown(kind)} is no kind that this command looks after: ${kindNames()}`;
  say({ path: ['kind'], text: problem });
  return undefined;
}

function wrongVersion(version: unknown): string {
  if (version === undefined || version === null) return `is missing: write ${API_VERSION}`;
  if (version === 'v1') return `v1 is Calico's before version 3: write the resource anew for ${API_VERSION}`;
  if (version === 'crd.projectcalico.org/v1')
    return `this is how Kubernetes keeps it, not how it is applied: write ${API_VERSION}`;
  return `${shown(version)} is not ${API_VERSION}`;
}
