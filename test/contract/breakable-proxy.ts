import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

type Mode = 'pass' | 'black-hole' | 'swallow-answers';

/** A TCP proxy on loopback which breaks connections the way networks do. */
export class BreakableProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #mode: Mode = 'pass';
  #cutAfterAnswer = false;

  private constructor(target: number) {
    this.#server = createServer(client => this.#join(client, connect(target, '127.0.0.1')));
  }

  static async start(targetPort: number): Promise<BreakableProxy> {
    const proxy = new BreakableProxy(targetPort);
    await new Promise<void>(done => proxy.#server.listen(0, '127.0.0.1', done));
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get connections(): number {
    return this.#sockets.size / 2;
  }

  pass(): void {
    this.#mode = 'pass';
  }

  /** From now on all bytes vanish in both directions; connections, also new ones, stay up. */
  blackHole(): void {
    this.#mode = 'black-hole';
  }

  /** Requests arrive, answers do not. Shortly after the next answer the connection is cut and all is well again. */
  loseNextAnswer(): void {
    this.#mode = 'swallow-answers';
    this.#cutAfterAnswer = true;
  }

  /** Closes all connections; new ones are accepted. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise(done => this.#server.close(done));
  }

  #join(client: Socket, server: Socket): void {
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.on('error', () => undefined);
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
    client.on('data', bytes => {
      if (this.#mode !== 'black-hole') server.write(bytes);
    });
    server.on('data', bytes => {
      if (this.#mode === 'pass') client.write(bytes);
      else if (this.#cutAfterAnswer) this.#cutSoon();
    });
  }

  /** Not at once: the first bytes may be mere acknowledgements, and etcd drops what a vanished client asked for. */
  #cutSoon(): void {
    this.#cutAfterAnswer = false;
    setTimeout(() => {
      this.cut();
      this.pass();
    }, 200);
  }
}
