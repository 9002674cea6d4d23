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
import type { ListColumn } from './format.js';
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
  const config = loadConfig(env);
  return withDatastore(config, async store => {
    if (values['show-configuration']) return showConfiguration(store, out);
    if (values.ip !== undefined) return showAddress(store, values.ip, config.dockerHost, out);
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

async function showConfiguration(store: Store, out: Output): Promise<number> {
  const { strictAffinity, autoAllocateBlocks, maxBlocksPerHost, cooldownSeconds } = parseIpamConfig(
    (await store.get(IPAM_CONFIG_KEY))?.value,
  );
  printList(out, 'table', PAIR, [
    ['strictAffinity', String(strictAffinity)],
    ['autoAllocateBlocks', String(autoAllocateBlocks)],
    ['maxBlocksPerHost', `${maxBlocksPerHost} of each family`],
    ['ipCooldownSeconds', String(cooldownSeconds)],
  ]);
  return 0;
}

const PAIR: readonly ListColumn<readonly [string, string]>[] = [
  { title: 'PROPERTY', of: ([name]) => name },
  { title: 'VALUE', of: ([, value]) => value },
];

async function showAddress(store: Store, text: string, dockerHost: string, out: Output): Promise<number> {
  const address = parseAddress(text);
  if (!address) throw new UsageError(`--ip: "${text}" is no address`);
  const use = await useOfAddress(store, address);
  const { pool, block, endpoints, holder } = use;
  const rows: [string, string][] = [
    ['address', formatAddress(address)],
    ['state', describeHolder(use) === undefined ? 'free' : `in use: ${describeHolder(use)}`],
    ['pool', pool ? `${describePool(pool)}${pool.disabled ? ', disabled' : ''}` : 'none'],
    ['block', block ? `${formatCidr(block.cidr)}, ${block.affinity ?? 'without owner'}` : 'none yet'],
    ...(holder?.handle_id === undefined ? [] : [['handle', holder.handle_id] as [string, string]]),
    ...Object.entries(holder?.secondary ?? {}).map(([name, value]): [string, string] => [`  ${name}`, value]),
  ];
  const containers = endpoints.length > 0 ? await containersHere(dockerHost, out) : new Map<string, string>();
  for (const { endpointId, node, profiles } of endpoints) {
    const container = containers.get(endpointId);
    const where = container === undefined ? '' : `container ${container}, `;
    rows.push(['endpoint', `${where}host ${node}, network ${profiles.join(', ')}, ${endpointId}`]);
  }
  printList(out, 'table', PAIR, rows);
  return holder ? 0 : 1;
}
