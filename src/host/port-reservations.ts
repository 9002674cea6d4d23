import { PortInUseError, RequestError } from '../errors.js';
import type { PublishedPort } from './dataplane.js';
import { canonical, is6 } from './nft-table.js';
import { holdPort } from './port-sockets.js';
import type { PortSocket } from './port-sockets.js';

/** A port that should be open on the host. */
export interface PortRequest {
  readonly protocol: PublishedPort['protocol'];
  /** An address of the host's; undefined: all of the family. */
  readonly hostAddress?: string;
  /** 0: any free one. */
  readonly hostPort: number;
  /** The first free one from hostPort to this. */
  readonly hostPortEnd: number;
  /** The container's; its family is the port's. */
  readonly address: string;
  readonly port: number;
}

interface Held {
  readonly published: PublishedPort;
  readonly socket: PortSocket;
}

/** Where "any" begins for SCTP, which the kernel does not choose for us; the dynamic ports of RFC 6335. */
const DYNAMIC = { first: 49_152, last: 65_535 };
/** A port free in one family may be taken in the other. */
const ANY_TRIES = 50;

/**
 * Which ports of the host belong to which endpoint. Each is held by a socket, so that a process of the host and a
 * container cannot both have it, whoever comes first. Requests for IPv4 and IPv6 that are otherwise the same get the
 * same number.
 */
export class PortReservations {
  private readonly held = new Map<string, readonly Held[]>();
  private turn: Promise<unknown> = Promise.resolve();

  /**
   * Reserves all that is wanted, or throws and has reserved nothing: PortInUseError, RequestError, HostError. What the
   * key had before is kept where it fits (also `0` fits the port it got), else released.
   */
  reserve(key: string, wanted: readonly PortRequest[]): Promise<PublishedPort[]> {
    return this.inTurn(async () => {
      const before = this.held.get(key) ?? [];
      const isSame =
        before.length === wanted.length && before.every((held, index) => fits(held.published, wanted[index]));
      if (!isSame) {
        await this.drop(key);
        this.held.set(key, await this.hold(key, wanted));
      }
      return (this.held.get(key) ?? []).map(({ published }) => published);
    });
  }

  /** Resolves when others may have the key's ports. Missing is fine. */
  release(key: string): Promise<void> {
    return this.inTurn(() => this.drop(key));
  }

  /** Releases everything, in the background. */
  close(): void {
    void this.inTurn(async () => {
      for (const key of [...this.held.keys()]) await this.drop(key);
    });
  }

  private async drop(key: string): Promise<void> {
    const held = this.held.get(key) ?? [];
    this.held.delete(key);
    await closeAll(held);
  }

  private async hold(key: string, wanted: readonly PortRequest[]): Promise<Held[]> {
    const byRequest = new Map<PortRequest, Held>();
    try {
      for (const group of groups(wanted)) {
        const taken = await this.holdGroup(group, [...byRequest.values()], key);
        group.forEach((request, index) => {
          const held = taken[index];
          if (held !== undefined) byRequest.set(request, held);
        });
      }
    } catch (error) {
      await closeAll([...byRequest.values()]);
      throw error;
    }
    return wanted.flatMap(request => byRequest.get(request) ?? []);
  }

  /** One number for all of the group. */
  private async holdGroup(group: readonly PortRequest[], own: readonly Held[], key: string): Promise<Held[]> {
    const [first] = group;
    if (first === undefined) return [];
    let why = 'another process';
    for (const port of candidates(first)) {
      const owner = group
        .map(request => this.owner({ ...request, hostPort: port }, own, key))
        .find(name => name);
      if (owner !== undefined) {
        why = owner;
        continue;
      }
      const held = await holdAll(group, port);
      if (held !== undefined) return held;
      why = 'another process';
    }
    throw new PortInUseError(inUse(first, why));
  }

  /** Who of us has the port already, in words. */
  private owner(wanted: PublishedPort, own: readonly Held[], key: string): string | undefined {
    if (wanted.hostPort === 0) return undefined;
    for (const [name, held] of [...this.held, [key, own] as const]) {
      if (held.some(({ published }) => collide(published, wanted)))
        return `container endpoint ${name.slice(0, 12)}`;
    }
    return undefined;
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => undefined);
    return result;
  }
}

/** The port for each request of the group, or undefined, and none is held. */
async function holdAll(group: readonly PortRequest[], port: number): Promise<Held[] | undefined> {
  const held: Held[] = [];
  try {
    for (const { protocol, hostAddress, address, port: inside } of group) {
      // Where any will do, the first decides.
      const hostPort = held[0]?.socket.port ?? port;
      const wanted = {
        protocol,
        ...(hostAddress === undefined ? {} : { hostAddress }),
        address,
        port: inside,
      };
      const socket = await holdPort({ ...wanted, hostPort });
      if (socket === undefined) break;
      held.push({ published: { ...wanted, hostPort: socket.port }, socket });
    }
  } catch (error) {
    await closeAll(held);
    throw error;
  }
  if (held.length === group.length) return held;
  await closeAll(held);
  return undefined;
}

/** Requests that should get the same number: same but for the address, each family and host address once. */
function groups(wanted: readonly PortRequest[]): PortRequest[][] {
  const all: { like: string; places: Set<string>; requests: PortRequest[] }[] = [];
  for (const request of wanted) {
    const like = `${request.protocol} ${request.hostPort} ${request.hostPortEnd} ${request.port}`;
    const place = placeOf(request);
    const group = all.find(candidate => candidate.like === like && !candidate.places.has(place));
    if (group === undefined) all.push({ like, places: new Set([place]), requests: [request] });
    else {
      group.places.add(place);
      group.requests.push(request);
    }
  }
  return all.map(({ requests }) => requests);
}

/** Port numbers to try, in this order; 0 lets the kernel choose. */
function* candidates({ protocol, hostPort, hostPortEnd }: PortRequest): Generator<number> {
  if (hostPort === 0 && protocol !== 'sctp') {
    for (let tries = 0; tries < ANY_TRIES; tries += 1) yield 0;
    return;
  }
  const [first, last] = hostPort === 0 ? [DYNAMIC.first, DYNAMIC.last] : [hostPort, hostPortEnd];
  if (last < first) throw new RequestError(`-p: host ports ${first}-${last} are no range`);
  for (let port = first; port <= last; port += 1) yield port;
}

function fits(published: PublishedPort, wanted: PortRequest | undefined): boolean {
  if (wanted === undefined) return false;
  const isPort =
    wanted.hostPort === 0 ||
    (published.hostPort >= wanted.hostPort && published.hostPort <= wanted.hostPortEnd);
  const isSame = published.protocol === wanted.protocol && published.port === wanted.port;
  const isTarget = canonical(published.address) === canonical(wanted.address);
  return isPort && isSame && isTarget && placeOf(published) === placeOf(wanted);
}

function collide(a: PublishedPort, b: PublishedPort): boolean {
  if (a.protocol !== b.protocol || a.hostPort !== b.hostPort || is6(a.address) !== is6(b.address))
    return false;
  return a.hostAddress === undefined || b.hostAddress === undefined || placeOf(a) === placeOf(b);
}

/** The host address as text, the family's wildcard where there is none; throws where the families differ. */
function placeOf({ hostAddress, address }: Pick<PortRequest, 'hostAddress' | 'address'>): string {
  if (hostAddress === undefined) return is6(address) ? '::' : '0.0.0.0';
  if (is6(hostAddress) !== is6(address))
    throw new RequestError(`-p: ${hostAddress} and the container's ${address} are of different families`);
  return canonical(hostAddress);
}

function inUse({ protocol, hostPort, hostPortEnd, hostAddress }: PortRequest, why: string): string {
  const where = hostAddress === undefined ? 'the host' : `the host's ${hostAddress}`;
  if (hostPort === 0) return `no free ${protocol} port on ${where}`;
  if (hostPortEnd > hostPort)
    return `ports ${hostPort}-${hostPortEnd}/${protocol} of ${where} are all in use, the last by ${why}: choose others with -p`;
  return `port ${hostPort}/${protocol} of ${where} is in use by ${why}: choose another with -p`;
}

async function closeAll(held: readonly Held[]): Promise<void> {
  await Promise.all(held.map(({ socket }) => socket.close()));
}
