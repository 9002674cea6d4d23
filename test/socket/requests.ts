import type { TestDaemon } from './dockerd.js';

/** Requests as real engines send them (recorded from 20.10, 26 and 28). */

const GENERIC = 'com.docker.network.generic';
export const MAC = 'com.docker.network.endpoint.macaddress';

/** 64 hex digits that begin with these. */
export function dockerId(start: string): string {
  return start.padEnd(64, '0');
}

export function requestPool(pool = '', more: object = {}) {
  return {
    AddressSpace: 'CalicoGlobalAddressSpace',
    Pool: pool,
    SubPool: '',
    Options: {},
    V6: pool.includes(':'),
    ...more,
  };
}

export function createNetwork(id: string, pools: string[], options: object = {}, more: object = {}) {
  const data = (list: string[]) =>
    list.map(Pool => ({ AddressSpace: 'CalicoGlobalAddressSpace', Gateway: '169.254.1.1/32', Pool }));
  return {
    NetworkID: dockerId(id),
    Options: {
      'com.docker.network.enable_ipv4': true,
      'com.docker.network.enable_ipv6': pools.some(pool => pool.includes(':')),
      [GENERIC]: options,
      ...more,
    },
    IPv4Data: data(pools.filter(pool => !pool.includes(':'))),
    IPv6Data: data(pools.filter(pool => pool.includes(':'))),
  };
}

export function createEndpoint(network: string, id: string, addresses: string[], mac: string) {
  return {
    NetworkID: dockerId(network),
    EndpointID: dockerId(id),
    Interface: {
      Address: addresses.find(address => !address.includes(':')) ?? '',
      AddressIPv6: addresses.find(address => address.includes(':')) ?? '',
      MacAddress: mac,
    },
    Options: { 'com.docker.network.endpoint.exposedports': [], 'com.docker.network.portmap': [] },
  };
}

export function join(network: string, id: string) {
  return {
    NetworkID: dockerId(network),
    EndpointID: dockerId(id),
    SandboxKey: '/var/run/docker/netns/0123456789ab',
    Options: { 'com.docker.network.endpoint.exposedports': [], 'com.docker.network.portmap': [] },
  };
}

/** `docker network create --subnet`: the PoolID. */
export async function makeNetwork(daemon: TestDaemon, id: string, pool: string): Promise<string> {
  const { PoolID } = await daemon.ok('IpamDriver.RequestPool', requestPool(pool));
  await daemon.ok('NetworkDriver.CreateNetwork', createNetwork(id, [pool === '' ? '0.0.0.0/0' : pool]));
  return String(PoolID);
}

/** The address that RequestAddress gives to a container's interface. */
export async function requestAddress(
  daemon: TestDaemon,
  PoolID: string,
  mac: string,
  Address = '',
): Promise<string> {
  const answer = await daemon.ok('IpamDriver.RequestAddress', { PoolID, Address, Options: { [MAC]: mac } });
  return String(answer.Address);
}
