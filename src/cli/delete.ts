import { loadConfig } from '../config.js';
import { textOr } from '../model/json.js';
import { deleteResources } from '../resources/delete.js';
import type { Deletion } from '../resources/delete.js';
import { parseArguments } from './arguments.js';
import { InvalidInputError, UsageError } from './command.js';
import type { Run } from './command.js';
import { withDatastore } from './datastore.js';
import { kindOrUsage } from './get.js';
import { DEFAULT_NAMESPACE, FILE_OPTIONS, readResourceFiles } from './resource-input.js';

/**
 * `delete KIND NAME…` and `delete -f FILE`: one line for each. Exit status 0: they are gone; 1: refused, or not all gone,
 * the message says which; 2: wrong usage or a file that is not valid.
 */
export const run: Run = async (args, env, out) => {
  const { values, words } = parseArguments(args, {
    ...FILE_OPTIONS,
    'skip-not-exists': { type: 'boolean' },
    force: { type: 'boolean' },
  });
  const namespace = values.namespace ?? DEFAULT_NAMESPACE;
  const [word, ...names] = words;
  const deletions =
    word === undefined ? await ofFiles(values.filename, namespace) : named(word, names, namespace);
  if (word !== undefined && values.filename) throw new UsageError('give either KIND NAME or -f FILE');
  return withDatastore(loadConfig(env), async store => {
    await deleteResources(store, deletions, {
      skipNotExists: values['skip-not-exists'] === true,
      force: values.force === true,
      done: ({ kind, name }, outcome) => out.line(`${kind.kind} ${name} ${outcome}`),
    });
    return 0;
  });
};

function named(word: string, names: readonly string[], namespace: string): Deletion[] {
  const kind = kindOrUsage(word);
  if (names.length === 0) throw new UsageError(`delete ${word} needs the name of one, or several`);
  return names.map(name => ({ kind, name, place: '', ...(kind.isNamespaced ? { namespace } : {}) }));
}

/** What the file says of them besides kind and name does not matter, except the revision. */
async function ofFiles(files: readonly string[] | undefined, namespace: string): Promise<Deletion[]> {
  const resources = await readResourceFiles(files, namespace);
  return resources.map(({ document, problems, message }) => {
    const [problem] = problems.filter(({ path, isNote }) => isNote !== true && path[0] !== 'spec');
    if (!document || (problem && !problem.unknown))
      throw new InvalidInputError(`nothing was deleted:\n${problem ? message(problem) : ''}`);
    const { kind, name, namespace: own, metadata } = document;
    const place = message({ path: ['metadata', 'name'], text: '' }).replace(/metadata\.name: $/, '');
    return { kind, name, namespace: own, resourceVersion: textOr(metadata.resourceVersion), place };
  });
}
