import type { DockerNetwork } from './engine.js';

/**
 * What Docker calls its networks. No request to a driver carries a network's name, and a driver may not ask dockerd
 * while dockerd waits for it; so the names come from dockerd's events, where a network is announced before
 * `docker network create` returns, and from a list of all networks at each connection.
 */
export class NetworkNames {
  private readonly names = new Map<string, string>();

  /** `named` runs when a name was learned. */
  constructor(private readonly named: (networkId: string, name: string) => void) {}

  /** The name, if it is known by now. */
  get(networkId: string): string | undefined {
    return this.names.get(networkId);
  }

  learn(id: string, name: string): void {
    // Docker's own rule for names; anything else would not be one in a key or selector either.
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name) || this.names.get(id) === name) return;
    this.names.set(id, name);
    this.named(id, name);
  }

  learnAll(networks: readonly DockerNetwork[]): void {
    for (const { id, name } of networks) this.learn(id, name);
  }

  forget(id: string): void {
    this.names.delete(id);
  }
}
