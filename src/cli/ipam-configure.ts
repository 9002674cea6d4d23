import { loadConfig } from '../config.js';
import { formatJson, numberOrZero } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { ipamConfiguration } from '../resources/ipam.js';
import { readResources } from '../resources/resource-file.js';
import { getResource } from '../resources/stored-resource.js';
import { InvalidFileError, writeResources } from '../resources/write.js';
import { noMoreWords, parseArguments } from './arguments.js';
import { UsageError } from './command.js';
import type { Run } from './command.js';
import { withDatastore } from './datastore.js';

/** The options, by the field each of them sets. */
const OPTIONS = {
  strictAffinity: 'strictaffinity',
  autoAllocateBlocks: 'autoallocate',
  maxBlocksPerHost: 'max-blocks-per-host',
} as const;

/** `ipam configure --strictaffinity=…`: changes what is named, keeps the rest. Exit status 0; 2: it does not fit together. */
export const run: Run = async (args, env, out) => {
  const { values, words } = parseArguments(
    args,
    Object.fromEntries(Object.values(OPTIONS).map(name => [name, { type: 'string' as const }])),
  );
  noMoreWords(words);
  const change = Object.entries(OPTIONS).flatMap(([field, option]) => {
    const text = values[option];
    return typeof text === 'string' ? [[field, parsed(option, text)] as const] : [];
  });
  if (change.length === 0) throw new UsageError('say what to change, such as --strictaffinity=true');
  return withDatastore(loadConfig(env), async store => {
    const stored = await getResource(store, ipamConfiguration, undefined, 'default');
    const spec: JsonObject = { ...stored?.document.spec, ...Object.fromEntries(change) };
    // A file may say so; here calicoctl refuses it, too.
    if (spec.strictAffinity !== true && numberOrZero(spec.maxBlocksPerHost) > 0)
      throw new UsageError(
        `--${OPTIONS.maxBlocksPerHost} needs --${OPTIONS.strictAffinity}=true; 0 takes the limit away`,
      );
    const resource = {
      ...{ apiVersion: 'projectcalico.org/v3', kind: 'IPAMConfiguration' },
      metadata: { name: 'default', resourceVersion: stored?.document.metadata.resourceVersion ?? null },
      spec,
    };
    try {
      await writeResources(store, readResources(formatJson(resource), '', ''), {
        ...{ verb: 'apply', skipExists: false, note: text => out.error(`note: ${text}`) },
        done: (_document, outcome) => out.line(`IPAM configuration ${outcome}`),
      });
    } catch (error) {
      if (!(error instanceof InvalidFileError)) throw error;
      throw new UsageError(error.messages.map(text => text.replace(/^:\d+: (spec\.)?/, '')).join('\n'));
    }
    return 0;
  });
};

function parsed(option: string, text: string): boolean | number {
  if (option === OPTIONS.maxBlocksPerHost) {
    if (!/^\d{1,9}$/.test(text)) throw new UsageError(`--${option} is a whole number, not "${text}"`);
    return Number(text);
  }
  if (text !== 'true' && text !== 'false')
    throw new UsageError(`--${option} is true or false, not "${text}"`);
  return text === 'true';
}
