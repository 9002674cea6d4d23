import { describe, expect, test } from 'vitest';
import { bytesOf, hostCidr, textOf } from '../../src/host/bytes.js';
import { chainForPair, planPair } from '../../src/host/forwarding.js';
import { parseSaved } from '../../src/host/iptables.js';
import type { FilterTable } from '../../src/host/iptables.js';
import type { PublishedPort } from '../../src/host/dataplane.js';
import { renderTable } from '../../src/host/nft.js';
import type { TableState } from '../../src/host/nft.js';
import { checkInterfaceName } from '../../src/host/sysctl.js';

const EMPTY = { masqueradeFrom: [], pools: [], published: [], internal: [] };

/** The lines of the table from the one that begins with `first` on, without those every table begins with. */
function from(first: string, rendered: string): string {
  return rendered.slice(rendered.indexOf(first));
}

describe('the nftables table', () => {
  test('is rendered as one transaction, sorted, IPv4 and IPv6 apart', () => {
    const rendered = renderTable(
      {
        ...EMPTY,
        masqueradeFrom: ['10.65.0.0/16', 'fd65::/64'],
        pools: ['fd65::/64', '10.66.0.0/16', '10.65.0.0/16'],
      },
      'cali',
    );
    expect(rendered).toBe(`table inet calico_libnetwork {}
delete table inet calico_libnetwork
table inet calico_libnetwork {
  set masquerade_from4 {
    type ipv4_addr; flags interval; auto-merge
    elements = { 10.65.0.0/16 }
  }
  set masquerade_from6 {
    type ipv6_addr; flags interval; auto-merge
    elements = { fd65::/64 }
  }
  set pools4 {
    type ipv4_addr; flags interval; auto-merge
    elements = { 10.65.0.0/16, 10.66.0.0/16 }
  }
  set pools6 {
    type ipv6_addr; flags interval; auto-merge
    elements = { fd65::/64 }
  }
  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname "cali*" ip daddr 127.0.0.0/8 drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @masquerade_from4 ip daddr != @pools4 masquerade fully-random
    ip6 saddr @masquerade_from6 ip6 daddr != @pools6 masquerade fully-random
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ip daddr 169.254.1.0/24 drop
  }
}
`);
  });

  test('has maps and chains for published ports', () => {
    const published: PublishedPort[] = [
      { protocol: 'udp', hostPort: 53, address: '10.65.0.2', port: 5353 },
      {
        protocol: 'tcp',
        hostPort: 8080,
        address: '10.65.0.1',
        port: 80,
        containerAddresses: ['10.65.0.1', '10.65.0.9', 'fd65::1'],
      },
      // Not two targets for one port: the first counts.
      { protocol: 'tcp', hostPort: 8080, address: '10.65.0.3', port: 80 },
      { protocol: 'sctp', hostAddress: '198.51.100.1', hostPort: 90, address: '10.65.0.1', port: 90 },
      { protocol: 'tcp', hostAddress: '2001:DB8:0::1', hostPort: 8080, address: 'FD65::0:1', port: 80 },
      // Not for the kernel.
      { protocol: 'tcp', hostAddress: '::1', hostPort: 81, address: 'fd65::1', port: 80 },
    ];
    const rendered = renderTable({ ...EMPTY, published }, 'cali');
    const [maps = ''] = rendered.slice(rendered.indexOf('  map')).split('  set masquerade_from4');
    expect(maps).toBe(`  map published4 {
    type inet_proto . inet_service : ipv4_addr . inet_service
    elements = { tcp . 8080 : 10.65.0.1 . 80, udp . 53 : 10.65.0.2 . 5353 }
  }
  map published_at4 {
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
    elements = { 198.51.100.1 . sctp . 90 : 10.65.0.1 . 90 }
  }
  set hairpin4 {
    type ipv4_addr . ipv4_addr
    elements = { 10.65.0.1 . 10.65.0.1, 10.65.0.2 . 10.65.0.2, 10.65.0.3 . 10.65.0.3, 10.65.0.9 . 10.65.0.1 }
  }
  map published6 {
    type inet_proto . inet_service : ipv6_addr . inet_service
  }
  map published_at6 {
    type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
    elements = { 2001:db8::1 . tcp . 8080 : fd65::1 . 80 }
  }
  set hairpin6 {
    type ipv6_addr . ipv6_addr
    elements = { fd65::1 . fd65::1 }
  }
  chain published {
    dnat ip to ip daddr . meta l4proto . th dport map @published_at4
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published4
    ip6 daddr ::1 return
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at6
    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published6
  }
`);
    const [chains = ''] = from('  chain prerouting', rendered).split('  chain forward');
    expect(chains).toBe(`  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump published
  }
  chain nat_output {
    type nat hook output priority -100; policy accept;
    fib daddr type local jump published
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr . ip daddr @hairpin4 masquerade fully-random
    ip6 saddr . ip6 daddr @hairpin6 masquerade fully-random
    ip saddr 127.0.0.0/8 oifname "cali*" masquerade fully-random
    ip saddr @masquerade_from4 ip daddr != @pools4 masquerade fully-random
    ip6 saddr @masquerade_from6 ip6 daddr != @pools6 masquerade fully-random
  }
`);
  });

  test('keeps internal networks to themselves', () => {
    const internal = [
      { interfaces: ['cali1', 'cali2'], members: ['10.65.0.2', '10.65.0.1', 'fd65::1'] },
      { interfaces: [], members: ['10.65.1.1'] },
    ];
    const rendered = renderTable({ ...EMPTY, internal }, 'cali');
    const [objects = ''] = rendered.slice(rendered.indexOf('  set')).split('  set masquerade_from4');
    expect(objects).toBe(`  set internal0_members4 {
    type ipv4_addr
    elements = { 10.65.0.1, 10.65.0.2 }
  }
  set internal0_members6 {
    type ipv6_addr
    elements = { fd65::1 }
  }
  chain internal0_from {
    ip daddr @internal0_members4 return
    ip6 daddr @internal0_members6 return
    drop
  }
  chain internal0_to {
    ip saddr @internal0_members4 return
    ip6 saddr @internal0_members6 return
    ct state related meta l4proto { icmp, ipv6-icmp } return
    drop
  }
  map internal_from {
    type ifname : verdict
    elements = { "cali1" : jump internal0_from, "cali2" : jump internal0_from }
  }
  map internal_to {
    type ifname : verdict
    elements = { "cali1" : jump internal0_to, "cali2" : jump internal0_to }
  }
  set internal_interfaces {
    type ifname
    elements = { "cali1", "cali2" }
  }
`);
    expect(from('  chain input', rendered)).toBe(`  chain input {
    type filter hook input priority filter; policy accept;
    iifname @internal_interfaces icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname @internal_interfaces drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname vmap @internal_from
    oifname vmap @internal_to
    ip daddr 169.254.1.0/24 drop
  }
  chain output {
    type filter hook output priority filter; policy accept;
    oifname @internal_interfaces icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    oifname @internal_interfaces ct state related meta l4proto { icmp, ipv6-icmp } accept
    oifname @internal_interfaces drop
  }
}
`);
  });

  test.each([
    [{ published: [{ protocol: 'tcp', hostPort: 1, address: '10.0.0.1 }', port: 1 }] }, 'is no IP address'],
    [{ published: [{ protocol: 'tcp', hostPort: 70_000, address: '10.0.0.1', port: 1 }] }, 'is no port'],
    [{ internal: [{ interfaces: ['a"b'], members: [] }] }, 'is no interface name'],
    [{ internal: [{ interfaces: ['cali1'], members: ['drop'] }] }, 'is no IP address'],
  ] as [Partial<TableState>, string][])('lets no nonsense through to nft', (part, message) => {
    expect(() => renderTable({ ...EMPTY, ...part }, 'cali')).toThrow(message);
  });
});

function table(...lines: string[]): FilterTable {
  const parsed = parseSaved('nft', 4, ['*filter', ...lines, 'COMMIT'].join('\n'));
  if (parsed === undefined) throw new Error('no filter table');
  return parsed;
}

const DOCKER = [':FORWARD DROP [0:0]', ':DOCKER-USER - [0:0]', '-A FORWARD -j DOCKER-USER'];
const OURS = ['-i', '-o'].map(way => `${way} cali+ -m comment --comment calico-libnetwork -j ACCEPT`);

describe('the rule pair', () => {
  test.each([
    ['nowhere, without Docker and DROP', [':FORWARD ACCEPT [0:0]'], undefined],
    ['in FORWARD, where its policy is DROP', [':FORWARD DROP [0:0]'], 'FORWARD'],
    ['in FORWARD, where Docker has no DOCKER-USER', [':FORWARD ACCEPT [0:0]', ':DOCKER - [0:0]'], 'FORWARD'],
    ['in DOCKER-USER, where FORWARD leads there', DOCKER, 'DOCKER-USER'],
    ['in FORWARD, where nothing leads to DOCKER-USER', DOCKER.slice(0, 2), 'FORWARD'],
  ])('belongs %s', (_where, lines, chain) => {
    expect(chainForPair(table(...lines))).toBe(chain);
  });

  test('is put at the top of its chain', () => {
    const lines = planPair(table(...DOCKER, '-A DOCKER-USER -j RETURN'), 'DOCKER-USER', 'cali');
    expect(lines).toEqual([`-I DOCKER-USER 1 ${OURS[0]}`, `-I DOCKER-USER 2 ${OURS[1]}`]);
  });

  test('moves with one transaction', () => {
    const lines = planPair(
      table(...DOCKER, ...OURS.map(rule => `-A FORWARD ${rule}`)),
      'DOCKER-USER',
      'cali',
    );
    const removed = OURS.map(rule => `-D FORWARD ${rule}`);
    expect(lines).toEqual([...removed, `-I DOCKER-USER 1 ${OURS[0]}`, `-I DOCKER-USER 2 ${OURS[1]}`]);
  });

  test('is left alone where it works, also as older iptables prints it', () => {
    const quoted = OURS.map(
      rule => `-A DOCKER-USER ${rule.replace('calico-libnetwork', '"calico-libnetwork"')}`,
    );
    const first = '-A DOCKER-USER -s 10.0.0.0/8 -j DROP';
    expect(
      planPair(table(...DOCKER, first, ...quoted, '-A DOCKER-USER -j RETURN'), 'DOCKER-USER', 'cali'),
    ).toEqual([]);
  });

  test('is put again where it comes after a RETURN, or more than once', () => {
    const rules = OURS.map(rule => `-A DOCKER-USER ${rule}`);
    const after = planPair(table(...DOCKER, '-A DOCKER-USER -j RETURN', ...rules), 'DOCKER-USER', 'cali');
    expect(after.filter(line => line.startsWith('-D'))).toHaveLength(2);
    expect(planPair(table(...DOCKER, ...rules, ...rules), 'DOCKER-USER', 'cali')).toHaveLength(6);
  });

  test("touches nobody else's rules", () => {
    const theirs = '-A FORWARD -i cali+ -m comment --comment "cali:abc" -j cali-FORWARD';
    expect(planPair(table(':FORWARD ACCEPT [0:0]', theirs), undefined, 'cali')).toEqual([]);
  });
});

describe('addresses', () => {
  test.each([
    ['10.0.0.1', '10.0.0.1/32'],
    ['FD00:0:0:0:0:0:0:1', 'fd00::1/128'],
    ['::', '::/128'],
    ['fe80::ecee:eeff:feee:eeee', 'fe80::ecee:eeff:feee:eeee/128'],
    ['::ffff:10.0.0.1', '::ffff:a00:1/128'],
  ])('%s is %s', (address, cidr) => {
    expect(hostCidr(address)).toBe(cidr);
    expect(textOf(bytesOf(address))).toBe(cidr.replace(/\/\d+$/, ''));
  });

  test.each(['', '10.0.0', '10.0.0.1/32', 'fe80::1%eth0'])('"%s" is none', text => {
    expect(() => bytesOf(text)).toThrow('is no IP address');
  });
});

test.each(['', '..', '.', 'a/b', 'cali0123456789ab', 'cali 1', 'cali\n'])(
  '"%s" is no interface name',
  name => {
    expect(() => checkInterfaceName(name)).toThrow('is no interface name');
  },
);
