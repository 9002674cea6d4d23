import { describe, expect, it } from 'vitest';
import { parseCidr } from '../../src/ipam/cidr.js';
import { choosePool } from '../../src/ipam/default-pool.js';
import { parseAffinityState, parseHandle, parseIpamConfig } from '../../src/model/block.js';
import {
  formatDisappearing,
  formatNewPool,
  formatReturned,
  isDisappearing,
  parseIpPool,
} from '../../src/model/ip-pool.js';
import type { IpPool } from '../../src/model/ip-pool.js';
import { formatNewProfile } from '../../src/model/profile.js';
import {
  endpointName,
  formatNewEndpoint,
  hostInterfaceOf,
  parseEndpoint,
} from '../../src/model/workload-endpoint.js';

const NOW = new Date('2026-08-22T10:00:01Z');
const cidr = (text: string) => parseCidr(text) ?? { family: 4 as const, base: 0n, length: 0 };

function pool(text: string): IpPool {
  const parsed = parseIpPool(text);
  if (!parsed) throw new Error(text);
  return parsed;
}

describe('values of Calico', () => {
  it('an affinity without state is confirmed', () => {
    for (const text of ['', '{}', '{"state":""}', '{"state":null}'])
      expect(parseAffinityState(text)).toBe('confirmed');
    expect(parseAffinityState('{"state":"pendingDeletion"}')).toBe('pendingDeletion');
  });

  it('a missing configuration means automatic blocks, a missing field none', () => {
    expect(parseIpamConfig(undefined)).toMatchObject({
      autoAllocateBlocks: true,
      maxBlocksPerHost: 20,
      strictAffinity: false,
    });
    expect(parseIpamConfig('{"strict_affinity":true}')).toMatchObject({
      autoAllocateBlocks: false,
      strictAffinity: true,
    });
  });

  it('a handle counts addresses by block', () =>
    expect(parseHandle('{"block":{"10.0.0.0/26":2},"deleted":false}')).toEqual({ '10.0.0.0/26': 2 }));

  it('an endpoint has every dash of its parts doubled and is found by Felix', () => {
    const endpointId = '736ccfa7cd61ced93b67f7465ddb79633ea6d1f718a8ca7d9d19226f5d3521b0';
    expect(endpointName('node-1', endpointId)).toBe(`node--1-libnetwork-libnetwork-${endpointId}`);
    const endpoint = {
      node: 'node-1',
      endpointId,
      interfaceName: hostInterfaceOf(endpointId),
      mac: '02:42:c0:a8:54:80',
      addresses: ['192.168.84.128', 'fd80::1'],
      profiles: ['net1'],
      networkId: 'n1',
      labels: { foo: 'bar', 'projectcalico.org/namespace': 'evil' },
      ports: [],
    };
    const text = formatNewEndpoint(endpoint, NOW);
    expect(JSON.parse(text)).toMatchObject({
      kind: 'WorkloadEndpoint',
      metadata: {
        namespace: 'libnetwork',
        labels: {
          foo: 'bar',
          'projectcalico.org/namespace': 'libnetwork',
          'projectcalico.org/orchestrator': 'libnetwork',
        },
      },
      spec: {
        ipNetworks: ['192.168.84.128/32', 'fd80::1/128'],
        interfaceName: 'cali736ccfa7cd6',
        profiles: ['net1'],
        endpoint: endpointId,
      },
    });
    expect(parseEndpoint(text)).toMatchObject({ ...endpoint, labels: { foo: 'bar' } });
  });

  it('an endpoint that is written again keeps its ports and its place', () => {
    const endpoint = {
      node: 'node-1',
      endpointId: '736ccfa7cd61',
      interfaceName: 'cali736ccfa7cd6',
      mac: '02:42:c0:00:02:01',
      addresses: ['192.0.2.1'],
      profiles: ['net1'],
      networkId: 'f00',
      labels: {},
      ports: [{ protocol: 'tcp', hostPort: 8080, address: '192.0.2.1', port: 80 }],
      sandbox: { key: '/var/run/docker/netns/0123456789ab', place: 2 },
    } as const;
    const { ports, sandbox } = parseEndpoint(formatNewEndpoint(endpoint, NOW)) ?? {};
    expect({ ports, sandbox }).toEqual({ ports: endpoint.ports, sandbox: endpoint.sandbox });
  });

  it.each([
    ['cali736ccfa7cd6', '736ccfa7cd61', 'cali736ccfa7cd6'],
    // No interface of the host's own is ever judged, routed to or deleted for what somebody wrote.
    ['eth0', '736ccfa7cd61', 'cali736ccfa7cd6'],
    ['cali', '736ccfa7cd61', 'cali736ccfa7cd6'],
    ['cali1; flush ruleset', '736ccfa7cd61', 'cali736ccfa7cd6'],
    ['eth0', '../x', undefined],
    ['eth0', '', undefined],
  ])('an endpoint that says its interface is %s is at one of ours, or is none', (written, endpoint, is) => {
    const spec = { node: 'node-1', endpoint, interfaceName: written };
    const text = JSON.stringify({ kind: 'WorkloadEndpoint', metadata: { name: 'x' }, spec });
    expect(parseEndpoint(text)?.interfaceName).toBe(is);
  });

  it("a profile's rule selects what the profile labels", () => {
    expect(JSON.parse(formatNewProfile('my_net', NOW)).spec).toEqual({
      ingress: [{ action: 'Allow', source: { selector: 'has(my_net)' } }],
      egress: [{ action: 'Allow' }],
      labelsToApply: { my_net: '' },
    });
  });
});

describe('an IPPool', () => {
  const fresh = formatNewPool(
    {
      name: 'docker-192-0-2-0-24',
      cidr: cidr('192.0.2.0/24'),
      vxlanMode: 'Never',
      natOutgoing: true,
      madeForDocker: true,
    },
    NOW,
  );

  it('made on the fly is used only where it is named, and has every default written out', () => {
    expect(JSON.parse(fresh).spec).toEqual({
      cidr: '192.0.2.0/24',
      ipipMode: 'Never',
      vxlanMode: 'Never',
      natOutgoing: true,
      blockSize: 26,
      nodeSelector: 'all()',
      allowedUses: ['Workload', 'Tunnel'],
      assignmentMode: 'Manual',
    });
    expect(pool(fresh)).toMatchObject({ isOurs: true, automatic: false, disabled: false });
  });

  it('is no longer ours once somebody edited it', () => {
    const edited = JSON.parse(fresh);
    edited.spec.natOutgoing = false;
    expect(pool(JSON.stringify(edited)).isOurs).toBe(false);
  });

  it('goes in two steps and can come back between', () => {
    const going = pool(formatDisappearing(pool(fresh)));
    expect(going).toMatchObject({ disabled: true, isOurs: true });
    expect(isDisappearing(going)).toBe(true);
    const back = pool(formatReturned(going));
    expect(back).toMatchObject({ disabled: false, isOurs: true });
    expect(isDisappearing(back)).toBe(false);
  });

  it('smaller than a block is one block', () => {
    const small = formatNewPool(
      { name: 'p', cidr: cidr('192.0.2.0/28'), vxlanMode: 'Never', natOutgoing: true, madeForDocker: true },
      NOW,
    );
    expect(pool(small).blockSize).toBe(28);
  });

  it('of an older Calico gets the defaults of today', () => {
    expect(
      pool('{"kind":"IPPool","metadata":{"name":"p"},"spec":{"cidr":"10.0.0.0/16","ipipMode":"Always"}}'),
    ).toMatchObject({
      blockSize: 26,
      automatic: true,
      allowsWorkloads: true,
      isOurs: false,
    });
  });

  it.each([
    '{}',
    '{"metadata":{"name":"x"},"spec":{"cidr":"nonsense"}}',
    '{"metadata":{"name":"x"},"spec":{"cidr":"10.0.0.0/16","blockSize":8}}',
    'x',
  ])('%s is none', text => expect(parseIpPool(text)).toBeUndefined());
});

describe('the default pool', () => {
  it('avoids the routes of the host', () => {
    const wanted = cidr('192.168.0.0/16');
    expect(choosePool(wanted, [cidr('10.0.0.0/24')])).toEqual(wanted);
    const other = choosePool(wanted, [cidr('192.168.1.0/24'), cidr('172.16.0.0/12')]);
    expect(other).toEqual(cidr('10.224.0.0/12'));
    expect(choosePool(wanted, [cidr('0.0.0.0/0')])).toBeUndefined();
  });
});
