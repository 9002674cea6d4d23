import { describe, expect, it } from 'vitest';
import { parseCidr } from '../../src/ipam/cidr.js';
import { checkEndpointOptions } from '../../src/plugin/endpoint-options.js';
import { ipamOptions } from '../../src/plugin/ipam-options.js';
import { networkOptions } from '../../src/plugin/network-options.js';
import { portRequests } from '../../src/plugin/port-mappings.js';

const subnet = parseCidr('192.0.2.0/24');
const generic = (options: object, more: object = {}) => ({ 'com.docker.network.generic': options, ...more });

describe('--ipam-opt', () => {
  it('is read for the family it is asked for', () => {
    expect(ipamOptions({ ippools: 'four, six-1.x' }, 4, undefined)).toEqual({ pools: ['four', 'six-1.x'] });
    expect(
      ipamOptions({ blockSize: '28', natOutgoing: 'FALSE', vxlanMode: 'crosssubnet' }, 4, subnet),
    ).toEqual({
      blockSize: 28,
      natOutgoing: false,
      vxlanMode: 'CrossSubnet',
    });
    // dockerd sends the same options with the request for the other family.
    expect(ipamOptions({ blockSize: '28' }, 6, parseCidr('fd80::/64'))).toEqual({ otherBlockSize: 28 });
    expect(ipamOptions({ blockSize: '124' }, 6, parseCidr('fd80::/64'))).toEqual({ blockSize: 124 });
    expect(ipamOptions({ 'com.docker.network.ipam.serial': 'true' }, 4, undefined)).toEqual({});
  });

  it.each([
    [{ colour: 'red' }, /--ipam-opt colour: .*ippools, blockSize, natOutgoing, vxlanMode/],
    [{ blockSize: '19' }, /blockSize=19: must be 20 to 32/],
    [{ blockSize: '129' }, /blockSize=129/],
    [{ blockSize: 'x' }, /blockSize=x/],
    [{ blockSize: '22' }, /does not fit into --subnet 192\.0\.2\.0\/24/],
    [{ natOutgoing: 'maybe' }, /natOutgoing=maybe: must be true or false/],
    [{ vxlanMode: 'Sometimes' }, /vxlanMode=Sometimes: must be Never/],
    [{ ippools: 'A_B' }, /"A_B" is no name/],
    [{ ippools: 'a', blockSize: '26' }, /does not go with --ipam-opt ippools/],
  ])('%j is refused by name', (options, words) => {
    expect(() => ipamOptions(options as unknown as Record<string, string>, 4, subnet)).toThrow(words);
  });

  it('for a new pool needs a subnet', () => {
    expect(() => ipamOptions({ blockSize: '26' }, 4, undefined)).toThrow('needs a --subnet');
  });
});

describe('-o', () => {
  it('takes ours, and what Docker adds', () => {
    expect(
      networkOptions(generic({ mtu: '1400', profile: 'web_tier', 'com.docker.network.new': 'x' })).options,
    ).toEqual({
      mtu: '1400',
      profile: 'web_tier',
    });
    expect(networkOptions(generic({ 'com.docker.network.driver.mtu': '1400' })).options).toEqual({
      mtu: '1400',
    });
    expect(
      networkOptions({ 'com.docker.network.internal': true, 'com.docker.network.enable_ipv4': true }),
    ).toEqual({
      internal: true,
      options: {},
    });
  });

  it.each([
    [generic({ mtu: '67' }), /-o mtu=67: must be a whole number from 68 to 65535/],
    [
      generic({ mtu: '1279' }, { 'com.docker.network.enable_ipv6': true }),
      /1280 \(the least that IPv6 allows\)/,
    ],
    [generic({ mtu: '1e3' }), /mtu=1e3/],
    [generic({ profile: 'a b' }), /-o profile=a b/],
    [generic({ ippools: 'a' }), /-o ippools comes too late .* --ipam-opt ippools/],
    [generic({ colour: 'red' }), /unknown option -o colour: .*mtu, profile/],
    [generic([]), /must be an object/],
  ])('%j is refused by name', (options, words) => {
    expect(() => networkOptions(options)).toThrow(words);
  });
});

describe('--driver-opt', () => {
  it("of nobody is refused, Docker's own are not", () => {
    expect(() => checkEndpointOptions({ 'com.docker.network.endpoint.sysctls': 'x' })).not.toThrow();
    expect(() => checkEndpointOptions({ colour: 'red' })).toThrow('unknown --driver-opt colour');
  });
});

describe('-p', () => {
  const mapping = (fields: object) => ({
    'com.docker.network.portmap': [
      { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080, ...fields },
    ],
  });
  const both = ['192.0.2.1', 'fd80::1'];

  it('opens a port for each family of the endpoint', () => {
    expect(portRequests(mapping({}), both)).toEqual([
      { protocol: 'tcp', hostPort: 8080, hostPortEnd: 8080, address: '192.0.2.1', port: 80 },
      { protocol: 'tcp', hostPort: 8080, hostPortEnd: 8080, address: 'fd80::1', port: 80 },
    ]);
    expect(portRequests({}, both)).toEqual([]);
    expect(portRequests({ 'com.docker.network.portmap': null }, both)).toEqual([]);
  });

  it('on an address only for its family, on the unspecified one everywhere', () => {
    expect(portRequests(mapping({ HostIP: '127.0.0.1', Proto: 17 }), both)).toEqual([
      {
        protocol: 'udp',
        hostAddress: '127.0.0.1',
        hostPort: 8080,
        hostPortEnd: 8080,
        address: '192.0.2.1',
        port: 80,
      },
    ]);
    expect(portRequests(mapping({ HostIP: '::' }), both)).toEqual([
      { protocol: 'tcp', hostPort: 8080, hostPortEnd: 8080, address: 'fd80::1', port: 80 },
    ]);
  });

  it('without a host port leaves the choice', () => {
    expect(portRequests(mapping({ HostPort: 0, HostPortEnd: 0 }), ['192.0.2.1'])[0]).toMatchObject({
      hostPort: 0,
      hostPortEnd: 0,
    });
  });

  it.each([[{ Proto: 1 }], [{ Port: 70_000 }], [{ HostPort: -1 }], [{ HostPort: 'x' }], [{ HostIP: 'x' }]])(
    '%j is refused',
    fields => {
      expect(() => portRequests(mapping(fields), both)).toThrow('-p');
    },
  );
});
