import { HostError } from '../errors.js';
import { namedLinkBody } from './link-messages.js';
import { NLM, NetlinkError } from './netlink.js';
import type { NetlinkRequest, NetlinkSocket } from './netlink.js';
import { VXLAN_OVERHEAD } from './peers.js';
import type { Tunnel, TunnelPeer } from './peers.js';
import { RTM } from './rtnetlink-messages.js';
import type { RtNetlink } from './rtnetlink.js';
import {
  NEIGHBOUR,
  PORT,
  VNI,
  changedLinkBody,
  decodeNeighbour,
  decodeVxlan,
  deviceAddressBody,
  neighbourBody,
  neighboursBody,
  vxlanBody,
} from './vxlan-messages.js';
import type { Neighbour, VxlanLink } from './vxlan-messages.js';

/** Tells our device from one of another Calico on this host, as with veths. */
const LINK_GROUP = 81;
const NAMES = { 4: 'vxlan.calico', 6: 'vxlan-v6.calico' } as const;
/** Requests in one datagram. */
const BATCH = 200;

/**
 * Calico's VXLAN device of one family, and what it has to be told of other hosts, since it learns nothing by itself:
 * at which host a MAC is (FDB), and which MAC the other end's address inside the tunnel has (ARP, or its IPv6 sibling).
 */
export class Vxlan {
  private wanted: { tunnel: Tunnel; neighbours: ReadonlyMap<string, Neighbour> } | undefined;
  private addresses: ReadonlySet<string> = new Set();
  private device: number | undefined;
  private lastMtu: number | undefined;
  /** A change failed: what the kernel has is not known. */
  private isDoubtful = false;

  constructor(
    private readonly family: 4 | 6,
    private readonly netlink: RtNetlink,
    private readonly socket: NetlinkSocket,
  ) {}

  /** Of the device, while it is there. */
  get index(): number | undefined {
    return this.device;
  }

  /** Of the device, in bytes, while there is to be one. */
  get mtu(): number | undefined {
    return this.wanted && this.lastMtu;
  }

  /** Whether a change of this device matters. */
  isMine(name: string): boolean {
    return this.wanted !== undefined && name === NAMES[this.family];
  }

  /** Whether the loss of a neighbour is one: what we took away ourselves is not wanted. */
  wants(name: string, address: string): boolean {
    return this.isMine(name) && this.addresses.has(address);
  }

  /** Whether there is a device of the name that is not ours. Throws NetlinkError. */
  async isAnothers(): Promise<boolean> {
    const link = await this.netlink.link(NAMES[this.family]);
    return link !== undefined && link.group !== LINK_GROUP;
  }

  /** From now on this tunnel; answers with what was changed beyond neighbours, in words. Throws HostError. */
  async apply(tunnel: Tunnel, peers: Iterable<TunnelPeer>): Promise<string[]> {
    const before = this.wanted;
    const neighbours = neighboursOf(peers);
    this.wanted = { tunnel, neighbours };
    this.addresses = new Set([...neighbours.values()].map(({ at }) => at));
    const isKnown = before !== undefined && this.device !== undefined && !this.isDoubtful;
    if (!isKnown || JSON.stringify(before.tunnel) !== JSON.stringify(tunnel)) return this.restore();
    await this.changeNeighbours(this.device ?? 0, before.neighbours, neighbours);
    return [];
  }

  /** Makes everything as it should be; answers with what was not, in words. Throws HostError. */
  async restore(): Promise<string[]> {
    if (!this.wanted) return [];
    const { tunnel, neighbours } = this.wanted;
    const changes: string[] = [];
    const index = await this.ensureDevice(tunnel, changes);
    await this.ensureAddress(index, tunnel.address, changes);
    const present = await this.presentNeighbours(index);
    const count = await this.changeNeighbours(index, present, neighbours);
    if (count > 0) changes.push(`${count} neighbours of ${NAMES[this.family]}`);
    return changes;
  }

  /** Deletes our device, if there is one. */
  async remove(): Promise<void> {
    this.wanted = undefined;
    this.device = undefined;
    const name = NAMES[this.family];
    if ((await this.netlink.link(name))?.group === LINK_GROUP) await this.netlink.deleteLink(name);
  }

  private async ensureDevice(tunnel: Tunnel, changes: string[]): Promise<number> {
    const name = NAMES[this.family];
    const mtu = await this.mtuOver(tunnel.host);
    this.lastMtu = mtu;
    const spec = { name, mtu, mac: tunnel.mac, group: LINK_GROUP, local: tunnel.host };
    let link = await this.find(name);
    if (link && !isRight(link, tunnel)) {
      await this.netlink.deleteLink(name);
      link = undefined;
    }
    if (!link) {
      const create = { type: RTM.newLink, flags: NLM.create | NLM.exclusive, body: vxlanBody(spec) };
      await this.socket.request({ ...create, what: `create ${name} (VXLAN, UDP port ${PORT})` });
      changes.push(`interface ${name}`);
      link = await this.find(name);
    } else if (link.mac !== tunnel.mac || link.mtu !== mtu || !link.isUp) {
      const body = changedLinkBody(link.index, spec);
      await this.socket.request({ type: RTM.newLink, flags: 0, body, what: `change ${name}` });
      changes.push(`settings of ${name}`);
    }
    if (!link) throw new HostError(`${name} went as soon as it was there`);
    this.device = link.index;
    return link.index;
  }

  private async find(name: string): Promise<VxlanLink | undefined> {
    const request = { type: RTM.getLink, flags: 0, body: namedLinkBody(name), what: `look up ${name}` };
    const [message] = (await this.socket.request(request, ['ENODEV'])).messages;
    if (!message) return undefined;
    const link = decodeVxlan(message.data);
    if (link?.group !== LINK_GROUP)
      throw new HostError(
        `${name} is there and not ours: where another Calico runs on this host, set CALICO_LIBNETWORK_DATAPLANE=felix, else delete it (ip link delete ${name})`,
      );
    return link;
  }

  /** The largest packet that fits through the tunnel. */
  private async mtuOver(host: string): Promise<number> {
    const address = (await this.netlink.addresses()).find(one => one.address === host);
    const link = (await this.netlink.links()).find(({ index }) => index === address?.device);
    if (!link)
      throw new HostError(`no interface has ${host}, the address in this host's Node: is IP set right?`);
    return link.mtu - VXLAN_OVERHEAD[this.family];
  }

  private async ensureAddress(index: number, address: string, changes: string[]): Promise<void> {
    const all = (await this.netlink.addresses()).filter(one => one.device === index && one.scope === 0);
    const full = this.family === 4 ? 32 : 128;
    const isIt = (one: { address: string; prefixLength: number }) =>
      one.address === address && one.prefixLength === full;
    if (!all.some(isIt)) {
      const body = deviceAddressBody(index, address);
      const what = `add address ${address} to ${NAMES[this.family]}`;
      await this.socket.request({ type: RTM.newAddr, flags: NLM.create | NLM.replace, body, what });
      changes.push(`address ${address} of ${NAMES[this.family]}`);
    }
    for (const other of all.filter(one => !isIt(one) && one.prefixLength === full)) {
      const body = deviceAddressBody(index, other.address);
      const what = `delete address ${other.address} of ${NAMES[this.family]}`;
      await this.socket.request({ type: DEL_ADDR, flags: 0, body, what }, ['EADDRNOTAVAIL']);
    }
  }

  private async presentNeighbours(index: number): Promise<Map<string, Neighbour>> {
    const found = new Map<string, Neighbour>();
    for (const table of ['arp', 'fdb'] as const) {
      const request = {
        type: NEIGHBOUR.get,
        body: neighboursBody(table, this.family),
        what: 'list neighbours',
      };
      for (const one of await this.socket.dump(request, data => decodeNeighbour(data, index)))
        found.set(keyOf(one), one);
    }
    return found;
  }

  /** Adds before it deletes, and what is refused keeps none of the others away; answers how many it changed. */
  private async changeNeighbours(
    index: number,
    from: ReadonlyMap<string, Neighbour>,
    to: ReadonlyMap<string, Neighbour>,
  ): Promise<number> {
    const requests: NetlinkRequest[] = [];
    for (const [key, one] of to)
      if (valueOf(from.get(key)) !== valueOf(one))
        requests.push({
          type: NEIGHBOUR.new,
          flags: NLM.create | NLM.replace,
          body: neighbourBody(index, one),
          what: `add neighbour ${one.mac} at ${one.at}`,
        });
    for (const [key, one] of from)
      if (!to.has(key))
        requests.push({
          type: NEIGHBOUR.delete,
          flags: 0,
          body: neighbourBody(index, one),
          what: `delete neighbour ${one.mac} at ${one.at}`,
        });
    this.isDoubtful = true;
    let failure: NetlinkError | undefined;
    for (let start = 0; start < requests.length; start += BATCH) {
      const some = requests.slice(start, start + BATCH);
      const answers = await this.socket.batch(some);
      answers.forEach(({ code }, at) => {
        const request = some[at];
        if (code === undefined || (request?.type === NEIGHBOUR.delete && code === 'ENOENT')) return;
        failure ??= new NetlinkError(request?.what ?? 'netlink', code);
      });
    }
    if (failure) throw failure;
    this.isDoubtful = false;
    return requests.length;
  }
}

const DEL_ADDR = 21;

function isRight(link: VxlanLink, tunnel: Tunnel): boolean {
  return link.id === VNI && link.port === PORT && !link.isLearning && link.local === tunnel.host;
}

/** By what the kernel tells them apart: the FDB by MAC, ARP by address. */
function neighboursOf(peers: Iterable<TunnelPeer>): Map<string, Neighbour> {
  const all = new Map<string, Neighbour>();
  for (const { address, mac, host } of peers)
    for (const one of [
      { table: 'arp', mac, at: address },
      { table: 'fdb', mac, at: host },
    ] as const)
      all.set(keyOf(one), one);
  return all;
}

function keyOf({ table, mac, at }: Neighbour): string {
  return table === 'fdb' ? mac : at;
}

function valueOf(one: Neighbour | undefined): string {
  return one === undefined ? '' : one.table === 'fdb' ? one.at : one.mac;
}
