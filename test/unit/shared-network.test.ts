import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRequest, parseDefinedNetwork } from '../../src/docker/defined-network.js';
import {
  differences,
  formatSharedNetwork,
  newSharedNetwork,
  parseSharedNetwork,
} from '../../src/model/shared-network.js';

/** As 20.10, 26 and 28 list it, without what they add of their own. */
const LISTED = {
  Name: 'full',
  Id: '2586',
  Scope: 'local',
  Driver: 'calico:latest',
  EnableIPv6: false,
  IPAM: {
    Driver: 'calico:latest',
    Options: { natOutgoing: 'false' },
    Config: [
      {
        Subnet: '198.51.100.0/24',
        IPRange: '198.51.100.128/25',
        Gateway: '198.51.100.7',
        AuxiliaryAddresses: { a: '198.51.100.9' },
      },
      { Subnet: '203.0.113.0/24' },
    ],
  },
  Internal: false,
  Attachable: true,
  ConfigFrom: { Network: '' },
  ConfigOnly: false,
  Options: { mtu: '1400' },
  Labels: { x: 'y', z: '' },
};

describe('a network as Docker lists it', () => {
  it('is asked for on another host with the same words', () => {
    const { definition } = parseDefinedNetwork(LISTED);
    const request = createRequest('full', definition, { driver: 'calico' });
    expect(request).toMatchObject({
      ...{ Name: 'full', Driver: 'calico', Attachable: true, Internal: false, EnableIPv6: false },
      ...{ Options: LISTED.Options, Labels: LISTED.Labels, CheckDuplicate: true },
      IPAM: { ...LISTED.IPAM, Driver: 'calico' },
    });
    expect(request).not.toHaveProperty('EnableIPv4');
    expect(parseDefinedNetwork({ ...request, Scope: 'local', Id: '1' }).definition).toEqual(definition);
  });

  it('has no subnet where none was typed, whatever the driver answered', () => {
    const Config = [
      { Subnet: '0.0.0.0/0', Gateway: '169.254.1.1' },
      { Subnet: 'fd80:24e2:f998:72d6::/64', Gateway: 'fe80::ecee:eeff:feee:eeee/128' },
    ];
    const { definition } = parseDefinedNetwork({ ...LISTED, IPAM: { Driver: 'calico-ipam', Config } });
    expect(definition.subnets).toEqual([]);
  });

  it.each([{ Scope: 'swarm' }, { ConfigOnly: true }, { ConfigFrom: { Network: 'settings' } }])(
    'is not shared with %o',
    more => {
      expect(parseDefinedNetwork({ ...LISTED, ...more }).isPlain).toBe(false);
      expect(parseDefinedNetwork(LISTED).isPlain).toBe(true);
    },
  );
});

describe('a shared network', () => {
  const { definition } = parseDefinedNetwork(LISTED);

  it('is read as it was written, with what a newer version adds', () => {
    const network = newSharedNetwork({ id: 'id2', name: 'full', definition }, 'node-1', ['id1']);
    const removed = {
      ...network,
      removed: { by: 'node-2', at: '2026-01-01T00:00:00.000Z' },
      rest: { new: 1 },
    };
    for (const each of [network, removed])
      expect(parseSharedNetwork(formatSharedNetwork(each))).toEqual(each);
  });

  it('is none where it is something else', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), text => {
        expect(parseSharedNetwork(text)).toBeUndefined();
      }),
    );
    const odd = formatSharedNetwork(newSharedNetwork({ id: 'id2', name: '../x', definition }, 'node-1'));
    expect(parseSharedNetwork(odd)).toBeUndefined();
  });
});

describe('definitions', () => {
  const definition = {
    internal: false,
    attachable: false,
    enableIPv4: true,
    enableIPv6: true,
    ipamDriver: 'calico-ipam',
    ipamOptions: {},
    subnets: [{ subnet: '2001:DB8:0::/64', auxiliary: {} }],
    options: { a: '1', b: '2' },
    labels: {},
  };

  it('are the same however they are written', () => {
    const other = {
      ...definition,
      subnets: [{ subnet: '2001:db8::/64', auxiliary: {} }],
      options: { b: '2', a: '1' },
      labels: { 'com.docker.compose.version': '2' },
    };
    expect(differences(definition, other)).toEqual([]);
  });

  it('differ in what the flags say', () => {
    const other = { ...definition, internal: true, options: { a: '1' } };
    expect(differences(definition, other)).toEqual(['--internal', '-o']);
  });
});
