import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { networkInterfaces } from 'node:os';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { poll } from '../bed/poll.js';
import { freePorts, startEtcd } from '../contract/etcd-process.js';
import type { EtcdProcess } from '../contract/etcd-process.js';
import { FakeDocker } from '../fakes/docker-api.js';
import { TestDaemon } from './dockerd.js';
import { createEndpoint, dockerId, makeNetwork, requestAddress, requestPool } from './requests.js';

const DASHBOARD = new URL('../../docs/grafana-dashboard.json', import.meta.url);
const MAC_A = '02:42:00:00:00:0a';
const SUBNET = '198.51.100.0/24';
const QUICK = { CALICO_LIBNETWORK_GC_GRACE: '300ms', CALICO_LIBNETWORK_RECONCILE_INTERVAL: '200ms' };

let etcd: EtcdProcess;
let docker: FakeDocker;
let daemon: TestDaemon;
let url: string;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.remove());
beforeEach(async () => {
  etcd.control('del', '--prefix', '/calico/');
  docker = await new FakeDocker().start();
  const [port] = await freePorts(1);
  url = `http://127.0.0.1:${port}`;
  const env = { ...QUICK, DOCKER_HOST: docker.host, CALICO_LIBNETWORK_METRICS_ADDRESS: String(port) };
  daemon = new TestDaemon(etcd.endpoint, env);
});
afterEach(async () => {
  await daemon.stop();
  await docker.stop();
});

/** The samples by name with labels, `name{a="b"}`, as Prometheus reads them. */
async function scrape(): Promise<Record<string, number>> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const samples = text.split('\n').filter(line => line !== '' && !line.startsWith('#'));
  return Object.fromEntries(
    samples.map(line => {
      const end = line.lastIndexOf(' ');
      return [line.slice(0, end), Number(line.slice(end + 1))];
    }),
  );
}

const ready = async () => {
  const response = await fetch(`${url}/ready`);
  return { status: response.status, text: await response.text() };
};
const untilReady = () => poll('readiness', 10_000, async () => (await ready()).status === 200);

describe('what a daemon tells of itself', () => {
  it('lives from the first moment, and is ready when it serves and knows the datastore', async () => {
    await poll('the server', 5_000, () => fetch(`${url}/live`).catch(() => undefined));
    expect((await fetch(`${url}/live`)).status).toBe(200);
    expect(await ready()).toEqual({
      status: 503,
      text: expect.stringContaining('does not serve Docker yet'),
    });
    await daemon.start();
    await untilReady();
    expect((await scrape())['calico_libnetwork_ready']).toBe(1);
    expect((await fetch(`${url}/nonsense`)).status).toBe(404);
    expect((await fetch(`${url}/metrics`, { method: 'POST' })).status).toBe(405);
  });

  it('counts calls by method and outcome, and what they cost etcd', async () => {
    await daemon.start();
    await untilReady();
    const pool = await makeNetwork(daemon, 'a1', SUBNET);
    await requestAddress(daemon, pool, MAC_A);
    await daemon.refused('IpamDriver.RequestPool', requestPool('198.51.0.0/16'));
    await daemon.call('NetworkDriver.NoSuchThing', {});
    const found = await scrape();
    const calls = (method: string, outcome: string) =>
      found[`calico_libnetwork_call_duration_seconds_count{method="${method}",outcome="${outcome}"}`];
    expect(calls('IpamDriver.RequestAddress', 'ok')).toBe(1);
    expect(calls('IpamDriver.RequestPool', 'ok')).toBe(1);
    expect(calls('IpamDriver.RequestPool', 'refused')).toBe(1);
    // Nobody makes new series by asking for nonsense.
    expect(Object.keys(found).join()).not.toContain('NoSuchThing');
    const transactions =
      'calico_libnetwork_etcd_request_duration_seconds_count{operation="transact",outcome="ok"}';
    expect(found[transactions]).toBeGreaterThan(2);
    expect(found['calico_libnetwork_build_info{version="0.0.1-test"}']).toBe(1);
    expect(found['process_resident_memory_bytes']).toBeGreaterThan(1e6);
  });

  it('knows how full the pools are, and what this host has', async () => {
    await daemon.start();
    await untilReady();
    const pool = await makeNetwork(daemon, 'a1', SUBNET);
    const address = await requestAddress(daemon, pool, MAC_A);
    await daemon.ok('NetworkDriver.CreateEndpoint', createEndpoint('a1', 'e1', [address], MAC_A));
    const name = 'docker-198-51-100-0-24';
    await poll('the figures', 5_000, async () => {
      const found = await scrape();
      return found[`calico_libnetwork_ipam_pool_addresses_in_use{pool="${name}"}`] === 1 ? found : undefined;
    });
    const found = await scrape();
    expect(found[`calico_libnetwork_ipam_pool_addresses{pool="${name}",cidr="${SUBNET}"}`]).toBe(256);
    expect(found[`calico_libnetwork_ipam_pool_blocks{pool="${name}"}`]).toBe(1);
    expect(found[`calico_libnetwork_ipam_node_blocks{pool="${name}"}`]).toBe(1);
    expect(found['calico_libnetwork_endpoints']).toBe(1);
    expect(found['calico_libnetwork_networks']).toBe(1);
    expect(found['calico_libnetwork_routes{to="container"}']).toBe(1);
    expect(found['calico_libnetwork_routes{to="block"}']).toBe(1);
    expect(found['calico_libnetwork_apply_duration_seconds_count{part="host",outcome="ok"}']).toBeGreaterThan(
      0,
    );
  });

  it('counts what the reconciler repaired', async () => {
    await daemon.start();
    const pool = await makeNetwork(daemon, 'a1', SUBNET);
    docker.networks.set(dockerId('a1'), { name: 'net1', ipam: [{ Subnet: SUBNET }] });
    await requestAddress(daemon, pool, MAC_A);
    // Docker never says a word of it again.
    const key = 'calico_libnetwork_reconcile_repairs_total{kind="release allocation",outcome="ok"}';
    await poll('the repair', 10_000, async () => (await scrape())[key] === 1);
    expect(
      (await scrape())['calico_libnetwork_reconcile_duration_seconds_count{outcome="ok"}'],
    ).toBeGreaterThan(1);
  });

  it('is not ready while etcd is away, and counts the gap when it is back', async () => {
    await daemon.start();
    await untilReady();
    await etcd.kill();
    const away = await poll('503', 10_000, async () => {
      const answer = await ready();
      return answer.status === 503 && answer;
    });
    expect(away.text).toContain('the datastore is out of sight');
    expect((await scrape())['calico_libnetwork_ready']).toBe(0);
    expect((await fetch(`${url}/live`)).status).toBe(200);
    etcd.launch();
    await untilReady();
    const restarts = Object.entries(await scrape()).filter(([name]) =>
      name.includes('watch_restarts_total{'),
    );
    expect(restarts.length).toBeGreaterThan(3);
    for (const [, count] of restarts) expect(count).toBeGreaterThan(0);
  });

  it('has every metric of the dashboard', async () => {
    await daemon.start();
    await untilReady();
    const text = await (await fetch(`${url}/metrics`)).text();
    const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)];
    const known = types.flatMap(([, name = '', type]) =>
      type === 'histogram' ? ['_bucket', '_sum', '_count'].map(ending => name + ending) : [name],
    );
    const dashboard: { panels: { targets?: { expr: string }[] }[] } = JSON.parse(
      readFileSync(DASHBOARD, 'utf8'),
    );
    const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    expect(expressions.length).toBeGreaterThan(8);
    for (const expression of expressions) {
      const names = expression.match(/\b(?:calico_libnetwork|process|nodejs)_[a-z0-9_]+/g) ?? [];
      expect(names, expression).not.toEqual([]);
      for (const name of names) expect(known, expression).toContain(name);
    }
  });
});

describe('the address', () => {
  it('is of loopback where a port alone is given: other addresses of the host refuse', async () => {
    await daemon.start();
    await untilReady();
    const others = Object.values(networkInterfaces()).flatMap(
      list => list?.filter(({ internal, family }) => !internal && family === 'IPv4') ?? [],
    );
    const { port } = new URL(url);
    for (const { address } of others)
      await expect(fetch(`http://${address}:${port}/live`), address).rejects.toThrow('fetch failed');
  });

  it('that is taken is served once it is free; the drivers work meanwhile', async () => {
    const [port] = await freePorts(1);
    const other = createServer((_request, response) => response.end('other'));
    await new Promise<void>(resolve => other.listen(port, '127.0.0.1', resolve));
    const second = new TestDaemon(etcd.endpoint, { CALICO_LIBNETWORK_METRICS_ADDRESS: String(port) });
    try {
      await second.start();
      expect(await second.ok('IpamDriver.GetCapabilities')).toBeDefined();
      other.closeAllConnections();
      await new Promise(resolve => other.close(resolve));
      const live = () =>
        fetch(`http://127.0.0.1:${port}/live`).then(
          answer => answer.text(),
          () => '',
        );
      await poll('the address', 10_000, async () => (await live()) === 'ok\n');
    } finally {
      await second.stop();
    }
  });
});
