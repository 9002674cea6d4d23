import { loadConfig } from '../config.js';
import type { Store } from '../datastore/store.js';
import { RequestError } from '../errors.js';
import type { JsonObject } from '../model/json.js';
import { API_VERSION } from '../resources/check-document.js';
import { ipamConfiguration } from '../resources/ipam.js';
import type { Kind, ResourceDocument } from '../resources/kind.js';
import { kindNames, kindOfWord } from '../resources/kinds.js';
import { findResource, listResources, printable, whyUnreadable } from '../resources/stored-resource.js';
import { chosen, parseArguments } from './arguments.js';
import { UsageError } from './command.js';
import type { Run } from './command.js';
import { withDatastore } from './datastore.js';
import { FORMATS, printList } from './format.js';
import { DEFAULT_NAMESPACE, FILE_OPTIONS, readResourceFiles } from './resource-input.js';

/** What was found, and how YAML and JSON show it. */
interface Found {
  readonly documents: readonly ResourceDocument[];
  readonly value: unknown;
}

/**
 * `get KIND [NAME…]` and `get -f FILE`. Exit status 0; 1: one that was named does not exist; 2: wrong usage. What is
 * printed as YAML or JSON can be given to `apply` as it is.
 */
export const run: Run = async (args, env, out) => {
  const { values, words } = parseArguments(args, {
    ...FILE_OPTIONS,
    output: { type: 'string', short: 'o' },
    'all-namespaces': { type: 'boolean', short: 'a' },
    // calicoctl's newer spelling.
    'every-namespace': { type: 'boolean', short: 'A' },
  });
  const format = chosen('-o', values.output, FORMATS, 'table');
  const [word, ...names] = words;
  if (word === undefined && !values.filename) throw new UsageError('get needs a kind, or -f FILE');
  if (word !== undefined && values.filename) throw new UsageError('give either KIND or -f FILE');
  const kind = word === undefined ? undefined : kindOrUsage(word);
  const namespace = values.namespace ?? DEFAULT_NAMESPACE;
  const isAll = values['all-namespaces'] === true || values['every-namespace'] === true;
  const wanted = kind ? undefined : await readResourceFiles(values.filename, namespace);
  const { documents, value } = await withDatastore(loadConfig(env), async (store): Promise<Found> => {
    if (wanted) return several(await Promise.all(wanted.map(({ document }) => one(store, document))));
    if (!kind) return several([]);
    const inside = kind.isNamespaced ? namespace : undefined;
    if (names.length > 0) {
      if (isAll) throw new UsageError('with a name, say its namespace (-n) and not --all-namespaces');
      return several(await Promise.all(names.map(name => one(store, { kind, name, namespace: inside }))));
    }
    const { resources, revision } = await listResources(store, kind, isAll ? undefined : inside);
    const all = resources.map(({ document }) => document);
    return { documents: all, value: listOf(kind, all, revision) };
  });
  const [first] = documents;
  if (format === 'yaml' || format === 'json') printList(out, format, [], [], value);
  else if (kind ?? first)
    printTables(kind, documents, isAll, format === 'wide', (columns, rows) =>
      printList(out, format, columns, rows),
    );
  return 0;
};

/** The kind of a word. Throws UsageError. */
export function kindOrUsage(word: string): Kind {
  const kind = kindOfWord(word);
  if (!kind) throw new UsageError(`there is no kind "${word}": ${kindNames()}`);
  return kind;
}

async function one(
  store: Store,
  wanted: { readonly kind: Kind; readonly name: string; readonly namespace?: string | undefined } | undefined,
): Promise<ResourceDocument> {
  if (!wanted) throw new RequestError('the file names something that is no resource');
  const { kind, name, namespace } = wanted;
  const { stored, unreadable } = await findResource(store, kind, namespace, name);
  if (stored) return stored.document;
  if (unreadable) throw new RequestError(whyUnreadable(kind, name));
  const place = namespace === undefined ? '' : ` in namespace ${namespace}`;
  const hint =
    kind === ipamConfiguration ? ', so the defaults apply: see ipam show --show-configuration' : '';
  throw new RequestError(`${kind.kind} ${name} does not exist${place}${hint}`);
}

function several(documents: readonly ResourceDocument[]): Found {
  const [first] = documents;
  return {
    documents,
    value:
      documents.length === 1 && first ? printable(first) : documents.map(document => printable(document)),
  };
}

function listOf({ kind }: Kind, documents: readonly ResourceDocument[], resourceVersion: string): JsonObject {
  return {
    apiVersion: API_VERSION,
    kind: `${kind}List`,
    metadata: { resourceVersion },
    items: documents.map(document => printable(document)),
  };
}

/** One table for each kind, in the order of the documents. */
function printTables(
  asked: Kind | undefined,
  documents: readonly ResourceDocument[],
  isAll: boolean,
  isWide: boolean,
  print: (columns: Kind['columns'], rows: readonly ResourceDocument[]) => void,
): void {
  const kinds = asked ? [asked] : [...new Set(documents.map(({ kind }) => kind))];
  for (const kind of kinds) {
    const hasNamespace = kind.isNamespaced && (isAll || isWide || !asked);
    const columns = hasNamespace
      ? [{ title: 'NAMESPACE', of: ({ namespace = '' }: ResourceDocument) => namespace }, ...kind.columns]
      : kind.columns;
    print(
      columns,
      documents.filter(document => document.kind === kind),
    );
  }
}
