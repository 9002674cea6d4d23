import type { Logger } from '../log.js';
import { reason } from '../errors.js';
import { nameOf, textOf } from './bytes.js';
import { Conntrack } from './conntrack.js';
import { DATA, ELEMENT } from './nft-messages.js';
import type { NftNetlink } from './nft-netlink.js';
import { inner } from './nft-policy-listing.js';
import { POLICY_TABLE } from './nft-policy-names.js';
import { canonical } from './nft-table.js';
import type { HostPolicy } from './policy.js';

type Endpoints = HostPolicy['endpoints'];

/** Bytes of an interface's name, and of a MAC address, in a key. */
const NAME = 16;
const MAC = { length: 6, padded: 8 };

/**
 * Whoever gets an address that another container had must not go on with the connections of that: what is established
 * passes without being judged. So flows of an address are forgotten when its container is gone, whatever they are of.
 */
export class DepartedFlows {
  private readonly conntrack = new Conntrack();
  private readonly departed = new Set<string>();

  constructor(private readonly log: Logger) {}

  /** To call when the kernel has taken a policy. */
  note(before: HostPolicy, after: HostPolicy): void {
    for (const address of departed(before.endpoints, after.endpoints)) this.departed.add(address);
  }

  /** To call with what {@link senders} found, when the kernel has taken the first policy of this daemon. */
  noteSenders(before: ReadonlyMap<string, string>, { endpoints }: HostPolicy): void {
    const kept = new Set<string>();
    for (const [name, { mac, sources }] of endpoints) {
      for (const source of sources) if (before.has(sender(name, mac, source))) kept.add(canonical(source));
    }
    for (const address of before.values()) if (!kept.has(address)) this.departed.add(address);
  }

  /** Forgets the flows, if there are some to forget. What fails is tried again the next time. Never throws. */
  async forget(): Promise<void> {
    if (this.departed.size === 0) return;
    const addresses = new Set(this.departed);
    try {
      await this.conntrack.forgetAddresses(addresses);
      for (const address of addresses) this.departed.delete(address);
    } catch (error) {
      this.log.warn(
        { reason: reason(error), addresses: [...addresses].slice(0, 10) },
        'cannot forget the connections of containers that are gone: whoever gets their addresses could go on with them',
      );
    }
  }

  close(): void {
    this.conntrack.close();
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
