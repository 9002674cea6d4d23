import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** Long enough to cost nothing, short enough that a peer which vanished is noticed the same hour. */
const KEEP_ALIVE_MS = 60_000;

/** Where a connection that reached our listener belongs. */
export interface PipeTarget {
  readonly address: string;
  readonly port: number;
}

/**
 * Connections handed on by this process. Few get here: the kernel translates all but those to `::1` and those that
 * come before the rules do.
 */
export class Pipes {
  private readonly open = new Set<Socket>();

  /** Hands a connection on; both directions end on their own. `client` must allow half-open. Never throws. */
  add(client: Socket, target: PipeTarget): void {
    const server = connect({ host: target.address, port: target.port, allowHalfOpen: true });
    this.join(client, server);
    this.join(server, client);
  }

  /** Breaks all connections. */
  close(): void {
    for (const socket of [...this.open]) socket.destroy();
  }

  /** How many sockets are open: two for each connection. */
  get size(): number {
    return this.open.size;
  }

  private join(from: Socket, to: Socket): void {
    this.open.add(from);
    from.setKeepAlive(true, KEEP_ALIVE_MS).setNoDelay(true).unref();
    // Ends `to` when `from` has sent all it will.
    from.pipe(to);
    // A refused or broken connection looks the same at the other end: reset.
    from.on('error', () => to.resetAndDestroy());
    from.on('close', () => {
      this.open.delete(from);
      // Both directions have ended here; what is still on its way there arrives.
      to.destroySoon();
    });
  }
}
