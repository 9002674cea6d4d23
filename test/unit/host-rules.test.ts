import { describe, expect, test } from 'vitest';
import { bytesOf, hostCidr, textOf } from '../../src/host/bytes.js';
import { chainForPair, planPair } from '../../src/host/forwarding.js';
import { parseSaved } from '../../src/host/iptables.js';
import type { FilterTable } from '../../src/host/iptables.js';
import { renderTable } from '../../src/host/nft.js';
import { checkInterfaceName } from '../../src/host/sysctl.js';

describe('the nftables table', () => {
  test('is rendered as one transaction, sorted, IPv4 and IPv6 apart', () => {
    const rendered = renderTable({
      masqueradeFrom: ['10.65.0.0/16', 'fd65::/64'],
      pools: ['fd65::/64', '10.66.0.0/16', '10.65.0.0/16'],
    });
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
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @masquerade_from4 ip daddr != @pools4 masquerade fully-random
    ip6 saddr @masquerade_from6 ip6 daddr != @pools6 masquerade fully-random
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ip daddr 169.254.1.1 drop
  }
}
`);
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
