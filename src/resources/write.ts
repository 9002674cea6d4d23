import type { Store } from '../datastore/store.js';
import { ConflictError, DatastoreError, reason } from '../errors.js';
import type { ResourceDocument } from './kind.js';
import type { FileResource } from './resource-file.js';
import { tier } from './policy.js';
import { Surroundings } from './surroundings.js';
import { planWrite } from './write-plan.js';
import type { WritePlan, WriteVerb } from './write-plan.js';

/** Others may change a resource between our look and our write. */
const ATTEMPTS = 5;

export interface WriteOptions {
  readonly verb: WriteVerb;
  /** `create`: what is there already is no fault. */
  readonly skipExists: boolean;
  /** Told of each resource once it is as the file says. */
  done(document: ResourceDocument, outcome: WritePlan['outcome']): void;
  /** Told of what a person should know besides, before anything is written. */
  note(text: string): void;
}

/** The resources of a file cannot be written, and none was. */
export class InvalidFileError extends Error {
  /** `isRefusal`: the files are valid; what the datastore has stands against them. */
  constructor(
    readonly messages: readonly string[],
    readonly isRefusal = false,
  ) {
    super(messages.join('\n'));
  }
}

/**
 * Writes the resources of files. All are checked, against each other too, before the first is written; each is then one
 * transaction that compares what the check relied on. Tiers come first, whatever the order.
 *
 * @throws InvalidFileError with all that is wrong, where nothing was written; ConflictError that says what was not
 * written, where the datastore or others came in between
 */
export async function writeResources(
  store: Store,
  resources: readonly FileResource[],
  options: WriteOptions,
): Promise<void> {
  const ordered = inOrder(resources);
  const messages = twice(ordered);
  let isRefusal = messages.length === 0;
  const around = await Surroundings.read(store);
  const plans: { resource: FileResource; plan: WritePlan }[] = [];
  for (const resource of ordered) {
    const plan = await planWrite(store, options.verb, resource, around, options.skipExists);
    if ('problems' in plan) {
      messages.push(...plan.problems.map(problem => resource.message(problem)));
      isRefusal &&= plan.problems.every(problem => problem.isRefusal === true);
    } else plans.push({ resource, plan });
  }
  if (messages.length > 0) throw new InvalidFileError(messages, isRefusal);
  for (const { problems, message } of ordered)
    for (const problem of problems.filter(({ isNote }) => isNote)) options.note(message(problem));
  let written = 0;
  for (const { resource, plan } of plans) {
    try {
      const { outcome } = await carryOut(store, resource, plan, options);
      if (resource.document) options.done(resource.document, outcome);
      written += 1;
    } catch (error) {
      if (plans.length === 1) throw error;
      const left = plans.slice(written).map(({ resource: { document } }) => titleOf(document));
      const Failure = error instanceof DatastoreError ? DatastoreError : ConflictError;
      throw new Failure(
        `${reason(error)}\n${written} of ${plans.length} are written; not written: ${left.join(', ')}`,
      );
    }
  }
}

/** What a resource is called in a message. */
export function titleOf(document: ResourceDocument | undefined): string {
  if (!document) return 'a resource';
  const { kind, name, namespace } = document;
  return `${kind.kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

async function carryOut(
  store: Store,
  resource: FileResource,
  first: WritePlan,
  { verb, skipExists }: WriteOptions,
): Promise<WritePlan> {
  let plan = first;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    if (!('transaction' in plan)) return plan;
    const result = await store.transact(plan.transaction);
    // An earlier try of ours may have been applied, its answer lost.
    if (result.succeeded || result.found.get(plan.key)?.value === plan.value) return plan;
    const next = await planWrite(store, verb, resource, await Surroundings.read(store), skipExists);
    if ('problems' in next)
      throw new ConflictError(next.problems.map(problem => resource.message(problem)).join('\n'));
    plan = next;
  }
  throw new ConflictError(
    `${titleOf(resource.document)} is being changed by others at this moment: try again`,
  );
}

function inOrder(resources: readonly FileResource[]): FileResource[] {
  const isTier = ({ document }: FileResource) => document?.kind === tier;
  return [...resources.filter(isTier), ...resources.filter(resource => !isTier(resource))];
}

/** What is there twice. */
function twice(resources: readonly FileResource[]): string[] {
  const seen = new Set<string>();
  return resources.flatMap(({ document, message }) => {
    if (!document || document.name === '') return [];
    const title = titleOf(document);
    if (!seen.has(title)) {
      seen.add(title);
      return [];
    }
    return [message({ path: ['metadata', 'name'], text: `${title} is there twice: remove one` })];
  });
}
