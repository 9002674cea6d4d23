import { formatAddress, formatCidr } from '../ipam/cidr.js';
import type { Address, Cidr } from '../ipam/cidr.js';

/** Milliseconds after which a creation that we heard no more of is over: each of its calls takes seconds at most. */
const OVER = 60_000;
/** Milliseconds within which the ReleasePool comes that follows a refusal. */
const ECHO = 5_000;

/** What is known of the networks with one subnet that dockerd is creating now. Times are in milliseconds. */
interface Creations {
  readonly began: readonly number[];
  /** When one was refused, whose ReleasePool has not come yet. */
  readonly refused: readonly number[];
  /** What was kept back for them. */
  readonly reserved: readonly Address[];
}

/**
 * Networks between RequestPool and CreateNetwork. Where `docker network create` fails in between, dockerd gives back the
 * pool at most (20.10 not even that), and never the gateway and the auxiliary addresses that it had asked for (moby,
 * ipamAllocateVersion). Nothing tells two creations with one subnet apart: where it is not certain for which of them an
 * address was kept back, it stays, as it does when the daemon dies meanwhile, until the reconciler finds it.
 */
export class NetworkCreations {
  private readonly bySubnet = new Map<string, Creations>();

  constructor(private readonly now: () => number = Date.now) {}

  /** RequestPool for a `--subnet`. */
  began(subnet: Cidr): void {
    const known = this.get(subnet);
    this.set(subnet, { ...known, began: [...known.began, this.now()] });
  }

  /** A gateway or auxiliary address was kept back. */
  reserved(subnet: Cidr, address: Address): void {
    const known = this.get(subnet);
    this.set(subnet, { ...known, reserved: [...known.reserved, address] });
  }

  /** dockerd gave an address back by itself. */
  released(address: Address): void {
    for (const [subnet, known] of this.bySubnet)
      this.bySubnet.set(subnet, { ...known, reserved: without(known.reserved, [address]) });
  }

  /** CreateNetwork: these addresses are the network's. */
  created(subnet: Cidr, addresses: readonly Address[]): void {
    const known = this.get(subnet);
    this.set(subnet, {
      ...known,
      began: known.began.slice(1),
      reserved: without(known.reserved, addresses),
    });
  }

  /** A gateway or auxiliary address is refused, and with it a creation. What was kept back for it. */
  refused(subnet: Cidr): readonly Address[] {
    const { began, refused, reserved } = this.get(subnet);
    // Of several, ReleasePool says which; 20.10's never does, and the creation is over some time.
    if (began.length !== 1) return [];
    this.set(subnet, { began: [], refused: [...refused, this.now()], reserved: [] });
    return reserved;
  }

  /** ReleasePool, not of a network that is there: a creation has failed. What was kept back for it. */
  failed(subnet: Cidr): readonly Address[] {
    const known = this.get(subnet);
    const [, ...echoes] = known.refused;
    if (known.refused.length > 0) this.set(subnet, { ...known, refused: echoes });
    else this.set(subnet, { ...known, began: known.began.slice(1) });
    return known.refused.length === 0 && known.began.length === 1 ? known.reserved : [];
  }

  private get(subnet: Cidr): Creations {
    const known = this.bySubnet.get(formatCidr(subnet));
    const began = known?.began.filter(time => this.now() - time < OVER) ?? [];
    const refused = known?.refused.filter(time => this.now() - time < ECHO) ?? [];
    return { began, refused, reserved: began.length === 0 ? [] : (known?.reserved ?? []) };
  }

  private set(subnet: Cidr, creations: Creations): void {
    if (creations.began.length + creations.refused.length > 0)
      this.bySubnet.set(formatCidr(subnet), creations);
    else this.bySubnet.delete(formatCidr(subnet));
  }
}

function without(addresses: readonly Address[], gone: readonly Address[]): Address[] {
  const texts = new Set(gone.map(formatAddress));
  return addresses.filter(address => !texts.has(formatAddress(address)));
}
