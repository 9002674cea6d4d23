import type { Logger } from 'pino';
import { reason } from '../errors.js';
import type { DockerEngine } from './engine.js';

/** Milliseconds between tries to reach dockerd. */
const RETRY = 1_000;

/**
 * What Docker calls its networks. No request to a driver carries a network's name, and a driver may not ask dockerd
 * while dockerd waits for it; so we follow dockerd's events, where the name of a network is announced before
 * `docker network create` returns, and list the networks once per connection.
 */
export class NetworkNames {
  private readonly names = new Map<string, string>();
  private readonly stopping = new AbortController();

  constructor(
    private readonly engine: DockerEngine,
    private readonly log: Logger,
    private readonly hooks: {
      /** A network's name was learned. */
      named(networkId: string, name: string): void;
      /** dockerd answers, for the first time or again after it was away. */
      dockerStarted(): void;
    },
  ) {}

  /** The name, if it is known by now. */
  get(networkId: string): string | undefined {
    return this.names.get(networkId);
  }

  /** Follows dockerd until {@link close}, through its restarts. */
  async follow(): Promise<void> {
    let wasReachable: boolean | undefined;
    while (!this.stopping.signal.aborted) {
      try {
        await this.engine.events(
          ['network'],
          () => {
            wasReachable = true;
            this.log.info('connected to Docker');
            this.hooks.dockerStarted();
            void this.list();
          },
          event => {
            if (event.action === 'create') this.learn(event.id, event.attributes.name ?? '');
            if (event.action === 'destroy') this.names.delete(event.id);
          },
          this.stopping.signal,
        );
        if (!this.stopping.signal.aborted) this.log.info('Docker closed the connection');
      } catch (error) {
        if (this.stopping.signal.aborted) return;
        if (wasReachable !== false)
          this.log.info({ reason: reason(error) }, 'Docker cannot be reached; trying again until it can');
        wasReachable = false;
      }
      await new Promise(resolve => setTimeout(resolve, RETRY));
    }
  }

  close(): void {
    this.stopping.abort();
  }

  private async list(): Promise<void> {
    try {
      for (const { id, name } of await this.engine.networks()) this.learn(id, name);
    } catch (error) {
      this.log.warn({ reason: reason(error) }, 'cannot list the networks of Docker');
    }
  }

  private learn(id: string, name: string): void {
    // Docker's own rule for names; anything else would not be one in a key or selector either.
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name) || this.names.get(id) === name) return;
    this.names.set(id, name);
    this.hooks.named(id, name);
  }
}
