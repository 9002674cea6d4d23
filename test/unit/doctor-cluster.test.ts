import { describe, expect, it } from 'vitest';
import { judgeNetworks } from '../../src/doctor/networks.js';
import { judgePeers } from '../../src/doctor/peers.js';
import { parseDefinedNetwork } from '../../src/docker/defined-network.js';
import { parseIpPool } from '../../src/model/ip-pool.js';
import { parseNode } from '../../src/model/node.js';
import { newSharedNetwork } from '../../src/model/shared-network.js';
import { cidr } from './ipam-node.js';

function resource<T>(parse: (text: string) => T | undefined, kind: string, name: string, spec: object): T {
  const parsed = parse(
    JSON.stringify({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec }),
  );
  if (!parsed) throw new Error(`no ${kind}`);
  return parsed;
}

describe('other hosts', () => {
  const node = (name: string, address: string) =>
    resource(parseNode, 'Node', name, { bgp: { ipv4Address: address } });
  const pool = (range: string, more: object = {}) =>
    resource(parseIpPool, 'IPPool', 'p', { cidr: range, ...more });
  const NODES = [node('h1', '10.0.0.1/24'), node('h2', '10.0.0.2/24'), node('far', '10.9.0.3/24')];
  const blocks = (of: Record<string, string[]>) =>
    new Map(Object.entries(of).map(([name, ranges]) => [name, ranges.map(cidr)]));
  const judge = (of: Record<string, string[]>, pools = [pool('192.0.2.0/24')]) =>
    judgePeers('h1', NODES, blocks(of), pools).map(({ level, text }) => `${level} ${text}`);

  it('are well where there is a way to the blocks of each that is alive', () => {
    expect(judge({ h1: [] })).toEqual(['ok 0 are alive']);
    expect(judge({ h1: [], h2: ['192.0.2.0/26'] })).toEqual([
      'ok 1 are alive, and there is a way to the containers of each',
    ]);
  });

  it('are named where there is none, with the reason; not those without containers', () => {
    expect(judge({ h1: [], far: [] })[0]).toMatch(/^ok/);
    expect(judge({ h1: [], far: ['192.0.2.64/26'], h2: ['192.0.2.0/26'] })).toEqual([
      expect.stringMatching(
        /^warning containers on far: those of IPPool 192\.0\.2\.0\/24 are not reached: 10\.9\.0\.3 is in another subnet .* CrossSubnet$/,
      ),
    ]);
    expect(judge({ h1: [], ghost: ['192.0.2.64/26'] })).toEqual([
      'warning containers on ghost: not reached, as it has no Node: see the log of its daemon',
    ]);
  });

  it('are judged by the pools that they have blocks of', () => {
    const pools = [pool('198.51.100.0/24', { vxlanMode: 'Never' }), pool('fd80::/64')];
    expect(judge({ h1: [], h2: ['198.51.100.0/26'] }, pools)[0]).toMatch(/^ok/);
    expect(judge({ h1: [], h2: ['fd80::/122'] }, pools)[0]).toContain('its Node says no IPv6 address');
  });

  it('are not all named where there are many', () => {
    const many = Object.fromEntries(Array.from({ length: 9 }, (_, n) => [`g${n}`, ['192.0.2.64/26']]));
    const found = judge({ h1: [], ...many });
    expect(found).toHaveLength(6);
    expect(found[5]).toBe('warning and 4 more are not reached');
  });
});

describe('networks', () => {
  const listed = (name: string, subnet: string, driver = 'calico') =>
    parseDefinedNetwork({
      ...{ Id: `${name}${subnet}`, Name: name, Scope: 'local', Driver: driver },
      IPAM: { Driver: 'calico-ipam', Config: [{ Subnet: subnet }] },
    });
  const NET = listed('net', '192.0.2.0/24');
  const shared = newSharedNetwork(NET, 'h2');
  const judge = (...here: ReturnType<typeof listed>[]) =>
    judgeNetworks([shared], here).map(({ level, text }) => `${level} ${text}`);

  it('are well where the host has those of the cluster', () => {
    expect(judge(NET, listed('bridge', '172.17.0.0/16', 'bridge'))).toEqual([
      'ok 1 of the cluster, and this host has them all',
    ]);
    const removed = { ...shared, removed: { by: 'h2', at: '' } };
    expect(judgeNetworks([removed], [])[0]?.level).toBe('ok');
  });

  it('are named where one lacks, differs, or another driver has its name', () => {
    expect(judge()).toEqual(['warning network net of the cluster, made on h2, is not on this host']);
    expect(judge(listed('net', '198.51.100.0/24'))).toEqual([
      expect.stringContaining('they differ in --subnet'),
    ]);
    expect(judge(listed('net', '192.0.2.0/24', 'bridge'))).toEqual([
      expect.stringContaining('there is one of driver bridge with that name'),
    ]);
  });
});
