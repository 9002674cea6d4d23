import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { ContainerLabels } from '../../src/docker/container-labels.js';
import type { DockerContainer, DockerEndpoint } from '../../src/docker/engine.js';
import type { WorkloadEndpoint } from '../../src/model/workload-endpoint.js';

const LABEL = 'org.projectcalico.label.';
const NET = 'n1';

describe('labels of a container', () => {
  let containers: DockerContainer[];
  let inNetwork: DockerEndpoint[];
  let written: [string, Record<string, string>][];
  let known: string[];
  let calls: string[];
  let told: string[];
  let refusal: Error | undefined;
  let isAwaited: boolean;
  let inSandbox: string | undefined;
  let labels: ContainerLabels;

  beforeEach(() => {
    [containers, inNetwork, written, known, calls, told] = [[], [], [], [], [], []];
    refusal = undefined;
    isAwaited = true;
    inSandbox = undefined;
    const own = new Map(['e1', 'e2'].map(id => [id, endpoint(id)]));
    labels = new ContainerLabels(
      {
        container: async id => {
          calls.push('container');
          return containers.find(one => one.id === id);
        },
        containers: async () => containers,
        endpoints: async () => {
          calls.push('endpoints');
          return inNetwork;
        },
      },
      {
        ready: Promise.resolve(),
        own: () => [...own.values()],
        get: async id => own.get(id),
        change: async (id, { labels: to }) => {
          if (refusal) throw refusal;
          written.push([id, { ...to }]);
          own.set(id, { ...endpoint(id), labels: to });
        },
      },
      pino({ level: 'silent' }),
      {
        isAwaited: () => isAwaited,
        read: id => void told.push(`read ${id}`),
        failed: (id, why) => void told.push(`failed ${id}: ${why}`),
        known: id => {
          known.push(id);
          told.push(`known ${id}`);
        },
      },
      () => inSandbox,
    );
  });

  const endpoint = (id: string): WorkloadEndpoint => ({
    node: 'h1',
    endpointId: id,
    interfaceName: `cali${id}`,
    mac: '',
    addresses: [],
    profiles: [],
    networkId: NET,
    labels: {},
    ports: [],
  });
  const container = (
    id: string,
    role?: string,
    endpoints = [{ networkId: '', endpointId: '', addresses: [] }],
  ) =>
    containers.push({
      id,
      labels: role === undefined ? { other: 'x' } : { [`${LABEL}role`]: role },
      endpoints,
    });
  const joined = (containerId: string, endpointId: string) =>
    inNetwork.push({ endpointId, networkId: NET, containerId, mac: '', addresses: [] });

  it('are known by the connect event, as soon as the network shows the endpoint', async () => {
    container('c1', 'db');
    labels.connected('c1', NET);
    await expect.poll(() => calls.length).toBeGreaterThan(2);
    expect(known).toEqual([]);
    joined('c1', 'e1');
    await expect.poll(() => known).toEqual(['e1']);
    expect(written).toEqual([['e1', { role: 'db' }]]);
  });

  it('are none, and known to be none', async () => {
    container('c1');
    joined('c1', 'e1');
    labels.connected('c1', NET);
    await expect.poll(() => known).toEqual(['e1']);
    expect(written).toEqual([]);
  });

  it('cost one question where nobody waits and there are none', async () => {
    isAwaited = false;
    container('c1');
    labels.connected('c1', NET);
    await expect.poll(() => calls).toEqual(['container']);
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(calls).toEqual(['container']);
    expect(known).toEqual([]);
  });

  it('are known at Join where the process of the container is there; the event has nothing to add', async () => {
    container('c1', 'db');
    inSandbox = 'c1';
    labels.joined('e1', '/netns/1');
    await expect.poll(() => known).toEqual(['e1']);
    calls.length = 0;
    labels.connected('c1', NET);
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(calls).toEqual([]);
  });

  it("are not another's, whose process is in the same sandbox", async () => {
    container('guest', 'web', []);
    container('c1');
    joined('c1', 'e1');
    inSandbox = 'guest';
    labels.joined('e1', '/netns/1');
    await expect.poll(() => calls).toEqual(['container']);
    expect([known, written]).toEqual([[], []]);
    labels.connected('c1', NET);
    await expect.poll(() => known).toEqual(['e1']);
    expect(written).toEqual([]);
  });

  it('are put right by the event where the process was not that of the container', async () => {
    container('tool', 'web');
    container('c1');
    joined('c1', 'e1');
    inSandbox = 'tool';
    labels.joined('e1', '/netns/1');
    await expect.poll(() => written).toEqual([['e1', { role: 'web' }]]);
    isAwaited = false;
    labels.connected('c1', NET);
    await expect.poll(() => written.at(-1)).toEqual(['e1', {}]);
  });

  it('are said to be read before they are written, and where they cannot be written', async () => {
    container('c1', 'db');
    inSandbox = 'c1';
    refusal = new Error('etcd is away');
    labels.joined('e1', '/netns/1');
    await expect.poll(() => told).toEqual(['read e1', 'failed e1: etcd is away']);
    refusal = undefined;
    labels.joined('e1', '/netns/1');
    await expect.poll(() => told.slice(2)).toEqual(['read e1', 'known e1']);
  });

  it('are copied for all at start', async () => {
    container('c1', 'db', [{ networkId: NET, endpointId: 'e2', addresses: [] }]);
    await labels.copyAll();
    expect(written).toEqual([['e2', { role: 'db' }]]);
    await labels.copied;
  });
});
