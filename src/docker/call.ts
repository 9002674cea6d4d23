import { request } from 'node:http';
import type { IncomingMessage, RequestOptions } from 'node:http';
import { objectOrEmpty, parseJson, textOr } from '../model/json.js';

/** Docker answered, and has not done it; the message is Docker's own. */
export class DockerRefusal extends Error {
  /** `text`: the body of the answer. */
  constructor(
    readonly status: number,
    text: string,
  ) {
    super(`Docker says: ${messageIn(text) ?? `status ${status}`}`);
  }
}

/** Sends one request to Docker; resolves with the head of the answer, whatever its status. `body`: JSON text. */
export function callDocker(options: RequestOptions, body?: string): Promise<IncomingMessage> {
  const type = body === undefined ? {} : { 'Content-Type': 'application/json' };
  return new Promise((resolve, reject) => {
    const call = request({ agent: false, headers: { Host: 'docker', ...type }, ...options }, resolve);
    call.on('error', reject);
    call.end(body);
  });
}

/** The whole body of an answer. */
export async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const chunk of response as AsyncIterable<string>) text += chunk;
  return text;
}

/** What Docker writes of an error. */
function messageIn(text: string): string | undefined {
  try {
    return textOr(objectOrEmpty(parseJson(text)).message) || undefined;
  } catch {
    return undefined;
  }
}
