import type { RequestOptions } from 'node:http';
import type { DefinedNetwork } from '../docker/defined-network.js';
import { DockerEngine } from '../docker/engine.js';
import { callDocker, textOf } from '../docker/call.js';
import { objectOrEmpty, parseJson, textOr } from '../model/json.js';

/** What Docker says of itself. */
export interface DockerFacts {
  /** `28.5.1`; of Podman its own. */
  readonly version: string;
  /** All, whatever their driver. */
  readonly networks: readonly DefinedNetwork[];
}

const TIMEOUT = 4_000;

/** Asks Docker. Rejects where it does not answer. */
export async function askDocker(host: string): Promise<DockerFacts> {
  const target: RequestOptions = host.startsWith('unix://')
    ? { socketPath: host.slice('unix://'.length) }
    : {
        host: new URL(host.replace(/^tcp:/, 'http:')).hostname,
        port: new URL(host.replace(/^tcp:/, 'http:')).port,
      };
  const signal = AbortSignal.timeout(TIMEOUT);
  const response = await callDocker({ ...target, path: '/version', signal });
  const answer = objectOrEmpty(parseJson(await textOf(response)));
  if (response.statusCode !== 200) throw new Error(`Docker answered ${response.statusCode} to /version`);
  return {
    version: textOr(answer.Version, 'of unknown version'),
    networks: await new DockerEngine(host).definedNetworks(),
  };
}
