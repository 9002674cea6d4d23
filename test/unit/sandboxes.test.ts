import { describe, expect, it } from 'vitest';
import { hostState } from '../../src/agent/host-state.js';
import { parseNetworkRecord } from '../../src/model/network-record.js';
import {
  formatChangedEndpoint,
  formatNewEndpoint,
  parseEndpoint,
} from '../../src/model/workload-endpoint.js';
import type { WorkloadEndpoint } from '../../src/model/workload-endpoint.js';
import { joinResponse } from '../../src/plugin/join-response.js';
import { Sandboxes } from '../../src/plugin/sandboxes.js';

function endpoint(id: string, more: Partial<WorkloadEndpoint> = {}): WorkloadEndpoint {
  return {
    node: 'a',
    endpointId: id,
    interfaceName: `cali${id}`,
    mac: '02:42:00:00:00:01',
    addresses: ['192.0.2.1'],
    profiles: ['net1'],
    networkId: 'n1',
    labels: {},
    ports: [],
    ...more,
  };
}

describe('the endpoints of one container', () => {
  it('have places of their own, the lowest free ones', () => {
    const sandboxes = new Sandboxes();
    expect(['e1', 'e2', 'e3'].map(id => sandboxes.join('s', id).place)).toEqual([1, 2, 3]);
    expect(sandboxes.join('s', 'e2').place).toBe(2);
    expect(sandboxes.join('other', 'e9').place).toBe(1);
    sandboxes.leave('e2');
    expect(sandboxes.siblings('e1')).toEqual(['e3']);
    expect(sandboxes.join('s', 'e4').place).toBe(2);
  });

  it('never have the same route twice', () => {
    const sandboxes = new Sandboxes();
    for (const id of ['e1', 'e2', 'e3']) sandboxes.join('s', id);
    expect(sandboxes.claimRoutes('e2', ['192.0.2.0/24'])).toEqual(['192.0.2.0/24']);
    expect(sandboxes.claimRoutes('e3', ['192.0.2.0/24', '10.0.0.0/8'])).toEqual(['10.0.0.0/8']);
    sandboxes.leave('e2');
    sandboxes.join('s', 'e5');
    expect(sandboxes.claimRoutes('e5', ['192.0.2.0/24'])).toEqual(['192.0.2.0/24']);
  });

  it('are found again after a restart of the daemon', () => {
    const before = endpoint('e1');
    const text = formatNewEndpoint(before, new Date());
    const changed =
      formatChangedEndpoint(text, { sandbox: { key: '/run/docker/netns/abc', place: 2 } }) ?? '';
    const { sandbox } = parseEndpoint(changed) ?? before;
    expect(sandbox).toEqual({ key: '/run/docker/netns/abc', place: 2 });
    const sandboxes = new Sandboxes();
    sandboxes.restore(sandbox?.key ?? '', 'e1', sandbox?.place ?? 0);
    expect(sandboxes.join('/run/docker/netns/abc', 'e2').place).toBe(1);
    expect(sandboxes.siblings('e2')).toEqual(['e1']);
  });
});

describe("Join's answer", () => {
  const options = { prefix: 'cali', place: 1, routes: [], internal: false };

  it('has next hops of its own from the second endpoint on, with routes to what it is for', () => {
    const answer = joinResponse(endpoint('e', { addresses: ['192.0.2.1', 'fd80::1'] }), {
      ...options,
      place: 2,
      routes: ['192.0.2.0/24', 'fd80::/64'],
    });
    expect(answer).toMatchObject({ Gateway: '169.254.1.2', GatewayIPv6: 'fe80::2' });
    expect(answer.StaticRoutes).toEqual([
      { Destination: '169.254.1.2/32', RouteType: 1, NextHop: '' },
      { Destination: 'fe80::2/128', RouteType: 1, NextHop: '' },
      { Destination: '192.0.2.0/24', RouteType: 0, NextHop: '169.254.1.2' },
      { Destination: 'fd80::/64', RouteType: 0, NextHop: 'fe80::2' },
    ]);
  });

  it('has nothing of IPv6 where the endpoint has none, which would be an error to Docker', () => {
    const answer = joinResponse(endpoint('e'), { ...options, routes: ['fd80::/64'] });
    expect(JSON.stringify(answer)).not.toMatch(/fd80|fe80|IPv6/);
  });

  it('has no gateway on an internal network, only routes to it', () => {
    const answer = joinResponse(endpoint('e'), { ...options, internal: true, routes: ['192.0.2.0/24'] });
    expect(answer.Gateway).toBeUndefined();
    expect(answer.StaticRoutes).toHaveLength(2);
  });
});

describe('the state of a host', () => {
  it('has the ports of its own endpoints, with all addresses of the container', () => {
    const port = { protocol: 'tcp', hostPort: 8080, address: '192.0.2.1', port: 80 } as const;
    const sandbox = { key: 's', place: 1 };
    const endpoints = [
      endpoint('e1', { ports: [port], sandbox }),
      endpoint('e2', { addresses: ['10.0.0.2'], sandbox: { key: 's', place: 2 } }),
      endpoint('e3', { node: 'b', ports: [port], sandbox }),
    ];
    const { published } = hostState({ node: 'a', pools: [], ownBlocks: [], endpoints, internal: [] });
    expect(published).toEqual([{ ...port, containerAddresses: ['192.0.2.1', '10.0.0.2'] }]);
  });

  it('knows the members of an internal network on all hosts, where its id is another', () => {
    const record = parseNetworkRecord('{"id":"n1","node":"a","name":"inner","internal":true,"subnets":[]}');
    const endpoints = [
      endpoint('e1', { profiles: ['inner'] }),
      endpoint('e2', { node: 'b', networkId: 'n2', profiles: ['inner'], addresses: ['192.0.2.2'] }),
      endpoint('e3', { networkId: 'n9', profiles: ['outer'], addresses: ['192.0.2.3'] }),
    ];
    const { internal } = hostState({
      node: 'a',
      pools: [],
      ownBlocks: [],
      endpoints,
      internal: record ? [record] : [],
    });
    expect(internal).toEqual([{ interfaces: ['calie1'], members: ['192.0.2.1', '192.0.2.2'] }]);
  });

  it('survives storage: ports and labels of an endpoint are read as they were written', () => {
    const ports = [
      { protocol: 'udp', hostAddress: '10.0.0.1', hostPort: 53, address: '192.0.2.1', port: 53 },
      { protocol: 'tcp', hostPort: 80, address: 'fd80::1', port: 8080 },
    ] as const;
    const text = formatNewEndpoint(endpoint('e1', { addresses: ['192.0.2.1', 'fd80::1'] }), new Date());
    const changed = formatChangedEndpoint(text, { ports, labels: { role: 'db' } }) ?? '';
    expect(parseEndpoint(changed)?.ports).toEqual(ports);
    expect(parseEndpoint(changed)?.labels).toEqual({
      role: 'db',
      'projectcalico.org/namespace': 'libnetwork',
      'projectcalico.org/orchestrator': 'libnetwork',
    });
  });
});
