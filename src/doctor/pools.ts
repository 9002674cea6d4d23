import { covers, formatCidr, overlap, parseCidr } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import type { IpPool } from '../model/ip-pool.js';
import { hostCidr } from '../host/bytes.js';
import { CALICO_INTERFACE } from '../host/facts.js';
import { ok, problem, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

/** Protocol numbers of routes that lead to containers: ours, Felix's, BIRD's. */
const CONTAINERS = new Set([81, 80, 12]);

/** What the host reaches beside containers. */
export interface HostRange {
  readonly cidr: Cidr;
  /** For the message: `by eth0`, `an address of eth0`. */
  readonly what: string;
}

/** No IPPool overlaps what the host reaches otherwise. */
export const pools: Check<Subject> = {
  name: 'pools',
  async look({ netlink, links, pools }) {
    const [routes, addresses, interfaces] = await Promise.all([
      netlink.routes(),
      netlink.addresses(),
      links(),
    ]);
    const names = new Map(interfaces.map(({ index, name }) => [index, name]));
    const nameOf = (device: number | undefined): string => names.get(device ?? 0) ?? 'nothing';
    const ranges: HostRange[] = [];
    const add = (text: string, device: number | undefined, what: string): void => {
      const cidr = parseCidr(text);
      if (cidr && cidr.length > 0 && !CALICO_INTERFACE.test(nameOf(device)) && !isEverywhere(text))
        ranges.push({ cidr, what });
    };
    for (const { destination, type, protocol, device } of routes)
      if (type === 'unicast' && !CONTAINERS.has(protocol)) add(destination, device, `by ${nameOf(device)}`);
    for (const { address, device } of addresses)
      add(hostCidr(address), device, `an address of ${nameOf(device)}`);
    return judgePools(await pools(), ranges);
  },
};

/** Link-local, multicast and loopback ranges, which every interface has. */
function isEverywhere(text: string): boolean {
  return /^(fe[89ab]|ff|127\.|169\.254\.)/.test(text) || text === '::1/128';
}

export function judgePools(all: readonly IpPool[], ranges: readonly HostRange[]): Verdict[] {
  if (all.length === 0)
    return [
      warning(
        'there is no IPPool: networks without --subnet fail',
        'restart the daemon, which makes one, or use --subnet',
      ),
    ];
  const found = all.flatMap(pool => {
    const clashes = ranges.filter(({ cidr }) => overlap(pool.cidr, cidr));
    const [worst] = clashes.toSorted(
      (a, b) => Number(covers(b.cidr, pool.cidr)) - Number(covers(a.cidr, pool.cidr)),
    );
    if (!worst) return [];
    return problem(
      `IPPool ${pool.name} (${formatCidr(pool.cidr)}) overlaps ${formatCidr(worst.cidr)}, which this host reaches ${worst.what}: packets to one of the two are lost`,
      'use another range for the pool, and move its networks there; or take the route away, if nobody needs it',
    );
  });
  const open = all.filter(({ disabled }) => !disabled).length;
  if (found.length > 0) return found;
  if (open === 0)
    return [warning('all IPPools are disabled: no container gets an address', 'enable one, or use --subnet')];
  return [ok(`${all.length} IPPools, none of which overlaps what this host reaches otherwise`)];
}
