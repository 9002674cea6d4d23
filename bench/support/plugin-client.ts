import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** Where the body of an answer begins and ends. */
const HEAD_END = '\r\n\r\n';

interface Waiting {
  resolve(answer: string): void;
  reject(error: Error): void;
}

/**
 * One connection to a plugin socket, kept open, one call at a time, as Go's client in dockerd uses it. Written on a
 * bare socket: Node's own HTTP client would cost as much as the driver and be counted against it.
 */
export class PluginClient {
  private waiting: Waiting | undefined;
  private received: Buffer = Buffer.alloc(0);

  private constructor(private readonly socket: Socket) {
    socket.on('data', chunk => this.take(chunk));
    socket.on('error', error => this.waiting?.reject(error));
    socket.on('close', () => this.waiting?.reject(new Error('the daemon hung up')));
  }

  /** Connects. Rejects where nobody listens. */
  static open(path: string): Promise<PluginClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(path, () => resolve(new PluginClient(socket)));
      socket.once('error', reject);
    });
  }

  /** Calls a method. Rejects where the answer is not status 200. */
  async call(method: string, body: object): Promise<Record<string, unknown>> {
    const text = JSON.stringify(body);
    const answer = new Promise<string>((resolve, reject) => (this.waiting = { resolve, reject }));
    this.socket.write(
      `POST /${method} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\n` +
        `Content-Length: ${Buffer.byteLength(text)}\r\n` +
        `Accept: application/vnd.docker.plugins.v1.2+json\r\nAccept-Encoding: gzip\r\n\r\n${text}`,
    );
    return JSON.parse(await answer) as Record<string, unknown>;
  }

  close(): void {
    this.waiting = undefined;
    this.socket.destroy();
  }

  private take(chunk: Buffer): void {
    this.received = this.received.length === 0 ? chunk : Buffer.concat([this.received, chunk]);
    const end = this.received.indexOf(HEAD_END);
    if (end < 0) return;
    const head = this.received.toString('latin1', 0, end);
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
    const start = end + HEAD_END.length;
    if (this.received.length < start + length) return;
    const body = this.received.toString('utf8', start, start + length);
    this.received = this.received.subarray(start + length);
    const waiting = this.waiting;
    this.waiting = undefined;
    if (head.startsWith('HTTP/1.1 200 ')) waiting?.resolve(body);
    else waiting?.reject(new Error(`${head.split('\r\n')[0]}: ${body}`));
  }
}
