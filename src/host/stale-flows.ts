import type { PublishedPort } from './dataplane.js';
import { PROTOCOL_NUMBERS } from './conntrack.js';
import type { Conntrack, Flow } from './conntrack.js';
import { canonical, is6 } from './nft-table.js';

type Connectionless = keyof typeof PROTOCOL_NUMBERS;
const PROTOCOLS = Object.keys(PROTOCOL_NUMBERS) as Connectionless[];

/** Where the ports of one protocol lead: `* 4 53` or `10.0.0.1 4 53` -> `10.65.0.1 53`. */
type Targets = ReadonlyMap<string, string>;

/**
 * The kernel translates the first packet of a flow and lets the others follow; a UDP flow lasts as long as somebody
 * keeps sending. So whoever asked at a port before it was published would go on asking the host, and whoever knows it
 * from a container before would go on sending there. This forgets such flows when a port's target changes.
 */
export class StaleFlows {
  private applied: readonly PublishedPort[] = [];

  constructor(private readonly conntrack: Conntrack) {}

  /** To call when the table has the new ports. `local`: the host's addresses. Throws NetlinkError. */
  async apply(published: readonly PublishedPort[], local: () => Promise<ReadonlySet<string>>): Promise<void> {
    const before = this.applied;
    this.applied = published;
    for (const protocol of PROTOCOLS) {
      const [old, wanted] = [targets(before, protocol), targets(published, protocol)];
      const changed = [...new Set([...old.keys(), ...wanted.keys()])].filter(
        key => old.get(key) !== wanted.get(key),
      );
      if (changed.length === 0) continue;
      const ports = new Set(changed.map(key => Number(key.split(' ')[2])));
      const isStale = staleness(old, wanted, await local());
      await this.conntrack.forget(protocol, ports, isStale);
    }
  }
}

function targets(published: readonly PublishedPort[], protocol: Connectionless): Targets {
  const found = new Map<string, string>();
  for (const port of published) {
    if (port.protocol !== protocol) continue;
    const host = port.hostAddress === undefined ? '*' : canonical(port.hostAddress);
    const key = `${host} ${is6(port.address) ? 6 : 4} ${port.hostPort}`;
    if (!found.has(key)) found.set(key, `${canonical(port.address)} ${port.port}`);
  }
  return found;
}

function staleness(old: Targets, wanted: Targets, local: ReadonlySet<string>): (flow: Flow) => boolean {
  const ours = new Set(old.values());
  return ({ destination, destinationPort, answers, answersPort }) => {
    const now = `${answers} ${answersPort}`;
    const rest = `${is6(destination) ? 6 : 4} ${destinationPort}`;
    const target = wanted.get(`${destination} ${rest}`) ?? wanted.get(`* ${rest}`);
    const isTranslated = now !== `${destination} ${destinationPort}`;
    // A flow to elsewhere that happens to have the same port stays.
    if (!local.has(destination) && !(isTranslated && ours.has(now))) return false;
    return target === undefined ? isTranslated && ours.has(now) : now !== target;
  };
}
