import { randomUUID } from 'node:crypto';
import { formatJson, isObject, parseJson, textMap, textOr } from './json.js';
import type { JsonObject } from './json.js';

/** The envelope of Calico's v3 resources. */
export interface Resource {
  readonly kind: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Everything in `metadata`, for writing it back whole. */
  readonly metadata: JsonObject;
  readonly spec: JsonObject;
  /** Fields beside kind, apiVersion, metadata and spec (`status`). */
  readonly rest: JsonObject;
}

/** Parses a resource; undefined where the text is none. */
export function parseResource(text: string): Resource | undefined {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || !isObject(value.metadata) || typeof value.metadata.name !== 'string')
    return undefined;
  const { kind, apiVersion: _version, metadata: _metadata, spec, ...rest } = value;
  return {
    kind: textOr(kind),
    name: value.metadata.name,
    labels: textMap(value.metadata.labels),
    annotations: textMap(value.metadata.annotations),
    metadata: value.metadata,
    spec: isObject(spec) ? spec : {},
    rest,
  };
}

/** The text of a new resource: `uid` and `creationTimestamp` are set, as a Calico client does on create. `rest`: fields
 *  beside kind, apiVersion, metadata and spec. */
export function formatNewResource(
  kind: string,
  metadata: JsonObject & { name: string },
  spec: JsonObject,
  now: Date,
  rest: JsonObject = {},
): string {
  return formatJson({
    kind,
    apiVersion: 'projectcalico.org/v3',
    metadata: { ...metadata, uid: randomUUID(), creationTimestamp: `${now.toISOString().slice(0, 19)}Z` },
    spec,
    ...rest,
  });
}

/** The text of a changed resource; what the change does not name stays as it was read. */
export function formatChangedResource(
  resource: Resource,
  change: { metadata?: JsonObject; spec?: JsonObject },
): string {
  const { resourceVersion: _version, ...metadata } = { ...resource.metadata, ...change.metadata };
  return formatJson({
    kind: resource.kind,
    apiVersion: 'projectcalico.org/v3',
    metadata,
    spec: change.spec ?? resource.spec,
    ...resource.rest,
  });
}
