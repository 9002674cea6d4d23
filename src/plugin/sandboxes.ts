/**
 * Which of our endpoints share a container. A container's first has the next hop 169.254.1.1, further ones .2, .3 and
 * so on: two interfaces of one container with the same on-link route is an error to the kernel ("file exists"). Lost
 * with the process; {@link Sandboxes.restore} brings it back from the endpoints' annotations.
 */
export class Sandboxes {
  private readonly members = new Map<string, Map<string, Member>>();

  /** A place for an endpoint in its sandbox: the lowest that is free. The same endpoint gets the same again. */
  join(sandbox: string, endpointId: string): Member {
    const members = this.members.get(sandbox) ?? new Map<string, Member>();
    this.members.set(sandbox, members);
    const known = members.get(endpointId);
    if (known) return known;
    const taken = new Set([...members.values()].map(({ place }) => place));
    let place = 1;
    while (taken.has(place)) place += 1;
    const member = { place, routes: new Set<string>() };
    members.set(endpointId, member);
    return member;
  }

  /** An endpoint that a daemon before us placed. */
  restore(sandbox: string, endpointId: string, place: number): void {
    const members = this.members.get(sandbox) ?? new Map<string, Member>();
    // What is known of it already is more: the routes it has.
    if (!members.has(endpointId)) members.set(endpointId, { place, routes: new Set() });
    this.members.set(sandbox, members);
  }

  leave(endpointId: string): void {
    for (const [sandbox, members] of this.members) {
      members.delete(endpointId);
      if (members.size === 0) this.members.delete(sandbox);
    }
  }

  /** The sandbox an endpoint is in. */
  of(endpointId: string): string | undefined {
    return [...this.members].find(([, members]) => members.has(endpointId))?.[0];
  }

  /** The other endpoints of an endpoint's sandbox. */
  siblings(endpointId: string): string[] {
    const members = [...this.members.values()].find(candidate => candidate.has(endpointId));
    return [...(members?.keys() ?? [])].filter(other => other !== endpointId);
  }

  /** The destinations among these that no other endpoint of the sandbox has a route to, and are this endpoint's now. */
  claimRoutes(endpointId: string, destinations: readonly string[]): string[] {
    const members = [...this.members.values()].find(candidate => candidate.has(endpointId));
    const own = members?.get(endpointId);
    if (!members || !own) return [...destinations];
    const others = [...members]
      .filter(([id]) => id !== endpointId)
      .flatMap(([, member]) => [...member.routes]);
    const free = destinations.filter(destination => !others.includes(destination));
    for (const destination of free) own.routes.add(destination);
    return free;
  }
}

export interface Member {
  /** 1 for the first. */
  readonly place: number;
  /** Destinations, CIDR text. */
  readonly routes: Set<string>;
}
