import { readSetting } from '../host/sysctl.js';
import { hostLinks } from '../host/facts.js';
import { ok, problem, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

/** The kernel's settings that decide whether packets pass. Values as /proc/sys/net has them; undefined: there is none. */
export interface KernelSettings {
  readonly forwarding4: string | undefined;
  readonly forwarding6: string | undefined;
  /** Interfaces of containers. */
  readonly containers: readonly string[];
  readonly has6: boolean;
}

const PERMANENT = 'and put it into /etc/sysctl.d, where something else turns it off';

/** The kernel forwards packets. */
export const forwarding: Check<Subject> = {
  name: 'ip_forward',
  async look({ netlink }) {
    const containers = (await hostLinks(netlink, 'cali')).map(({ name }) => name);
    const has6 = (await netlink.routes({ protocol: 81 })).some(
      ({ destination, type }) => type === 'unicast' && destination.includes(':'),
    );
    return judgeForwarding({
      forwarding4: readSetting('ipv4/ip_forward'),
      forwarding6: readSetting('ipv6/conf/all/forwarding'),
      containers,
      has6,
    });
  },
};

export function judgeForwarding({ forwarding4, forwarding6, containers, has6 }: KernelSettings): Verdict[] {
  const found: Verdict[] = [];
  if (forwarding4 === '0' && containers.length > 0)
    found.push(
      problem(
        'net.ipv4.ip_forward is 0: containers reach nothing',
        `sysctl -w net.ipv4.ip_forward=1, ${PERMANENT}`,
      ),
    );
  if (forwarding6 === '0' && has6)
    found.push(
      problem(
        'net.ipv6.conf.all.forwarding is 0: containers reach nothing by IPv6',
        `sysctl -w net.ipv6.conf.all.forwarding=1, ${PERMANENT}`,
      ),
    );
  if (found.length > 0) return found;
  return [
    ok(forwarding4 === '1' ? 'IP forwarding is on' : 'IP forwarding is off; the first container turns it on'),
  ];
}

/** Whether the kernel checks the sources of what containers send. */
export const sources: Check<Subject> = {
  name: 'rp_filter',
  async look({ config, netlink }) {
    const values = (await hostLinks(netlink, 'cali')).map(({ name }) => ({
      name,
      value: readSetting(`ipv4/conf/${name}/rp_filter`),
    }));
    return [judgeSources(readSetting('ipv4/conf/all/rp_filter'), values, config.dataplane === 'native')];
  },
};

/** `all`: the setting for all interfaces; the larger of it and an interface's own counts. */
export function judgeSources(
  all: string | undefined,
  containers: readonly { readonly name: string; readonly value: string | undefined }[],
  isNative: boolean,
): Verdict {
  const open = containers
    .filter(({ value }) => value === '0' && (all ?? '0') === '0')
    .map(({ name }) => name);
  if (open.length > 0)
    return problem(
      `net.ipv4.conf.${open[0]}.rp_filter is 0${open.length > 1 ? ` (and ${open.length - 1} more)` : ''}: such containers can send with addresses of others`,
      isNative
        ? 'restart the daemon, which sets it; find what turns it off'
        : 'see that Felix runs, which sets it',
    );
  if (all === '2')
    return warning(
      'net.ipv4.conf.all.rp_filter is 2 (loose): containers can send with addresses of others',
      'sysctl -w net.ipv4.conf.all.rp_filter=1, or 0; Ubuntu sets 2 in /etc/sysctl.d/10-network-security.conf',
    );
  return ok('the kernel checks the source addresses of what containers send');
}
