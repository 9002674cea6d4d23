import { loadConfig } from '../config.js';
import { RequestError } from '../errors.js';
import { InvalidFileError, titleOf, writeResources } from '../resources/write.js';
import type { WriteVerb } from '../resources/write-plan.js';
import { parseArguments, noMoreWords } from './arguments.js';
import { InvalidInputError } from './command.js';
import type { Run } from './command.js';
import { withDatastore } from './datastore.js';
import { FILE_OPTIONS, readResourceFiles } from './resource-input.js';

/** Of a file that is another kind of file there may be thousands. */
const MOST_MESSAGES = 100;

/**
 * `apply`, `create` and `replace`: one line for each resource. Exit status 0: all is as the files say; 1: refused or not
 * all done, the message says what was; 2: a file is not valid, and nothing was written.
 */
export function writing(verb: WriteVerb): Run {
  return async (args, env, out) => {
    const { values, words } = parseArguments(args, {
      ...FILE_OPTIONS,
      ...(verb === 'create' ? { 'skip-exists': { type: 'boolean' } as const } : {}),
    });
    noMoreWords(words);
    const resources = await readResourceFiles(values.filename, values.namespace);
    return withDatastore(loadConfig(env), async store => {
      try {
        await writeResources(store, resources, {
          verb,
          skipExists: values['skip-exists'] === true,
          done: (document, outcome) => out.line(`${titleOf(document)} ${outcome}`),
          note: text => out.error(`note: ${text}`),
        });
      } catch (error) {
        if (!(error instanceof InvalidFileError)) throw error;
        const text = ['nothing was written:', ...firstOf(error.messages)].join('\n');
        throw error.isRefusal ? new RequestError(text) : new InvalidInputError(text);
      }
      return 0;
    });
  };
}

/** As many messages as somebody reads, and how many there are besides. */
function firstOf(messages: readonly string[]): string[] {
  const more = messages.length - MOST_MESSAGES;
  return more <= 1 ? [...messages] : [...messages.slice(0, MOST_MESSAGES), `and ${more} mistakes more`];
}
