import { chainForPair, planPair } from '../host/forwarding.js';
import { readFilterTable } from '../host/iptables.js';
import type { FilterTable } from '../host/iptables.js';
import { NftNetlink } from '../host/nft-netlink.js';
import { POLICY_TABLE } from '../host/nft-policy-names.js';
import { run } from '../host/run.js';
import { ok, problem, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import { isContainer } from './mtu.js';
import type { Subject } from './subject.js';

const RESTORE =
  'start the daemon, which puts it back within seconds; if it runs, look for `cannot bring the host up to date` in its log';
/** Our tables, and what is not so without them. */
const TABLES = {
  'table inet calico_libnetwork': 'nothing is masqueraded, and no port is published',
  [`table inet ${POLICY_TABLE}`]: 'no policy is enforced, networks are not isolated',
};

/** The host's firewall lets containers' packets pass: Docker sets the policy of FORWARD to DROP. */
export const firewall: Check<Subject> = {
  name: 'FORWARD',
  async look({ config }) {
    if (config.dataplane === 'felix') return [ok('Felix looks after it')];
    const tables: FilterTable[] = [];
    for (const backend of ['nft', 'legacy'] as const)
      for (const family of [4, 6] as const) {
        const table = await readFilterTable(backend, family);
        if (table) tables.push(table);
      }
    return judgeFirewall(tables);
  },
};

export function judgeFirewall(tables: readonly FilterTable[]): Verdict[] {
  const found = tables.flatMap(table => {
    const chain = chainForPair(table);
    if (chain === undefined || planPair(table, chain, 'cali').length === 0) return [];
    const where = `iptables-${table.backend}, IPv${table.family}`;
    const missing = `the rules that accept cali+ are not in ${chain} as they should be`;
    if (table.forwardPolicy !== 'DROP')
      return [warning(`${missing} (${where}); the policy of FORWARD is ${table.forwardPolicy}`, RESTORE)];
    return [
      problem(`the policy of FORWARD is DROP, and ${missing} (${where}): containers reach nothing`, RESTORE),
    ];
  });
  if (found.length > 0) return found;
  const drops = tables.some(({ forwardPolicy }) => forwardPolicy === 'DROP');
  return [
    ok(
      drops
        ? 'the policy of FORWARD is DROP, and containers are accepted before it'
        : 'the policy of FORWARD lets packets pass',
    ),
  ];
}

/** The daemon's own rules are there: masquerading, published ports, policy. */
export const rules: Check<Subject> = {
  name: 'nftables',
  async look({ config, daemon, links }) {
    if (config.dataplane === 'felix') return [judgeBesideFelix(await hasPolicyTable())];
    const containers = (await links()).filter(isContainer).length;
    return judgeRules(await run('nft', ['list', 'tables']), daemon !== undefined, containers);
  },
};

/** `tables`: as `nft list tables` prints them. They stay in force without a daemon, as long as nobody flushes them. */
export function judgeRules(tables: string, isServing: boolean, containers: number): Verdict[] {
  const there = new Set(tables.split('\n'));
  if (!isServing && containers === 0) return [ok('no daemon runs, and there are no containers')];
  return Object.entries(TABLES).map(([table, without]) =>
    there.has(table) ? ok(`${table} is there`) : problem(`${table} is missing: ${without}`, RESTORE),
  );
}

/** `isThere`: the policy table that only a daemon without Felix keeps. */
export function judgeBesideFelix(isThere: boolean): Verdict {
  if (!isThere) return ok('Felix looks after it');
  return problem(
    `table inet ${POLICY_TABLE}, of the time before Felix, is still in force: it drops what new containers send and get`,
    `start the daemon, which deletes it; if it runs: nft delete table inet ${POLICY_TABLE}`,
  );
}

/** Asks the kernel itself: beside Felix there may be no nft. Throws NetlinkError. */
async function hasPolicyTable(): Promise<boolean> {
  const nftables = new NftNetlink();
  try {
    return (await nftables.tableHandle(POLICY_TABLE)) !== undefined;
  } finally {
    nftables.close();
  }
}
