import type { Store } from '../../src/datastore/store.js';
import { formatJson } from '../../src/model/json.js';
import type { Kind } from '../../src/resources/kind.js';
import { kindOfWord } from '../../src/resources/kinds.js';
import { readResources } from '../../src/resources/resource-file.js';
import { InvalidFileError, writeResources } from '../../src/resources/write.js';
import type { WriteVerb } from '../../src/resources/write-plan.js';

/** What writing a file does, a line for each resource; or all that is wrong with it. */
export async function writeTo(
  store: Store,
  text: string,
  verb: WriteVerb = 'apply',
  skipExists = false,
): Promise<string[]> {
  const lines: string[] = [];
  try {
    await writeResources(store, readResources(text, 'f.yaml', 'libnetwork'), {
      verb,
      skipExists,
      done: ({ kind, name }, outcome) => lines.push(`${kind.kind} ${name} ${outcome}`),
      note: () => undefined,
    });
    return lines;
  } catch (error) {
    if (error instanceof InvalidFileError) return [...error.messages];
    throw error;
  }
}

export function kindCalled(word: string): Kind {
  const kind = kindOfWord(word);
  if (!kind) throw new Error(`no kind ${word}`);
  return kind;
}

/** A resource as a file has it. */
export function resource(kind: string, name: string, spec: object, metadata: object = {}): string {
  return formatJson({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name, ...metadata }, spec });
}
