import { RequestError } from '../errors.js';
import type { JsonObject } from '../model/json.js';

/** Docker adds such options by itself, more with every version. */
const DOCKERS_OWN = /^com\.docker\.network\./;

/** Refuses a `--driver-opt` of `docker network connect` or `docker run --network` that nobody knows. */
export function checkEndpointOptions(options: JsonObject): void {
  for (const name of Object.keys(options))
    if (!DOCKERS_OWN.test(name))
      throw new RequestError(`unknown --driver-opt ${name}: the calico driver knows none`);
}
