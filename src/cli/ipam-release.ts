import { loadConfig } from '../config.js';
import { ConflictError, RequestError } from '../errors.js';
import { describeHolder, releaseAddress, useOfAddress, whyInUse } from '../ipam/address-use.js';
import { formatAddress, parseAddress } from '../ipam/cidr.js';
import { createLogger } from '../log.js';
import { noMoreWords, parseArguments } from './arguments.js';
import { UsageError } from './command.js';
import type { Run } from './command.js';
import { withDatastore } from './datastore.js';

/**
 * `ipam release --ip=ADDRESS`: frees an address that a host left behind. Exit status 0: it is free, also where it was; 1: it
 * is, or may be, in use.
 */
export const run: Run = async (args, env, out) => {
  const { values, words } = parseArguments(args, { ip: { type: 'string' }, force: { type: 'boolean' } });
  noMoreWords(words);
  const address = parseAddress(values.ip ?? '');
  if (!address)
    throw new UsageError(values.ip === undefined ? '--ip is missing' : `"${values.ip}" is no address`);
  const force = values.force === true;
  return withDatastore(loadConfig(env), async store => {
    const text = formatAddress(address);
    const use = await useOfAddress(store, address);
    if (!use.holder) {
      out.line(`${text} is free already`);
      return 0;
    }
    const why = await whyInUse(store, use);
    if (why !== undefined && !force)
      throw new RequestError(
        `${text} is not released: ${why}; with --force it is released all the same, and another container may get it while this one still uses it`,
      );
    if (why !== undefined) out.error(`note: ${why}; released all the same, as --force says`);
    if (!(await releaseAddress(store, use, force, createLogger('silent'))))
      throw new ConflictError(`${text} is somebody else's by now: look again with ipam show --ip=${text}`);
    out.line(`${text} released (${describeHolder(use) ?? ''})`);
    return 0;
  });
};
