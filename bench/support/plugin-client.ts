import { connect } from 'node:net';

/** Where the body of an answer begins. */
const HEAD_END = '\r\n\r\n';

/**
 * Calls a plugin socket as Go's client in dockerd does, which keeps a connection where the daemon does; ours ends each
 * with its answer. Written on a bare socket: Node's own HTTP client would cost as much as the driver and be counted
 * against it.
 */
export class PluginClient {
  private constructor(private readonly path: string) {}

  /** Rejects where nobody listens. */
  static open(path: string): Promise<PluginClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(path, () => {
        socket.destroy();
        resolve(new PluginClient(path));
      });
      socket.once('error', reject);
    });
  }

  /** Calls a method. Rejects where the answer is not status 200. */
  async call(method: string, body: object): Promise<Record<string, unknown>> {
    const text = JSON.stringify(body);
    const answer = await this.answerTo(
      `POST /${method} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\n` +
        `Content-Length: ${Buffer.byteLength(text)}\r\n` +
        `Accept: application/vnd.docker.plugins.v1.2+json\r\nAccept-Encoding: gzip\r\n\r\n${text}`,
    );
    const said = answer.slice(answer.indexOf(HEAD_END) + HEAD_END.length);
    if (!answer.startsWith('HTTP/1.1 200 ')) throw new Error(`${answer.split('\r\n')[0]}: ${said}`);
    return JSON.parse(said) as Record<string, unknown>;
  }

  private answerTo(request: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const received: Buffer[] = [];
      const socket = connect(this.path);
      socket.on('data', chunk => received.push(chunk));
      socket.on('error', reject);
      socket.on('close', () => resolve(Buffer.concat(received).toString('utf8')));
      socket.write(request);
    });
  }
}
