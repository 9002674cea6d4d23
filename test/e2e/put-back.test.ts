import { afterEach, beforeEach, expect, it } from 'vitest';
import { hostInterfaceOf } from '../../src/model/workload-endpoint.js';
import { poll } from '../bed/poll.js';
import { expectAgreement } from './agreement.js';
import { CALICO, container, ping, traces } from './calico-host.js';
import { expectNothingLeft, timed } from './churn.js';
import { dump, keys } from './datastore.js';
import { addressIn, clear, onEachEngine, remove, sweep } from './matrix.js';
import { runningContainers } from './seen.js';
import { withoutGap } from './steady.js';
import { ask, serveIn } from './traffic.js';

const QUICK = { CALICO_LIBNETWORK_GC_GRACE: '2s', CALICO_LIBNETWORK_RECONCILE_INTERVAL: '1s' };
/** Milliseconds within which what is lost is back: grace, interval and a busy machine. */
const BACK = 2_000 + 1_000 + 3_000;

onEachEngine('what is lost is put back', { env: QUICK, isOuter: true }, matrix => {
  let address: string;

  beforeEach(async () => {
    const { host } = matrix;
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net24');
    const label = ['--label', 'org.projectcalico.label.role=db'];
    await container(host, 'web', 'net24', '-p', '8080:80', ...label);
    await container(host, 'peer', 'net24');
    address = await addressIn(host, 'web', 'net24');
    await serveIn(host, 'web', 80);
    await expectAgreement(host);
    await poll('the label', 5_000, async () => (await endpoint()).includes('"role":"db"'));
  });
  afterEach(() => sweep(matrix.host));

  /** What etcd says of web's endpoint. */
  async function endpoint(): Promise<string> {
    return Object.values(await dump(matrix.host)).find(text => text?.includes(`${address}/32`)) ?? '';
  }

  const published = async () =>
    (await ask(matrix.bed.outside, 'tcp', matrix.host.address, 8080)).startsWith('web ');

  /** Deletes the keys with one of these in them, and waits until all is as it was. */
  async function loses(...parts: string[]): Promise<void> {
    const { host } = matrix;
    // Looked at once: what was never seen cannot be put back as it was.
    await new Promise(resolve => setTimeout(resolve, 1_500));
    const spec = (text: string) => /"spec":\{.*\}/s.exec(text)?.[0] ?? text;
    const before = await endpoint();
    expect(await published()).toBe(true);
    await withoutGap(host, address, async () => {
      const lost = (await keys(host)).filter(key => parts.some(part => key.includes(part)));
      expect(lost.length).toBeGreaterThan(0);
      const began = Date.now();
      for (const key of lost) await remove(host, key);
      await expectAgreement(host, { within: BACK });
      console.log(`Docker ${matrix.engine}: ${parts.join(', ')} lost, back after ${Date.now() - began} ms`);
      await poll('the published port', 3_000, published);
    });
    // Another resource with another uid, that says the same.
    expect(await endpoint()).not.toBe(before);
    expect(spec(await endpoint())).toBe(spec(before));
    expect(await addressIn(host, 'web', 'net24')).toBe(address);
    await ping(host, 'peer', address);
    await clear(host, 'net24');
    await expectNothingLeft(host);
    await expectAgreement(host);
  }

  it('endpoints', () => loses('/workloadendpoints/'));
  it('endpoints, addresses and blocks', () =>
    loses('/workloadendpoints/', '/ipam/v2/handle/', '/assignment/', '/ipam/v2/host/'));

  it('endpoints, while the daemon was away', async () => {
    const { host } = matrix;
    // Of a port Docker does not tell: what is open is known to etcd alone.
    await host.docker('rm', '-f', 'web');
    await container(host, 'fix', 'net24', '--ip', '192.0.2.100');
    await withoutGap(host, '192.0.2.100', async () => {
      await host.stopServe('SIGKILL');
      for (const key of await keys(host, '/workloadendpoints/')) await remove(host, key);
      await host.serve(QUICK);
      await expectAgreement(host, { within: BACK });
    });
    await clear(host, 'net24');
    await expectNothingLeft(host);
  });

  it('interfaces, routes and the table', async () => {
    const { host } = matrix;
    const [web] = (await runningContainers(host)).filter(({ name }) => name === 'web');
    const name = hostInterfaceOf(web?.endpoints[0]?.endpointId ?? '');
    const routes = (await traces(host)).routes;
    const back = async (what: string, lose: () => Promise<unknown>, isBack: () => Promise<boolean>) => {
      await lose();
      const took = await timed(() => poll(what, BACK, isBack));
      console.log(`Docker ${matrix.engine}: ${what} lost, back after ${took} ms`);
      await ping(host, 'peer', address);
      await poll('the published port', 3_000, published);
      await expectAgreement(host);
    };
    const isUp = async () => (await host.run(['ip', 'link', 'show', name])).stdout.includes(',UP');
    await back('interface', () => host.run(['ip', 'link', 'set', name, 'down']), isUp);
    const sorted = (lines: readonly string[]) => [...lines].sort().join('\n');
    const same = async () => sorted((await traces(host)).routes) === sorted(routes);
    await back('routes', () => host.run(['ip', 'route', 'flush', 'proto', '81']), same);
    const table = async () =>
      (await host.run(['nft', 'list', 'table', 'inet', 'calico_libnetwork'], { check: false })).stdout;
    const before = await table();
    const drop = () => host.run(['nft', 'delete', 'table', 'inet', 'calico_libnetwork']);
    await back('table', drop, async () => (await table()) === before);
  });
});
