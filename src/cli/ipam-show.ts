import { loadConfig } from '../config.js';
import { blocksPrefix, IPAM_CONFIG_KEY, resourcesPrefix } from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import { formatAddress, formatCidr, parseAddress } from '../ipam/cidr.js';
import { describeHolder, useOfAddress } from '../ipam/address-use.js';
import { describePool } from '../ipam/facts.js';
import { readBlock } from '../ipam/read-block.js';
import { percent, UsageCount } from '../ipam/usage.js';
import type { Usage } from '../ipam/usage.js';
import { parseIpamConfig } from '../model/block.js';
import { parseIpPool } from '../model/ip-pool.js';
import { chosen, noMoreWords, parseArguments } from './arguments.js';
import { UsageError } from './command.js';
import type { Output, Run } from './command.js';
import { containersHere } from './containers.js';
import { withDatastore } from './datastore.js';
import { FORMATS, printList } from './format.js';
import type { Format, ListColumn } from './format.js';
import { Waiting } from './waiting.js';

const COLUMNS: readonly ListColumn<Usage>[] = [
  { title: 'GROUPING', of: ({ kind }) => ({ pool: 'IP pool', block: '  block' })[kind as 'pool'] ?? kind },
  { title: 'CIDR', of: ({ cidr }) => cidr },
  { title: 'TOTAL', of: ({ total }) => String(total) },
  { title: 'IN USE', of: ({ used, total }) => `${used} (${percent(used, total)})` },
  { title: 'FREE', of: ({ used, total }) => String(total - BigInt(used)) },
  { title: 'BLOCKS', of: ({ blocks }) => (blocks === undefined ? '' : String(blocks)) },
  {
    title: 'NAME OR HOST',
    of: ({ name, isDisabled }) => (isDisabled ? { text: `${name} (disabled)`, color: 'yellow' } : name),
  },
];

/**
 * `ipam show`: how much of each pool is in use; with `--ip` all that is known of one address. Exit status 0; `--ip`: 1
 * where it is free.
 */
export const run: Run = async (args, env, out) => {
  const { values, words } = parseArguments(args, {
    'show-blocks': { type: 'boolean' },
    'show-configuration': { type: 'boolean' },
    ip: { type: 'string' },
    output: { type: 'string', short: 'o' },
  });
  noMoreWords(words);
  const format = chosen('-o', values.output, FORMATS, 'table');
  const asked = [values['show-blocks'], values['show-configuration'], values.ip];
  if (asked.filter(one => one !== undefined).length > 1)
    throw new UsageError('give one of --show-blocks, --ip and --show-configuration');
  const config = loadConfig(env);
  return withDatastore(config, async store => {
    if (values['show-configuration']) return showConfiguration(store, format, out);
    if (values.ip !== undefined) return showAddress(store, values.ip, config.dockerHost, format, out);
    const usage = await usageOf(store, values['show-blocks'] === true, out);
    const plain = usage.map(one => ({ ...one, total: one.total }));
    printList(out, format, COLUMNS, usage, plain);
    return 0;
  });
};

async function usageOf(store: Store, showsBlocks: boolean, out: Output): Promise<Usage[]> {
  const { entries: pools } = await store.list(resourcesPrefix('ippools'));
  const count = new UsageCount(
    pools.flatMap(({ value }) => parseIpPool(value) ?? []),
    showsBlocks,
  );
  const waiting = new Waiting(out);
  let blocks = 0;
  try {
    for (const family of [4, 6] as const)
      for await (const { entries } of store.pages(blocksPrefix(family))) {
        for (const entry of entries) {
          const block = readBlock(entry);
          if (block) count.add(block);
        }
        waiting.show(`${(blocks += entries.length)} blocks read`);
      }
  } finally {
    waiting.end();
  }
  return count.result();
}

async function showConfiguration(store: Store, format: Format, out: Output): Promise<number> {
  const { strictAffinity, autoAllocateBlocks, maxBlocksPerHost, cooldownSeconds } = parseIpamConfig(
    (await store.get(IPAM_CONFIG_KEY))?.value,
  );
  const rows: [string, string][] = [
    ['strictAffinity', String(strictAffinity)],
    ['autoAllocateBlocks', String(autoAllocateBlocks)],
    ['maxBlocksPerHost', `${maxBlocksPerHost} of each family`],
    ['ipCooldownSeconds', String(cooldownSeconds)],
  ];
  printList(out, format, PAIR, rows, {
    ...{ strictAffinity, autoAllocateBlocks, maxBlocksPerHost },
    ipCooldownSeconds: cooldownSeconds,
  });
  return 0;
}

const PAIR: readonly ListColumn<readonly [string, string]>[] = [
  { title: 'PROPERTY', of: ([name]) => name },
  { title: 'VALUE', of: ([, value]) => value },
];

async function showAddress(
  store: Store,
  text: string,
  dockerHost: string,
  format: Format,
  out: Output,
): Promise<number> {
  const address = parseAddress(text);
  if (!address) throw new UsageError(`--ip: "${text}" is no address`);
  const use = await useOfAddress(store, address);
  const { pool, block, holder } = use;
  const holds = describeHolder(use);
  const containers =
    use.endpoints.length > 0 ? await containersHere(dockerHost, out) : new Map<string, string>();
  const endpoints = use.endpoints.map(({ endpointId, node, profiles }) => {
    const container = containers.get(endpointId);
    return { ...(container === undefined ? {} : { container }), node, profiles, endpoint: endpointId };
  });
  const free = pool ? 'free' : 'free, and in no pool';
  const rows: [string, string][] = [
    ['address', formatAddress(address)],
    ['state', holds === undefined ? free : `in use: ${holds}`],
    ['pool', pool ? `${describePool(pool)}${pool.disabled ? ', disabled' : ''}` : 'none'],
    ['block', block ? `${formatCidr(block.cidr)}, ${block.affinity ?? 'without owner'}` : 'none yet'],
    ...(holder?.handle_id === undefined ? [] : [['handle', holder.handle_id] as [string, string]]),
    ...Object.entries(holder?.secondary ?? {}).map(([name, value]): [string, string] => [`  ${name}`, value]),
    ...endpoints.map(({ container, node, profiles, endpoint }): [string, string] => {
      const where = container === undefined ? '' : `container ${container}, `;
      return ['endpoint', `${where}host ${node}, network ${profiles.join(', ')}, ${endpoint}`];
    }),
  ];
  printList(out, format, PAIR, rows, {
    ...{ address: formatAddress(address), inUse: holds !== undefined, holder: holds, pool: pool?.name },
    ...{ block: block && formatCidr(block.cidr), affinity: block?.affinity ?? undefined },
    ...{ handle: holder?.handle_id, attributes: holder?.secondary, endpoints },
  });
  return holder ? 0 : 1;
}
