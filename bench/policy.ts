import { spawnSync } from 'node:child_process';
import { pino } from 'pino';
import { POLICY_TABLE } from '../src/host/nft-policy-names.js';
import { createLinuxDataplane } from '../src/host/linux.js';
import { NftNetlink } from '../src/host/nft-netlink.js';
import type { AddressSet, EndpointPolicy, HostPolicy, HostRule, Judgement } from '../src/host/policy.js';
import { aim, median, percentile, round, say, timed } from './support/report.js';

/**
 * What it costs to bring policy into the kernel: 1,000 endpoints of this host, 10,000 others, 1,000 policies of which each
 * endpoint has ten. `npm run bench -- policy [LOCAL] [REMOTE] [POLICIES]`
 */

const numbers = process.argv
  .slice(2)
  .map(Number)
  .filter(number => number > 0);
const [LOCAL = 1_000, REMOTE = 10_000, POLICIES = 1_000] = numbers;
const ROUNDS = 50;
const KINDS = Math.min(100, LOCAL);
/** Policies that select an endpoint. */
const EACH = 10;
const IN_NAMESPACE = '--in-namespace';

const address = (n: number): string => `10.${64 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
const name = (n: number): string => `cali${n}`;

function rules(n: number): HostRule[] {
  const set = `kind == '${n % KINDS}'`;
  return [
    {
      action: 'allow',
      protocol: 6,
      source: { sets: [set] },
      destination: { ports: [{ first: n + 1, last: n + 1 }] },
    },
    { action: 'deny', source: { sets: [set] }, destination: {} },
  ];
}

function judgement(direction: string, kind: number): Judgement {
  const policies = Array.from(
    { length: EACH },
    (_, at) => `default.policy${(kind * EACH + at) % POLICIES}/${direction}`,
  );
  return { tiers: [{ policies, otherwise: 'deny' }], profiles: [`net1/${direction}`] };
}

function policy(): HostPolicy {
  const ids = Array.from({ length: POLICIES }, (_, n) => n);
  const judgements = Array.from({ length: KINDS }, (_, kind) => ({
    ingress: judgement('ingress', kind),
    egress: judgement('egress', kind),
  }));
  const sets = Array.from({ length: KINDS }, () => new Set<string>());
  for (let n = 0; n < LOCAL + REMOTE; n += 1) sets[n % KINDS]?.add(address(n));
  const all = new Set(sets.flatMap(set => [...set]));
  return {
    endpoints: new Map(
      Array.from({ length: LOCAL }, (_, n): [string, EndpointPolicy] => {
        const found = judgements[n % KINDS];
        if (!found) throw new Error('no kind');
        return [name(n), { mac: '02:42:0a:00:00:01', sources: [address(n)], ...found }];
      }),
    ),
    rules: new Map([
      ...ids.flatMap(n =>
        ['ingress', 'egress'].map((direction): [string, HostRule[]] => [
          `default.policy${n}/${direction}`,
          rules(n),
        ]),
      ),
      ['net1/ingress', [{ action: 'allow', source: { sets: ['has(net1)'] }, destination: {} }]],
      ['net1/egress', [{ action: 'allow', source: {}, destination: {} }]],
    ]),
    addressSets: new Map<string, AddressSet>([
      ...sets.map((addresses, kind): [string, AddressSet] => [`kind == '${kind}'`, { addresses, nets: [] }]),
      ['has(net1)', { addresses: all, nets: [] }],
    ]),
    portSets: new Map(),
    consented: [],
    fromHost: 'allow',
  };
}

/** With one more endpoint of a kind, or one less. */
function joined(before: HostPolicy, n: number, kind: number): HostPolicy {
  const like = before.endpoints.get(name(kind));
  if (!like) throw new Error('no such kind');
  const endpoints = new Map(before.endpoints).set(name(n), { ...like, sources: [address(n)] });
  return { ...before, endpoints, addressSets: moved(before, n, [`kind == '${kind}'`, 'has(net1)'], []) };
}

function moved(
  before: HostPolicy,
  n: number,
  to: readonly string[],
  from: readonly string[],
): HostPolicy['addressSets'] {
  const sets = new Map(before.addressSets);
  for (const [ids, isIn] of [
    [to, true],
    [from, false],
  ] as const)
    for (const id of ids) {
      const addresses = new Set(sets.get(id)?.addresses);
      if (isIn) addresses.add(address(n));
      else addresses.delete(address(n));
      sets.set(id, { addresses, nets: [] });
    }
  return sets;
}

/** An endpoint becomes another kind: it is judged by other policies, and others judge it otherwise. */
function relabelled(before: HostPolicy, n: number, from: number, to: number): HostPolicy {
  const [old, like] = [before.endpoints.get(name(n)), before.endpoints.get(name(to))];
  if (!old || !like) throw new Error('no such kind');
  const endpoints = new Map(before.endpoints).set(name(n), { ...like, sources: old.sources });
  return { ...before, endpoints, addressSets: moved(before, n, [`kind == '${to}'`], [`kind == '${from}'`]) };
}

async function main(): Promise<void> {
  const dataplane = createLinuxDataplane({}, pino({ level: 'warn' }));
  const netlink = new NftNetlink();
  let now = policy();
  say(`${LOCAL} endpoints, ${REMOTE} others, ${POLICIES} policies`);
  const before = process.memoryUsage.rss();
  aim('full apply', await timed(() => dataplane.applyPolicy(now)), '<=', 3_000, ' ms');
  say(`memory: ${round((process.memoryUsage.rss() - before) / 1e6)} MB more than before`);

  const step = async (next: HostPolicy): Promise<number> => {
    now = next;
    return timed(() => dataplane.applyPolicy(next));
  };
  const series = async (what: string, limit: number, next: (at: number) => HostPolicy): Promise<void> => {
    const times: number[] = [];
    const began = await netlink.generation();
    for (let at = 0; at < ROUNDS; at += 1) times.push(await step(next(at)));
    const transactions = ((await netlink.generation()) - began) / ROUNDS;
    aim(`${what}: median`, median(times), '<=', limit, ' ms');
    say(`${what}: p90 ${round(percentile(times, 0.9))} ms, ${transactions} transactions each`);
  };
  await series('a new endpoint', 0.5, at => joined(now, LOCAL + REMOTE + at, at % KINDS));
  await series('an endpoint gets another label, of a known kind', 50, at =>
    relabelled(now, at % KINDS, at % KINDS, (at + 1) % KINDS),
  );
  await series('an endpoint is judged as nobody was', 50, at => {
    const old = now.endpoints.get(name(KINDS + at));
    if (!old) throw new Error('no endpoint');
    const policies = [
      `default.policy${at % POLICIES}/ingress`,
      `default.policy${(at + 500) % POLICIES}/ingress`,
    ];
    const ingress: Judgement = { tiers: [{ policies, otherwise: 'deny' }], profiles: [] };
    return { ...now, endpoints: new Map(now.endpoints).set(name(KINDS + at), { ...old, ingress }) };
  });
  await series('a policy is edited', 50, at => ({
    ...now,
    rules: new Map(now.rules).set(`default.policy${at % POLICIES}/ingress`, rules(at + 5_000)),
  }));
  const marker = await netlink.tableHandle(POLICY_TABLE);
  const flushed = performance.now();
  spawnSync('nft', ['flush', 'ruleset']);
  let closed: number | undefined;
  for (let left = 0; left < 1_000; left += 1) {
    await new Promise(resolve => setTimeout(resolve, 10));
    const handle = await netlink.tableHandle(POLICY_TABLE);
    if (handle !== undefined && handle !== marker) closed ??= performance.now() - flushed;
    if (closed !== undefined && (await netlink.rules(POLICY_TABLE)).counts.size > 100) break;
  }
  aim('closed again after nft flush ruleset', closed ?? NaN, '<=', 1_000, ' ms');
  aim('and whole again', performance.now() - flushed, '<=', 3_000, ' ms');
  await dataplane.removeAll();
  await dataplane.close();
  netlink.close();
}

if (process.argv.includes(IN_NAMESPACE)) await main();
else {
  const args = ['--net', '--mount', process.execPath, ...process.argv.slice(1), IN_NAMESPACE];
  process.exitCode = spawnSync('unshare', args, { stdio: 'inherit' }).status ?? 1;
}
