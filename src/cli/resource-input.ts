import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ENDPOINT_NAMESPACE } from '../datastore/keys.js';
import { RequestError, reason } from '../errors.js';
import { readResources } from '../resources/resource-file.js';
import type { FileResource } from '../resources/resource-file.js';
import { MAX_FILE } from '../resources/yaml-documents.js';
import { InvalidInputError, UsageError } from './command.js';

/** The namespace of what does not tell its own: that of all endpoints of ours. calicoctl's is `default`, where none is. */
export const DEFAULT_NAMESPACE = ENDPOINT_NAMESPACE;

/** The options that name files and a namespace. */
export const FILE_OPTIONS = {
  filename: { type: 'string', short: 'f', multiple: true },
  namespace: { type: 'string', short: 'n' },
} as const;

/**
 * All resources of the files; `-` is standard input, a folder what YAML and JSON is in it, as with calicoctl. Throws UsageError where there is no file, InvalidInputError where one
 * cannot be read or is no YAML.
 */
export async function readResourceFiles(
  files: readonly string[] | undefined,
  namespace: string | undefined,
): Promise<FileResource[]> {
  if (files === undefined || files.length === 0)
    throw new UsageError('-f FILE is missing (- is standard input)');
  const resources: FileResource[] = [];
  for (const file of (await Promise.all(files.map(filesOf))).flat()) {
    const name = nameOf(file);
    const text = await textOf(file, name);
    try {
      resources.push(...readResources(text, name, namespace ?? DEFAULT_NAMESPACE));
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      throw new InvalidInputError(error.message);
    }
  }
  if (resources.length === 0)
    throw new InvalidInputError(`there is no resource in ${files.map(nameOf).join(', ')}`);
  return resources;
}

function nameOf(file: string): string {
  return file === '-' ? 'standard input' : file;
}

/** The files that an argument of `-f` names; those of a folder by their names' order, not those of its folders. */
async function filesOf(file: string): Promise<string[]> {
  try {
    if (file === '-' || !(await stat(file)).isDirectory()) return [file];
    const names = (await readdir(file)).filter(name => /\.(ya?ml|json)$/.test(name)).sort();
    return names.map(name => join(file, name));
  } catch (error) {
    throw new InvalidInputError(`${file} cannot be read: ${fileTrouble(error)}`);
  }
}

function fileTrouble(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') return 'there is no such file';
  return code === 'EACCES' ? 'permission denied' : reason(error);
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
    throw new InvalidInputError(
      `${name} cannot be read: ${isText ? fileTrouble(error) : 'it is not UTF-8 text'}`,
    );
  }
}
