import { describe, expect, test } from 'vitest';
import type { HostPolicy } from '../../src/host/policy.js';
import { ALL, HOST4, freshPort, letIn, policy, usePolicyBed } from './policy-bed.js';
import { until } from './pretend-host.js';
import { plain } from './plain-policy.js';

/** How the policy table is changed, and what happens when others change it. */

const bed = usePolicyBed();

describe('a change', () => {
  test('is one transaction, whatever it is', async () => {
    await bed().enforce(policy([1, 2]));
    const steps: HostPolicy[] = [
      policy([1, 2, 3]),
      letIn([ALL]),
      letIn([{ ...ALL, protocol: 6 }]),
      letIn([{ ...ALL, source: { sets: ['x'] } }], {
        addressSets: new Map([['x', { addresses: new Set(), nets: ['10.0.0.0/8'] }]]),
      }),
      policy([1]),
    ];
    for (const step of steps) {
      const before = await bed().host.call('generation');
      await bed().enforce(step);
      expect(await bed().host.call('generation')).toBe(before + 1);
      await bed().enforce(step);
      expect(await bed().host.call('generation')).toBe(before + 1);
    }
  });

  test('may come while others come, and while other programs change nftables', async () => {
    const wanted = Array.from({ length: 30 }, (_, n) => policy(n % 2 === 0 ? [1, 2, 3] : [1, 3]));
    const others = async (): Promise<void> => {
      for (let n = 0; n < 10; n += 1) {
        await bed().host.run('nft add table inet theirs');
        await bed().host.run('nft delete table inet theirs');
      }
    };
    const ours = async (): Promise<void> => {
      for (let n = 0; n < 10; n += 1) await bed().host.call('enforceAll', wanted.map(plain));
    };
    await Promise.all([ours(), others()]);
    const after = await bed().listing();
    expect(after).not.toContain('"cali2"');
    await bed().host.run('nft delete table inet calico_policy');
    await until(
      async () =>
        (await bed()
          .listing()
          .catch(() => '')) !== '',
    );
    expect(sorted(after)).toEqual(sorted(await bed().listing()));
  });
});

describe('what others do to the table', () => {
  test.each([
    ['flush ruleset', 'flush ruleset'],
    ['delete the table', 'delete table inet calico_policy'],
    ['empty a chain', 'flush chain inet calico_policy forward_ingress'],
    ['add a rule', 'insert rule inet calico_policy forward_ingress accept'],
    ['replace the table', 'delete table inet calico_policy; add table inet calico_policy'],
  ])('%s: it is back at once', async (_what, script) => {
    await bed().enforce(policy([1, 2, 3]));
    const before = await bed().listing();
    await bed().host.run('nft -f -', script);
    await until(
      async () =>
        (await bed()
          .listing()
          .catch(() => '')) === before,
      2_000,
    );
  });

  test('a large table comes back in two steps: first it only lets nothing new pass', async () => {
    const many = Array.from({ length: 3_000 }, (_, n) => `10.66.${n >> 8}.${n & 255}`);
    const addresses = new Set([...many, '10.65.0.3', 'fd65::3']);
    await bed().enforce(policy([1, 2, 3], [], { addressSets: new Map([['net2', { addresses, nets: [] }]]) }));
    const before = sorted(await bed().listing());
    const monitor = bed().host.run('timeout 3 nft -n monitor new chains').catch(String);
    await new Promise(resolve => setTimeout(resolve, 500));
    await bed().host.run('nft flush ruleset');
    await until(async () => (await listed()) === before.join());
    // It ends by its time limit: what it has printed is part of the error.
    const chains = (await monitor).split('\n').filter(line => line.includes('inet calico_policy'));
    const [closed, whole] = [chains.slice(0, 5), chains.slice(5)];
    expect(closed.join()).not.toContain('spoofed');
    expect(closed.filter(line => line.includes('hook'))).toHaveLength(4);
    expect(whole.filter(line => line.includes('hook'))).toHaveLength(5);
  });

  test('a connection that began while it was gone is judged when it is back; older ones go on', async () => {
    // Without anybody who asks for it the kernel does not track at all.
    await bed().host.run(
      'nft -f -',
      `add table inet theirs
       add chain inet theirs c { type filter hook forward priority 10; }
       add rule inet theirs c ct state invalid counter`,
    );
    await bed().enforce(policy([1, 2, 3]));
    const [old, port] = [freshPort(), freshPort()];
    const ask = (n: number, from: number) => bed().talker(n).who('udp', '10.65.0.2', 80, from);
    expect(await ask(1, old)).toBe('two');
    // What is established stays so, also where nothing new would be let in.
    await bed().enforce(letIn([]));
    const before = sorted(await bed().listing()).join();
    const isBack = async (): Promise<boolean> => (await listed()) === before;
    await new Promise(resolve => setTimeout(resolve, 1_000));
    let inTheGap = 'nobody';
    for (let tries = 0; inTheGap === 'nobody' && tries < 10; tries += 1) {
      await until(isBack);
      await bed().host.run('nft delete table inet calico_policy');
      inTheGap = await ask(3, port);
    }
    expect(inTheGap).toBe('two');
    await until(isBack);
    await until(async () => (await ask(3, port)) === 'nobody', 2_000);
    expect(await ask(1, old)).toBe('two');
    await bed().host.run('nft delete table inet theirs');
  });

  test('elements are compared as well, only later', async () => {
    await bed().enforce(policy([1, 2, 3]));
    const before = await bed().listing();
    await bed().host.run('nft add element inet calico_policy addresses4_net1_6c270ef2f251d571 { 10.65.0.3 }');
    await until(async () => (await bed().listing()) === before, 5_000);
    await bed().host.run('nft flush set inet calico_policy sources4');
    await until(async () => sorted(await bed().listing()).join() === sorted(before).join(), 5_000);
  });

  test('the last policy is back also where the wanted one cannot be put in', async () => {
    await bed().enforce(policy([1, 2, 3]));
    const before = sorted(await bed().listing());
    const impossible = [{ ...ALL, protocol: 6, destination: { ports: [{ first: 70_000, last: 70_000 }] } }];
    await expect(bed().enforce(letIn(impossible))).rejects.toThrow('70000');
    for (const script of ['flush ruleset', 'flush chain inet calico_policy forward_ingress']) {
      await bed().host.run('nft -f -', script);
      await until(async () => (await listed()) === before.join(), 3_000);
    }
  });

  test('what a former daemon left stays until there is a policy', async () => {
    await bed().enforce(policy([1, 2, 3]));
    const before = await bed().listing();
    await bed().host.call('holdUntilPolicy');
    expect(await bed().listing()).toBe(before);
  });
});

test('without nft the table stays in force, and new endpoints are refused only where it takes nft', async () => {
  await bed().enforce(policy([1, 3]));
  const only17 = [{ ...ALL, protocol: 17 }];
  const nft = (await bed().host.run('which nft')).trim();
  await bed().host.run(`mount --bind /dev/null ${nft}`);
  await bed().enforce(policy([1, 2, 3]));
  expect(await bed().container(2).reaches(HOST4)).toBe(true);
  await expect(bed().enforce(letIn(only17))).rejects.toThrow(
    'CommandError: nft -f -: the command must not be run',
  );
  expect(await bed().who(1, 'tcp', '10.65.0.2', 80)).toBe('two');
  expect(await bed().who(3, 'tcp', '10.65.0.2', 80)).toBe('nobody');
  await bed().host.run(`umount ${nft}`);
  // The check that comes by itself makes up for it.
  await until(async () => (await bed().who(3, 'udp', '10.65.0.2', 80)) === 'two');
});

/** The table in an order that does not depend on how it came to be; empty where there is none. */
async function listed(): Promise<string> {
  return sorted(
    await bed()
      .listing()
      .catch(() => ''),
  ).join();
}

/** Lines of a listing, in an order that does not depend on how the table came to be. */
function sorted(text: string): string[] {
  return text
    .split(/[\n,{}]+/)
    .map(line => line.trim())
    .filter(line => line !== 'elements =')
    .sort();
}
