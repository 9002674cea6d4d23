import { createInterface } from 'node:readline';
import { createFelixDataplane } from '../../src/host/felix.js';
import { createLinuxDataplane } from '../../src/host/linux.js';
import { NftNetlink } from '../../src/host/nft-netlink.js';
import type { PeerHop, Tunnel, TunnelPeer } from '../../src/host/peers.js';
import { PortReservations } from '../../src/host/port-reservations.js';
import type { HostPolicy } from '../../src/host/policy.js';
import type { Logger } from '../../src/log.js';
import { revived } from './plain-policy.js';
import type { PlainPolicy } from './plain-policy.js';

/**
 * Runs inside a pretend host (pretend-host.ts): a netlink socket belongs to the namespace of its process, so the code
 * under test has to live there. Reads `{id, method, args}` lines, answers `{id, value}` or `{id, error}`.
 */
const lines: unknown[] = [];
const say = (object: unknown, message: unknown): void => void lines.push([object, message]);
const log = { info: say, warn: say, error: say } as unknown as Logger;

const options = { checkInterval: Number(process.argv[3]) };
const dataplane =
  process.argv[2] === 'felix' ? createFelixDataplane(options, log) : createLinuxDataplane(options, log);
const reservations = new PortReservations();
const nftables = new NftNetlink();
let policy: HostPolicy | undefined;
const extra: Record<string, (...args: never[]) => unknown> = {
  logged: () => lines,
  generation: () => nftables.generation(),
  enforce: (wanted: PlainPolicy) => {
    policy = revived(wanted, policy);
    return dataplane.applyPolicy(policy);
  },
  // A new container while others come and go: all at once, none waiting for the one before.
  enforceAll: (wanted: PlainPolicy[]) =>
    Promise.all(
      wanted.map(each => {
        policy = revived(each, policy);
        return dataplane.applyPolicy(policy);
      }),
    ),
  reserve: reservations.reserve.bind(reservations),
  release: reservations.release.bind(reservations),
  // Maps do not pass through JSON.
  routeAll: (routes: [string, PeerHop][]) => dataplane.peers.routeAll(new Map(routes)),
  route: (changes: [string, PeerHop | null][]) =>
    dataplane.peers.route(new Map(changes.map(([destination, hop]) => [destination, hop ?? undefined]))),
  tunnel: (family: 4 | 6, tunnel: Tunnel | null, ends: TunnelPeer[]) =>
    dataplane.peers.tunnel(family, tunnel ?? undefined, ends),
  tunnelMtu: (family: 4 | 6) => dataplane.peers.tunnelMtu(family),
  addresses: () => dataplane.peers.addresses(),
  sourceTo: (address: string) => dataplane.peers.sourceTo(address),
};

createInterface({ input: process.stdin }).on('line', text => {
  const { id, method, args } = JSON.parse(text) as { id: number; method: string; args: never[] };
  const call = extra[method] ?? (dataplane as unknown as typeof extra)[method]?.bind(dataplane);
  const answer = async (): Promise<unknown> => call?.(...args);
  answer().then(
    value => process.stdout.write(`${JSON.stringify({ id, value })}\n`),
    (error: Error) =>
      process.stdout.write(`${JSON.stringify({ id, error: `${error.name}: ${error.message}` })}\n`),
  );
});
process.stdin.on('end', () => process.exit());
