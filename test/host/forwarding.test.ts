import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { HostState } from '../../src/host/dataplane.js';
import { PretendHost, endpoint, prepare, until } from './pretend-host.js';

const STATE: HostState = {
  ownBlocks: ['10.65.0.0/26'],
  masqueradeFrom: [],
  pools: ['10.65.0.0/16'],
  published: [],
  internal: [],
};
const PAIR = (chain: string): string[] => [
  `-A ${chain} -i cali+ -m comment --comment calico-libnetwork -j ACCEPT`,
  `-A ${chain} -o cali+ -m comment --comment calico-libnetwork -j ACCEPT`,
];

let host: PretendHost;
beforeAll(prepare);
beforeEach(async () => {
  host = await PretendHost.boot();
});
afterEach(() => host.shutDown());

describe.each(['iptables-nft', 'iptables-legacy', 'ip6tables-nft', 'ip6tables-legacy'])('%s', iptables => {
  /** What dockerd does where it turns forwarding on itself, as seen with 20.10 to 28. */
  async function dockerStarts(): Promise<void> {
    await host.all([
      `${iptables} -w -N DOCKER`,
      `${iptables} -w -A FORWARD -o docker0 -j DOCKER`,
      `${iptables} -w -P FORWARD DROP`,
      `${iptables} -w -N DOCKER-USER`,
      `${iptables} -w -A DOCKER-USER -j RETURN`,
      `${iptables} -w -I FORWARD -j DOCKER-USER`,
    ]);
  }

  async function marked(): Promise<string[]> {
    const rules = await host.run(`${iptables} -w -S`);
    return rules.split('\n').filter(rule => rule.includes('calico'));
  }

  test('daemon first: nothing until Docker is there, then the pair in DOCKER-USER', async () => {
    await host.call('apply', STATE);
    // Docker's DROP depends on it.
    expect(await host.run('busybox sysctl -n net.ipv4.ip_forward')).toBe('0\n');
    expect(await host.run('nft list ruleset')).not.toContain('FORWARD');
    await dockerStarts();
    await host.call('dockerStarted');
    expect(await marked()).toEqual(PAIR('DOCKER-USER'));
    const rules = (await host.run(`${iptables} -w -S DOCKER-USER`)).trim().split('\n');
    expect(rules.at(-1)).toBe('-A DOCKER-USER -j RETURN');
    await host.call('removeAll');
    expect(await marked()).toEqual([]);
  });

  test('Docker first, and packets pass', async () => {
    await dockerStarts();
    await host.call('apply', STATE);
    expect(await marked()).toEqual(PAIR('DOCKER-USER'));
    const addresses = (n: number): string[] => [`10.65.0.${n}`, `fd65::${n}`];
    const web = await host.container(endpoint(1, addresses(1)));
    await host.container(endpoint(2, addresses(2)));
    const there = iptables.startsWith('ip6') ? 'fd65::2' : '10.65.0.2';
    expect(await web.reaches(there)).toBe(true);
    await host.call('removeAll');
    await host.call('repair', [endpoint(1, addresses(1)), endpoint(2, addresses(2))]);
    expect(await web.reaches(there)).toBe(false);
  });

  test('without Docker only a policy of DROP is answered, and the pair moves when Docker comes', async () => {
    await host.run(`${iptables} -w -P FORWARD DROP`);
    await host.call('apply', STATE);
    expect(await marked()).toEqual(PAIR('FORWARD'));
    await dockerStarts();
    await until(async () => (await marked()).join() === PAIR('DOCKER-USER').join());
    await host.run(`${iptables} -w -P FORWARD ACCEPT`);
    expect(await marked()).toEqual(PAIR('DOCKER-USER'));
  });

  test('the pair comes back after a flush, and once only', async () => {
    await dockerStarts();
    await host.call('apply', STATE);
    await host.run(`${iptables} -w -F DOCKER-USER`);
    await until(async () => (await marked()).join() === PAIR('DOCKER-USER').join());
    // All rules gone: DOCKER-USER is not reached any more, DROP is still the policy.
    await host.run(`${iptables} -w -F`);
    await until(async () => (await marked()).join() === PAIR('FORWARD').join());
    await dockerStarts().catch(() => host.run(`${iptables} -w -I FORWARD -j DOCKER-USER`));
    await until(async () => (await marked()).join() === PAIR('DOCKER-USER').join());
  });

  test("an administrator's rule above the pair stays there", async () => {
    await dockerStarts();
    await host.call('apply', STATE);
    await host.run(`${iptables} -w -I DOCKER-USER -i cali7 -j DROP`);
    await host.call('dockerStarted');
    const rules = (await host.run(`${iptables} -w -S DOCKER-USER`)).trim().split('\n');
    expect(rules[1]).toBe('-A DOCKER-USER -i cali7 -j DROP');
    expect(await marked()).toHaveLength(2);
  });
});

test('looking makes no legacy table', async () => {
  await host.call('apply', STATE);
  await host.call('dockerStarted');
  expect(await host.run('cat /proc/net/ip_tables_names')).toBe('');
});
