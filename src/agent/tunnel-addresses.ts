import type { Logger } from 'pino';
import { blockKey, handleKey } from '../datastore/keys.js';
import type { Store } from '../datastore/store.js';
import { withDeadline } from '../deadline.js';
import type { Allocator } from '../ipam/allocator.js';
import { allocationMetadata, holderOf } from '../ipam/block.js';
import { contains, formatAddress, nth, parseAddress, parseCidr } from '../ipam/cidr.js';
import type { Address, Family } from '../ipam/cidr.js';
import type { IpamFacts } from '../ipam/facts.js';
import { parseBlock, parseHandle } from '../model/block.js';
import { isDisappearing } from '../model/ip-pool.js';
import type { IpPool } from '../model/ip-pool.js';
import { tunnelMac } from '../model/node.js';
import { keepApplied } from './keep-applied.js';
import type { NodeWriter } from './node-writer.js';

/** Milliseconds for all round trips of one look. */
const PATIENCE = 20_000;
const FAMILIES = [4, 6] as const;
/** Calico's, by which its own programs find the address again. */
const HANDLES = { 4: 'vxlan-tunnel-addr-', 6: 'vxlan-v6-tunnel-addr-' } as const;
const TYPES = { 4: 'vxlanTunnelAddress', 6: 'vxlanV6TunnelAddress' } as const;

export interface TunnelAddressParts {
  readonly store: Store;
  /** This node's name. */
  readonly node: string;
  readonly facts: IpamFacts;
  readonly allocator: Allocator;
  readonly writer: NodeWriter;
  /** Calls back after this host's Node changed. */
  onNodeChange(changed: () => void): void;
  readonly log: Logger;
}

/**
 * This host's addresses inside Calico's VXLAN: allocated from a pool that encapsulates, under Calico's own handle, and
 * published in the Node, as long as any pool wants it; then freed. A pool that we are about to delete is left in time.
 */
export class TunnelAddresses {
  private readonly kept;
  /** By family, what is allocated and published; null: nothing. Undefined: not looked at yet. */
  private readonly settled = new Map<Family, string | null>();

  constructor(private readonly parts: TunnelAddressParts) {
    this.kept = keepApplied('addresses of the VXLAN', () => this.look(), parts.log);
  }

  /** Begins once everything was read; returns at once. */
  start(): void {
    const { facts, onNodeChange } = this.parts;
    facts.pools.onChange(this.kept.changed);
    onNodeChange(this.kept.changed);
    facts.whenRead().then(this.kept.changed, () => undefined);
  }

  close(): void {
    this.kept.stop();
  }

  private async look(): Promise<void> {
    const { facts, writer } = this.parts;
    // Without a Node there is nothing to publish it in, and no address from which packets would leave.
    if (!facts.isCurrent || !writer.known) return;
    const failures: unknown[] = [];
    for (const family of FAMILIES)
      if (!this.isSettled(family))
        // Pools of one family that are full are no reason for the other's tunnel to wait.
        await withDeadline(PATIENCE, () => this.settle(family)).catch((error: unknown) =>
          failures.push(error),
        );
    if (failures.length > 0) throw failures[0];
  }

  /** Whether memory alone shows that nothing is to be done. */
  private isSettled(family: Family): boolean {
    const address = this.settled.get(family);
    if (address === undefined) return false;
    const wanted = this.poolsFor(family);
    if (address === null) return wanted.length === 0;
    const isGood = wanted.some(pool => isIn(pool, address));
    return isGood && this.parts.writer.known?.tunnels[family]?.address === address;
  }

  private async settle(family: Family): Promise<void> {
    const { allocator, log, node } = this.parts;
    const handle = HANDLES[family] + node;
    const pools = this.poolsFor(family);
    const held = await this.heldUnder(handle);
    let kept = held.find(address => pools.some(pool => isIn(pool, formatAddress(address))));
    if (!kept && pools.length > 0) {
      // Of pools that come and go with networks only where there is no other.
      const lasting = pools.filter(pool => !pool.isOurs && !pool.disabled);
      const names = (lasting.length > 0 ? lasting : pools).map(({ name }) => name);
      const secondary = { ...allocationMetadata(node), type: TYPES[family] };
      const holder = { handle: () => handle, secondary };
      kept = await allocator.assign({ family, pools: names, use: 'Tunnel', holder });
      log.info({ address: formatAddress(kept) }, "allocated this host's address in the VXLAN");
    }
    await this.publish(family, kept && formatAddress(kept), held.map(formatAddress));
    for (const address of held) {
      if (kept && address.value === kept.value) continue;
      await allocator.releaseHandle(address, handle);
      log.info(
        { address: formatAddress(address) },
        'freed an address in the VXLAN that no pool wants any more',
      );
    }
    this.settled.set(family, kept ? formatAddress(kept) : null);
  }

  /** What somebody else published stays where nothing is wanted. */
  private async publish(family: Family, address: string | undefined, held: readonly string[]): Promise<void> {
    const { writer, node } = this.parts;
    await writer.write(async known => {
      const now = known?.tunnels[family];
      if (!known || now?.address === address) return undefined;
      if (address === undefined)
        return now && held.includes(now.address) ? { tunnels: { [family]: null } } : undefined;
      return { tunnels: { [family]: { address, mac: now?.mac ?? tunnelMac(node, family) } } };
    });
  }

  /** Addresses that are allocated under a handle: one round trip, and one for each of its blocks. */
  private async heldUnder(handle: string): Promise<Address[]> {
    const { store } = this.parts;
    const entry = await store.get(handleKey(handle));
    const found: Address[] = [];
    for (const text of Object.keys(entry ? parseHandle(entry.value) : {})) {
      const cidr = parseCidr(text);
      const value = cidr && (await store.get(blockKey(cidr)))?.value;
      const block = value === undefined ? undefined : parseBlock(value);
      for (const ordinal of block?.allocations.keys() ?? [])
        if (block && holderOf(block, ordinal)?.handle_id === handle) found.push(nth(block.cidr, ordinal));
    }
    return found;
  }

  /** Pools that want a VXLAN, and can give this host an address for it or gave it one. */
  private poolsFor(family: Family): IpPool[] {
    const { facts } = this.parts;
    const labels = facts.nodeLabels;
    return facts
      .allPools()
      .filter(pool => pool.cidr.family === family && pool.vxlanMode !== 'Never' && !isDisappearing(pool))
      .filter(pool => pool.allowsTunnels && pool.selectsNode(labels));
  }
}

function isIn(pool: IpPool, address: string): boolean {
  const parsed = parseAddress(address);
  return parsed !== undefined && contains(pool.cidr, parsed);
}
