import { textOf } from './bytes.js';
import { DATA, ELEMENT, elementMessages } from './nft-messages.js';
import { NftNetlink } from './nft-netlink.js';
import type { ElementChange } from './nft-policy-diff.js';
import { holdsJust, inner } from './nft-policy-listing.js';
import { canonical, chain, set } from './nft-table.js';
import { deleteTable, deletionOf, runScript } from './nft-script.js';
import { PORT, VNI } from './vxlan-messages.js';

/** Each family has a table of its own, which is there while its tunnel is: a daemon that starts replaces one at a time. */
const TABLES = { 4: 'calico_libnetwork_vxlan4', 6: 'calico_libnetwork_vxlan6' } as const;
const TYPES = {
  4: { address: 'ipv4_addr', saddr: 'ip saddr', daddr: 'ip daddr', nfproto: 'ipv4' },
  6: { address: 'ipv6_addr', saddr: 'ip6 saddr', daddr: 'ip6 daddr', nfproto: 'ipv6' },
} as const;
const SET = 'hosts';

/**
 * Who may send this host encapsulated packets: the other hosts of the cluster. What is unpacked comes from whatever source
 * it says, of a container or the host, so nobody else may. As Felix does; but told by Calico's VNI, since other overlays
 * (swarm's among them) share the UDP port.
 *
 * To the other hosts it forwards such packets of theirs only: those of containers on Docker's bridges would leave with this
 * host's address, which the others trust. (What our own containers send is dropped by the policy table.)
 */
export class TunnelHosts {
  private readonly netlink = new NftNetlink();
  private wanted: ReadonlySet<string> | undefined;
  /** How addresses of the last time are written: there may be thousands, and most are the same the next time. */
  private written: ReadonlyMap<string, string> = new Map();
  /** The kernel's number of our table, and the digest of its rules; undefined: it is not known to be as wanted. */
  private present: { readonly handle: string | undefined; readonly rules: string } | undefined;
  /** Whether there may be a table, of this daemon or one before. */
  private mayExist = true;

  constructor(private readonly family: 4 | 6) {}

  /**
   * From now on these hosts, by their addresses without length, and nobody else; undefined: there is no tunnel. One host
   * more is one netlink message. Throws HostError; who was accepted stays so then.
   */
  async accept(hosts: Iterable<string> | undefined): Promise<void> {
    const before = this.wanted;
    const after = hosts && this.canonical(hosts);
    this.wanted = after;
    try {
      if (!after) await this.remove();
      else if (!this.present || !before || !(await this.change(before, after))) await this.load(after);
    } catch (error) {
      this.present = undefined;
      throw error;
    }
  }

  /** Puts the table back where it is not as wanted; answers whether it had to. `isThorough`: compares the hosts too. */
  async check(isThorough: boolean): Promise<boolean> {
    if (!this.wanted || (await this.isIntact(this.wanted, isThorough))) return false;
    await this.load(this.wanted);
    return true;
  }

  close(): void {
    this.netlink.close();
  }

  private canonical(hosts: Iterable<string>): Set<string> {
    this.written = new Map([...hosts].map(host => [host, this.written.get(host) ?? canonical(host)]));
    return new Set(this.written.values());
  }

  private async remove(): Promise<void> {
    this.present = undefined;
    if (!this.mayExist) return;
    const table = TABLES[this.family];
    if ((await this.netlink.tableHandle(table)) !== undefined) await deleteTable(`inet ${table}`);
    this.mayExist = false;
  }

  /** False where the kernel does not take it: then the table is another. */
  private async change(before: ReadonlySet<string>, after: ReadonlySet<string>): Promise<boolean> {
    const table = TABLES[this.family];
    const messages = elementMessages(table, {
      removeElements: this.beyond(before, after),
      addElements: this.beyond(after, before),
    });
    if (messages.length === 0) return true;
    if (!NftNetlink.fits(messages)) return false;
    return this.netlink.commitAnyway(messages, `change table ${table}`).then(
      () => true,
      () => false,
    );
  }

  private beyond(hosts: ReadonlySet<string>, others: ReadonlySet<string>): ElementChange[] {
    const type = { fields: [TYPES[this.family].address], isMap: false, isRanges: false };
    return [...hosts]
      .filter(host => !others.has(host))
      .map(host => ({ set: SET, type, key: host, verdict: undefined }));
  }

  /** One transaction: packets see the table there was, or the new one. */
  private async load(hosts: ReadonlySet<string>): Promise<void> {
    this.present = undefined;
    this.mayExist = true;
    const { address, saddr, daddr, nfproto } = TYPES[this.family];
    const table = TABLES[this.family];
    // Where the host takes packets in, fragments are whole; on their way through where connections are tracked, as they are
    // with a translation of addresses. The VNI follows UDP's eight bytes and four of VXLAN's own.
    const rule = `meta nfproto ${nfproto} udp dport ${PORT} @th,96,24 ${VNI} ${saddr} != @${SET}`;
    const lines = [
      ...deletionOf(`inet ${table}`),
      `table inet ${table} {`,
      ...set(SET, address, [...hosts]),
      ...chain('input', ['type filter hook input priority -2; policy accept;', `${rule} drop`]),
      ...chain('forward', [
        'type filter hook forward priority -2; policy accept;',
        `${rule} ${daddr} @${SET} drop`,
      ]),
      '}',
      '',
    ];
    await runScript(lines.join('\n'));
    const handle = await this.netlink.tableHandle(table);
    this.present = { handle, rules: (await this.netlink.rules(table)).digest };
  }

  private async isIntact(hosts: ReadonlySet<string>, isThorough: boolean): Promise<boolean> {
    const { present } = this;
    const table = TABLES[this.family];
    if (present?.handle === undefined) return false;
    if ((await this.netlink.tableHandle(table)) !== present.handle) return false;
    if ((await this.netlink.rules(table)).digest !== present.rules) return false;
    const hostOf = (element: Buffer) => textOf(inner(inner(element, ELEMENT.key), DATA.value));
    return !isThorough || holdsJust(this.netlink, table, SET, hosts, hostOf);
  }
}
