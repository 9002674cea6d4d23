import { expect, it } from 'vitest';
import { poll } from '../bed/poll.js';
import { expectAgreement } from './agreement.js';
import { CALICO, ping, pingOutside } from './calico-host.js';
import { expectNothingLeft, namesOf, start, timed } from './churn.js';
import { addressIn, clear, onEachEngine } from './matrix.js';
import { reaches } from './traffic.js';

const QUICK = { CALICO_LIBNETWORK_GC_GRACE: '3s', CALICO_LIBNETWORK_RECONCILE_INTERVAL: '1s' };
const COUNT = 20;
/** Milliseconds for grace, interval and a busy machine. */
const AGREED = 3_000 + 1_000 + 6_000;

/** The fixed addresses of the first five. */
const FIXED = new Map(namesOf(5).map((name, index) => [name, `192.0.2.${100 + index}`]));

onEachEngine('a power cut', { env: QUICK, oneByOne: true }, matrix => {
  const create = (network: string) =>
    Promise.all(
      namesOf(COUNT).map(name => {
        const address = network === 'net24' ? FIXED.get(name) : undefined;
        const endpoint = { IPAMConfig: address === undefined ? {} : { IPv4Address: address } };
        const more = { RestartPolicy: { Name: 'always' } };
        return start(matrix.host, name, network, more, { EndpointsConfig: { [network]: endpoint } });
      }),
    );

  /** All are started, by a dockerd that knew them; one that still starts is not yet up. */
  const allUp = () =>
    poll(`${COUNT} containers up`, 100_000, async () => {
      const up = await matrix.host.docker('ps', '-q', '--filter', 'status=running');
      return up.split('\n').filter(line => line !== '').length === COUNT;
    });

  /** Milliseconds from the start of dockerd, on a host that was cut off, until all containers are up. */
  async function cut(): Promise<number> {
    const { host } = matrix;
    await host.crash();
    await host.boot();
    await host.serve(QUICK);
    return timed(async () => {
      await host.dockerd();
      await allUp();
    });
  }

  it(`of ${COUNT} containers that always restart: all are up again, as quickly as on a bridge`, async () => {
    const { host, engine } = matrix;
    await host.docker('network', 'create', 'bridged');
    await host.docker('network', 'create', ...CALICO, '--subnet=192.0.2.0/24', 'net24');
    await create('bridged');
    await allUp();
    const bridge = await cut();
    await clear(host);
    await create('net24');
    await allUp();
    await expectAgreement(host, { within: AGREED });
    let calico = await cut();
    const agreement = await expectAgreement(host, { within: AGREED });
    // Something else may have had the machine for some seconds; not twice.
    if (calico > 2 * bridge) calico = Math.min(calico, await cut());
    console.log(
      `Docker ${engine}: ${COUNT} containers up ${calico} ms after the start of dockerd, on a bridge ${bridge} ms: ` +
        `${(calico / bridge).toFixed(2)}; agreement ${agreement} ms later`,
    );
    const addresses = await Promise.all(namesOf(COUNT).map(name => addressIn(host, name, 'net24')));
    for (const [index, address] of [...FIXED.values()].entries()) expect(addresses[index]).toBe(address);
    expect(new Set(addresses).size).toBe(COUNT);
    const reached = await Promise.all(addresses.map(address => reaches(host, address)));
    expect(addresses.filter((_, index) => reached[index] !== true)).toEqual([]);
    await ping(host, 'c3', addresses[19] ?? '');
    await pingOutside(host, 'c7');
    expect(calico / bridge).toBeLessThanOrEqual(2);
    await clear(host, 'bridged', 'net24');
    await expectNothingLeft(host);
    await expectAgreement(host, { within: AGREED });
  });
});
