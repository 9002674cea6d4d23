import { readFileSync } from 'node:fs';
import { CommandError, run } from './run.js';

/** The two implementations of iptables; a host may use both at once, and packets pass the rules of both. */
export type Backend = 'nft' | 'legacy';
export type Family = 4 | 6;

/** The filter table of one backend and family, as far as forwarding is concerned. */
export interface FilterTable {
  readonly backend: Backend;
  readonly family: Family;
  /** Names of all chains. */
  readonly chains: ReadonlySet<string>;
  readonly forwardPolicy: string;
  /** Rules as `iptables-save` prints them, `-A CHAIN …`, in order. */
  readonly rules: readonly string[];
}

const NAMES = { 4: 'iptables', 6: 'ip6tables' } as const;
const PROC_NAMES = { 4: '/proc/net/ip_tables_names', 6: '/proc/net/ip6_tables_names' } as const;

/** Reads a filter table; undefined where there is none, or no such iptables on the host. Throws HostError. */
export async function readFilterTable(backend: Backend, family: Family): Promise<FilterTable | undefined> {
  // iptables-legacy makes the table, and loads its module, by merely looking.
  if (backend === 'legacy' && !hasLegacyTable(family)) return undefined;
  const saved = await runIptables(backend, family, 'save', ['-t', 'filter']);
  return saved === undefined ? undefined : parseSaved(backend, family, saved);
}

/** Changes a filter table in one transaction; `lines` as in `iptables-restore`. Throws HostError. */
export async function changeFilterTable(
  backend: Backend,
  family: Family,
  lines: readonly string[],
): Promise<void> {
  const script = ['*filter', ...lines, 'COMMIT', ''].join('\n');
  // Others use iptables too: wait for its lock up to five seconds.
  await runIptables(backend, family, 'restore', ['--noflush', '-w', '5'], script);
}

/** Reads what iptables-save printed; undefined where it has no filter table. */
export function parseSaved(backend: Backend, family: Family, saved: string): FilterTable | undefined {
  const lines = saved.split('\n');
  if (!lines.includes('*filter')) return undefined;
  const policies = new Map<string, string>();
  for (const line of lines) {
    const [, chain, policy] = /^:(\S+) (\S+)/.exec(line) ?? [];
    if (chain !== undefined && policy !== undefined) policies.set(chain, policy);
  }
  return {
    backend,
    family,
    chains: new Set(policies.keys()),
    forwardPolicy: policies.get('FORWARD') ?? 'ACCEPT',
    rules: lines.filter(line => line.startsWith('-A ')),
  };
}

function hasLegacyTable(family: Family): boolean {
  try {
    return readFileSync(PROC_NAMES[family], 'latin1').split('\n').includes('filter');
  } catch {
    return false;
  }
}

/** Undefined where the host has no iptables of that backend. */
async function runIptables(
  backend: Backend,
  family: Family,
  verb: 'save' | 'restore',
  args: readonly string[],
  input?: string,
): Promise<string | undefined> {
  try {
    return await run(`${NAMES[family]}-${backend}-${verb}`, args, input);
  } catch (error) {
    if (!(error instanceof CommandError && error.isMissing)) throw error;
  }
  // Distributions with one backend have it under the plain name only, e.g. "iptables v1.8.9 (nf_tables)"; versions
  // that say nothing are from before there were two.
  try {
    const version = await run(NAMES[family], ['--version']);
    if (version.includes('nf_tables') !== (backend === 'nft')) return undefined;
    return await run(`${NAMES[family]}-${verb}`, args, input);
  } catch (error) {
    if (error instanceof CommandError && error.isMissing) return undefined;
    throw error;
  }
}
