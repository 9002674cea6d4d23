import fc from 'fast-check';
import { assignAt, createBlock } from '../../src/ipam/block.js';
import { formatBlock } from '../../src/model/block.js';
import { formatNewPool } from '../../src/model/ip-pool.js';
import { formatNetworkRecord } from '../../src/model/network-record.js';
import { formatNewProfile } from '../../src/model/profile.js';
import { formatChangedEndpoint, formatNewEndpoint } from '../../src/model/workload-endpoint.js';
import { cidr } from '../unit/ipam-node.js';
import { anyText, mutated } from './garbage.js';

/** When the samples were made. */
export const NOW = new Date('2026-08-22T10:00:01Z');

/** A block of eight with two addresses in use, one of them nobody knows whose. */
export function sampleBlock(owner = 'a', range = '10.0.0.0/29') {
  const block = createBlock(cidr(range), owner, NOW);
  return assignAt(assignAt(block, 0, { handle_id: 'h', secondary: { node: owner } }), 3, {});
}

const endpoint = {
  node: 'a',
  endpointId: 'e1',
  interfaceName: 'calie1',
  mac: '02:42:00:00:00:01',
  addresses: ['10.0.0.3', 'fd80::3'],
  profiles: ['net1'],
  networkId: 'n1',
  labels: { role: 'db' },
  ports: [{ protocol: 'tcp', hostPort: 8080, address: '10.0.0.3', port: 80 }],
  sandbox: { key: '/var/run/docker/netns/1', place: 1 },
} as const;
const record = {
  id: 'n1',
  node: 'a',
  name: 'net1',
  created: '2026-08-22T10:00:01Z',
  internal: false,
  subnets: [{ cidr: '10.0.0.0/24', range: '10.0.0.128/25' }],
  options: { mtu: '1400' },
  rest: {},
};
const pool = {
  name: 'p',
  cidr: cidr('10.0.0.0/24'),
  vxlanMode: 'Never',
  natOutgoing: true,
  madeForDocker: true,
} as const;

/** A text of ours as a value to mutate. Numbers for bigint: what is made of it has to be JSON again. */
export const sampleOf = (text: string): unknown => JSON.parse(text);
/** One value of each kind, as it stands in etcd. */
export const texts = {
  block: formatBlock(sampleBlock()),
  handle: '{"block":{"10.0.0.0/29":1},"deleted":false}',
  affinity: '{"state":"confirmed","deleted":false}',
  pool: formatNewPool(pool, NOW),
  config: '{"strict_affinity":false,"auto_allocate_blocks":true,"maxBlocksPerHost":20,"ipCooldownSeconds":0}',
  endpoint: formatNewEndpoint({ ...endpoint, ports: [] }, NOW),
  endpointInUse: formatChangedEndpoint(formatNewEndpoint(endpoint, NOW), endpoint) ?? '',
  record: formatNetworkRecord(record),
  profile: formatNewProfile('net1', NOW),
};
/** Text close to a sample, or any. */
export const damaged = (name: keyof typeof texts) => fc.oneof(mutated(sampleOf(texts[name])), anyText);
