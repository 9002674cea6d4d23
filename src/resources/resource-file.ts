import { isObject, textOr } from '../model/json.js';
import { checkDocument } from './check-document.js';
import type { ResourceDocument } from './kind.js';
import { fieldText } from './problem.js';
import type { Path, Problem } from './problem.js';
import { parseYamlDocuments } from './yaml-documents.js';
import type { YamlDocument } from './yaml-documents.js';

/** One resource of a file. */
export interface FileResource {
  /** Undefined where it cannot be told what it is; there are problems then. */
  readonly document: ResourceDocument | undefined;
  /** As it is in the file, without any change. */
  readonly raw: unknown;
  readonly problems: readonly Problem[];
  /** A problem for a person: `pools.yaml:7: spec.cidr: …`. */
  message(problem: Problem): string;
}

/**
 * The resources of a text, in its order: several documents, lists (`kind: IPPoolList`, `kind: List`, `get`'s output of
 * several) and single ones. All that is wrong with each by itself is in its problems.
 *
 * @param file what the text is called in messages
 * @param namespace of resources that do not tell their own
 * @throws RequestError where it is no YAML, or too much of it
 */
export function readResources(text: string, file: string, namespace: string): FileResource[] {
  return parseYamlDocuments(text, file).flatMap(document =>
    partsOf(document.value, []).map(({ value, path }) => resourceAt(document, path, value, file, namespace)),
  );
}

function partsOf(value: unknown, path: Path): { value: unknown; path: Path }[] {
  if (Array.isArray(value)) return value.flatMap((item: unknown, index) => partsOf(item, [...path, index]));
  if (
    isObject(value) &&
    /List$/.test(textOr(value.kind)) &&
    (value.items === null || Array.isArray(value.items))
  )
    return partsOf(value.items ?? [], [...path, 'items']);
  return [{ value, path }];
}

function resourceAt(
  { lineOf }: YamlDocument,
  base: Path,
  raw: unknown,
  file: string,
  namespace: string,
): FileResource {
  const problems: Problem[] = [];
  const document = checkDocument(raw, namespace, problem => problems.push(problem));
  const message = ({ path, text }: Problem) => {
    const field = path.length === 0 ? '' : `${fieldText(path)}: `;
    return `${file}:${lineOf([...base, ...path])}: ${field}${text}`;
  };
  return { document, raw, problems, message };
}
