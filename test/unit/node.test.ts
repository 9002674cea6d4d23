import { describe, expect, it } from 'vitest';
import { formatCidr } from '../../src/ipam/cidr.js';
import { formatChangedNode, formatNewNode, parseNode, tunnelMac } from '../../src/model/node.js';

const NOW = new Date('2026-08-22T10:00:01Z');

/** A Node as calico/node, Felix and an operator leave it. */
const FOREIGN = {
  kind: 'Node',
  apiVersion: 'projectcalico.org/v3',
  metadata: {
    name: 'node-1',
    uid: 'u',
    creationTimestamp: '2026-08-22T10:00:00Z',
    labels: { rack: 'r1' },
    annotations: { theirs: 'x' },
  },
  spec: {
    addresses: [
      { address: '10.0.0.1/24', type: 'CalicoNodeIP' },
      { address: '10.0.0.1', type: 'InternalIP' },
      { address: 'fd00::1/64', type: 'CalicoNodeIP' },
    ],
    bgp: { ipv4Address: '10.0.0.1/24', asNumber: 64513, routeReflectorClusterID: '1.0.0.1' },
    orchRefs: [{ nodeName: 'k1', orchestrator: 'k8s' }],
    wireguard: { interfaceIPv4Address: '10.1.1.1' },
  },
  status: { wireguardPublicKey: 'key' },
};
const parsed = (text: string | undefined): typeof FOREIGN => JSON.parse(text ?? '') as typeof FOREIGN;

describe("Calico's Node", () => {
  it('tells where the host is, and its end of the tunnel', () => {
    const spec = {
      ...FOREIGN.spec,
      ipv4VXLANTunnelAddr: '10.65.0.1',
      vxlanTunnelMACAddr: '66:AA:bb:cc:dd:ee',
    };
    const node = parseNode(JSON.stringify({ ...FOREIGN, spec }));
    expect(node?.addresses[4]?.address).toBe('10.0.0.1');
    expect(formatCidr(node?.addresses[4]?.subnet ?? { family: 4, base: 0n, length: 0 })).toBe('10.0.0.0/24');
    expect(node?.tunnels).toEqual({ 4: { address: '10.65.0.1', mac: '66:aa:bb:cc:dd:ee' } });
    expect(node?.addresses[6]).toBeUndefined();
  });

  it('has the MAC that Felix makes of its name where it says none', () => {
    expect(tunnelMac('node-1', 4)).toBe('66:b3:68:28:39:8e');
    expect(tunnelMac('node-1', 6)).not.toBe(tunnelMac('node-1', 4));
    const spec = { ipv4VXLANTunnelAddr: '10.65.0.1' };
    expect(parseNode(JSON.stringify({ ...FOREIGN, spec }))?.tunnels[4]?.mac).toBe('66:b3:68:28:39:8e');
  });

  it.each(['00:00:00:00:00:00', '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '66:00:00:00:00'])(
    'has the same where it says one that no card has: %s',
    mac => {
      const spec = { ipv4VXLANTunnelAddr: '10.65.0.1', vxlanTunnelMACAddr: mac };
      expect(parseNode(JSON.stringify({ ...FOREIGN, spec }))?.tunnels[4]?.mac).toBe('66:b3:68:28:39:8e');
    },
  );

  it.each(['0.0.0.0', '127.0.0.1', '224.0.0.1', '255.255.255.255', '::', '::1', 'ff02::1'])(
    'is nowhere for others by an address that no host has for them: %s',
    address => {
      const spec = {
        bgp: { ipv4Address: `${address}/24`, ipv6Address: `${address}/64` },
        ...{ ipv4VXLANTunnelAddr: address, ipv6VXLANTunnelAddr: address },
      };
      const node = parseNode(JSON.stringify({ ...FOREIGN, spec }));
      expect([node?.addresses, node?.tunnels]).toEqual([{}, {}]);
    },
  );

  it('falls back to the addresses of the list, as Felix does', () => {
    const addresses = [
      { address: '192.0.2.9', type: 'ExternalIP' },
      { address: '10.0.0.9', type: 'InternalIP' },
    ];
    const node = parseNode(JSON.stringify({ ...FOREIGN, spec: { addresses } }));
    expect(node?.addresses[4]?.address).toBe('10.0.0.9');
    expect(node?.addresses[4]?.subnet.length).toBe(32);
  });

  it('can be anything: what is no address is none', () => {
    for (const bgp of [null, 7, { ipv4Address: 'x' }, { ipv4Address: 7 }, { ipv4Address: 'fd00::1/64' }])
      expect(parseNode(JSON.stringify({ ...FOREIGN, spec: { bgp, addresses: 'x' } }))?.addresses).toEqual({});
    for (const text of ['', '7', 'null', '{}', '{"metadata":{}}']) expect(parseNode(text)).toBeUndefined();
  });

  it('keeps what others wrote when a field of it changes', () => {
    const tunnel = { address: '10.65.0.1', mac: '66:00:00:00:00:01' };
    const change = {
      addresses: { 4: '10.0.0.7/25' },
      detected: { 4: true },
      tunnels: { 4: tunnel },
    } as const;
    const changed = parsed(formatChangedNode(JSON.stringify(FOREIGN), change));
    expect(changed).toEqual({
      ...FOREIGN,
      metadata: {
        ...FOREIGN.metadata,
        annotations: { theirs: 'x', 'org.projectcalico.libnetwork/detected-ipv4': '10.0.0.7/25' },
      },
      spec: {
        ...FOREIGN.spec,
        bgp: { ...FOREIGN.spec.bgp, ipv4Address: '10.0.0.7/25' },
        addresses: [
          { address: '10.0.0.1', type: 'InternalIP' },
          { address: 'fd00::1/64', type: 'CalicoNodeIP' },
          { address: '10.0.0.7/25', type: 'CalicoNodeIP' },
        ],
        ipv4VXLANTunnelAddr: '10.65.0.1',
        vxlanTunnelMACAddr: '66:00:00:00:00:01',
      },
    });
    const back = { addresses: { 4: '10.0.0.1/24' }, detected: { 4: false }, tunnels: { 4: null } } as const;
    const again = parsed(formatChangedNode(JSON.stringify(changed), back));
    expect(again.metadata).toEqual(FOREIGN.metadata);
    expect({ ...again.spec, addresses: [] }).toEqual({ ...FOREIGN.spec, addresses: [] });
  });

  it('is new as Calico makes it', () => {
    const text = formatNewNode('node-1', { addresses: { 4: '10.0.0.1/24' }, detected: { 4: true } }, NOW);
    expect(parsed(text)).toMatchObject({
      kind: 'Node',
      metadata: { name: 'node-1', creationTimestamp: '2026-08-22T10:00:01Z' },
      spec: { bgp: { ipv4Address: '10.0.0.1/24' } },
      status: {},
    });
    expect(parseNode(text)?.detected).toEqual({ 4: '10.0.0.1/24' });
    expect(formatChangedNode('nonsense', {})).toBeUndefined();
  });
});
