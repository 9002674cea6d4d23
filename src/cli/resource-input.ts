import { open } from 'node:fs/promises';
import { RequestError, reason } from '../errors.js';
import { readResources } from '../resources/resource-file.js';
import type { FileResource } from '../resources/resource-file.js';
import { MAX_FILE } from '../resources/yaml-documents.js';
import { InvalidInputError, UsageError } from './command.js';

/** The namespace of what does not tell its own: that of all endpoints of ours. calicoctl's is `default`, where none is. */
export const DEFAULT_NAMESPACE = 'libnetwork';

/** The options that name files and a namespace. */
export const FILE_OPTIONS = {
  filename: { type: 'string', short: 'f', multiple: true },
  namespace: { type: 'string', short: 'n' },
} as const;

/**
 * All resources of the files; `-` is standard input. Throws UsageError where there is no file, InvalidInputError where one
 * cannot be read or is no YAML.
 */
export async function readResourceFiles(
  files: readonly string[] | undefined,
  namespace: string | undefined,
): Promise<FileResource[]> {
  if (files === undefined || files.length === 0)
    throw new UsageError('-f FILE is missing (- is standard input)');
  const resources: FileResource[] = [];
  for (const file of files) {
    const name = file === '-' ? 'standard input' : file;
    const text = await textOf(file, name);
    try {
      resources.push(...readResources(text, name, namespace ?? DEFAULT_NAMESPACE));
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      throw new InvalidInputError(error.message);
    }
  }
  if (resources.length === 0) throw new InvalidInputError(`there is no resource in ${files.join(', ')}`);
  return resources;
}

/** The text of a file, read no further than a file may be long. */
async function textOf(file: string, name: string): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    const source = file === '-' ? process.stdin : (await open(file)).createReadStream();
    for await (const chunk of source as AsyncIterable<Buffer | string>) {
      const bytes = Buffer.from(chunk);
      length += bytes.length;
      if (length > MAX_FILE) throw new Error('it has more than 1 MB: split it into several files');
      chunks.push(bytes);
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch (error) {
    const isText = !(error instanceof TypeError);
    throw new InvalidInputError(`${name} cannot be read: ${isText ? reason(error) : 'it is not UTF-8 text'}`);
  }
}
