import type { Logger } from '../log.js';
import { reason } from '../errors.js';
import { nameOf, textOf } from './bytes.js';
import { DATA, ELEMENT } from './nft-messages.js';
import type { NftNetlink } from './nft-netlink.js';
import { inner } from './nft-policy-listing.js';
import { POLICY_TABLE } from './nft-policy-names.js';
import { canonical } from './nft-table.js';
import type { HostPolicy } from './policy.js';

type Endpoints = HostPolicy['endpoints'];

/**
 * Forgets the flows of these addresses (canonical): all of them, or those that began since that time (milliseconds since
 * 1970). Throws HostError.
 */
export type ForgetFlows = (addresses: readonly string[], begunSince?: number) => Promise<void>;

/** Bytes of an interface's name, and of a MAC address, in a key. */
const NAME = 16;
const MAC = { length: 6, padded: 8 };

/**
 * Whoever gets an address that another container had must not go on with the connections of that: what is established
 * passes without being judged. So flows of an address are forgotten when its container is gone, whatever they are of. That
 * takes some 20 ms, for which nobody waits but who gets the address again.
 */
export class DepartedFlows {
  /** Addresses whose flows are not forgotten yet. */
  private readonly departed = new Set<string>();
  private running: Promise<boolean> | undefined;

  constructor(
    private readonly forget: ForgetFlows,
    private readonly log: Logger,
  ) {}

  /** To await before the kernel is given a policy: whoever comes in it must not come to flows of who had his address. */
  async beforeEnforcing(before: HostPolicy, after: HostPolicy): Promise<void> {
    for (const address of fromElsewhere(before.endpoints, after)) this.departed.add(address);
    if (this.departed.size > 0) await this.forgotten(sourcesOfNew(before.endpoints, after.endpoints));
  }

  /** To await when the kernel has taken a policy. */
  async afterEnforcing(before: HostPolicy, after: HostPolicy): Promise<void> {
    const gone = departed(before.endpoints, after.endpoints);
    if (gone.size === 0) return;
    for (const address of gone) this.departed.add(address);
    void this.round();
    await this.forgotten(sourcesOfNew(before.endpoints, after.endpoints));
  }

  /** To await with what {@link senders} found, when the kernel has taken the first policy of this daemon. */
  async afterTakingOver(before: ReadonlyMap<string, string>, { endpoints }: HostPolicy): Promise<void> {
    const kept = new Set<string>();
    for (const [name, { mac, sources }] of endpoints) {
      for (const source of sources) if (before.has(sender(name, mac, source))) kept.add(canonical(source));
    }
    for (const address of before.values()) if (!kept.has(address)) this.departed.add(address);
    await this.forgotten(this.departed);
  }

  /** Waits for what is under way. Never throws. */
  async close(): Promise<void> {
    await this.running;
  }

  /** Resolves when none of these has flows left of who had it before, or when that fails. Never throws. */
  private async forgotten(addresses: ReadonlySet<string>): Promise<void> {
    const isPending = (): boolean => [...this.departed].some(address => addresses.has(address));
    // One that was under way may not have been about all of them; the next is.
    for (let rounds = 0; rounds < 2 && isPending(); rounds += 1) await this.round();
  }

  /** All that have departed by now, at once; those who come meanwhile in another round. Answers whether it worked. */
  private round(): Promise<boolean> {
    this.running ??= this.forgetAll().then(worked => {
      this.running = undefined;
      // What failed is tried again when the next container goes.
      if (worked && this.departed.size > 0) void this.round();
      return worked;
    });
    return this.running;
  }

  private async forgetAll(): Promise<boolean> {
    const addresses = [...this.departed];
    try {
      await this.forget(addresses);
      for (const address of addresses) this.departed.delete(address);
      return true;
    } catch (error) {
      this.log.warn(
        { reason: reason(error), addresses: addresses.slice(0, 10) },
        'cannot forget the connections of containers that are gone: whoever gets their addresses could go on with them',
      );
      return false;
    }
  }
}

/** Who may send from what in the kernel's table, as a former daemon has left it: addresses by {@link sender}. */
export async function senders(netlink: NftNetlink): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const set of ['sources4', 'sources6']) {
    await netlink.elements(POLICY_TABLE, set, element => {
      const key = inner(inner(element, ELEMENT.key), DATA.value);
      const mac = [...key.subarray(NAME, NAME + MAC.length)].map(byte => byte.toString(16).padStart(2, '0'));
      const address = textOf(key.subarray(NAME + MAC.padded));
      found.set(sender(nameOf(key.subarray(0, NAME)), mac.join(':'), address), canonical(address));
    });
  }
  return found;
}

function sender(name: string, mac: string, address: string): string {
  return `${name} ${mac} ${canonical(address)}`;
}

/** What endpoints may send from that were not there before, or were others. */
function sourcesOfNew(before: Endpoints, after: Endpoints): ReadonlySet<string> {
  const found = new Set<string>();
  for (const [name, endpoint] of after)
    if (before.get(name) !== endpoint) for (const source of endpoint.sources) found.add(canonical(source));
  return found;
}

/** Addresses that come to this host from another: what is established here was between its containers and that one's. */
function fromElsewhere(before: Endpoints, { endpoints, elsewhere }: HostPolicy): ReadonlySet<string> {
  const found = new Set<string>();
  if (before === endpoints || !elsewhere || elsewhere.size === 0) return found;
  for (const [name, endpoint] of endpoints) {
    const old = before.get(name);
    if (old === endpoint) continue;
    for (const source of endpoint.sources)
      if (!old?.sources.includes(source) && elsewhere.has(canonical(source))) found.add(canonical(source));
  }
  return found;
}

/** Addresses that nobody has now of those who had them. */
function departed(before: Endpoints, after: Endpoints): ReadonlySet<string> {
  const gone = new Set<string>();
  if (before === after) return gone;
  for (const [name, { sources }] of before) {
    if (after.get(name) !== before.get(name)) sources.forEach(source => gone.add(canonical(source)));
  }
  if (gone.size === 0) return gone;
  // By any of its interfaces: a container that leaves one of its networks is still there.
  for (const [name, { mac, sources }] of after) {
    const old = before.get(name);
    if (old?.mac !== mac) continue;
    for (const source of sources) if (old.sources.includes(source)) gone.delete(canonical(source));
  }
  return gone;
}
