import { afterEach, expect, it } from 'vitest';
import { CALICO } from './calico-host.js';
import { api, expectNothingLeft, namesOf, start, timed, untilUp } from './churn.js';
import { keys } from './datastore.js';
import { clear, onEachEngine, sweep } from './matrix.js';
import { inside, reaches } from './traffic.js';

onEachEngine('a burst', { oneByOne: true, isOuter: true }, matrix => {
  afterEach(() => sweep(matrix.host));

  it('50 containers started at once and removed at once', async () => {
    const { host } = matrix;
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net24');
    await host.docker('network', 'create', 'bridged');
    const round = async (network: string, check: () => Promise<void>) => {
      const names = namesOf(50);
      const up = await timed(() => Promise.all(names.map(name => start(host, name, network))));
      await check();
      const down = await timed(() =>
        Promise.all(names.map(name => api(host, 'DELETE', `/containers/${name}?force=1`))),
      );
      return { up, down };
    };
    const allUp = async () => {
      await untilUp(host, 50);
      const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
      const addresses = (await host.docker('inspect', '--format', format, ...namesOf(50))).split('\n');
      expect(new Set(addresses).size).toBe(50);
      expect(await keys(host, '/workloadendpoints/')).toHaveLength(50);
      const reached = await Promise.all(addresses.map(address => reaches(host, address)));
      expect(addresses.filter((_, index) => reached[index] !== true)).toEqual([]);
      const from = await inside(host, 'c0');
      expect(await reaches(host, addresses[49] ?? '', from)).toBe(true);
    };
    // The first containers on either pay for what is cold.
    for (const network of ['net24', 'bridged']) {
      await Promise.all(namesOf(10).map(name => start(host, name, network)));
      await clear(host);
    }
    const calico = await round('net24', allUp);
    await expectNothingLeft(host);
    const bridge = await round('bridged', () => untilUp(host, 50));
    const ratio = { up: calico.up / bridge.up, down: calico.down / bridge.down };
    console.log(
      `Docker ${matrix.engine}: 50 up ${calico.up} ms, bridge ${bridge.up}: ${ratio.up.toFixed(2)}; ` +
        `50 down ${calico.down} ms, bridge ${bridge.down}: ${ratio.down.toFixed(2)}`,
    );
  });
});
