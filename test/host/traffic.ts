import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

/**
 * Runs in a namespace (talker.ts) and talks there: serves ports, asks others. Reads `{id, method, args}` lines, answers
 * `{id, value}` or `{id, error}`. A TCP server answers when the question has ended, so each exchange is half-closed.
 */
const WAIT_MS = 300;
const answer = (name: string, peer: string | undefined, question: string): string =>
  `${name} ${String(peer).replace('::ffff:', '')} ${question.length}`;

const methods: Record<string, (...args: never[]) => Promise<unknown>> = {
  /** Answers on this TCP and UDP port, on all addresses: name, who asked, how many bytes. */
  async serve(port: number, name: string): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, socket => {
      let question = '';
      socket.on('error', () => undefined);
      socket.on('data', data => (question += String(data)));
      socket.on('end', () => socket.end(answer(name, socket.remoteAddress, question)));
    });
    await new Promise<void>((resolve, reject) => server.on('error', reject).listen(port, '::', resolve));
    for (const type of ['udp4', 'udp6'] as const) {
      const socket = createSocket({ type, ipv6Only: type === 'udp6' });
      socket.on('message', (data, from) => {
        socket.send(answer(name, from.address, String(data)), from.port, from.address);
      });
      await new Promise<void>(resolve => socket.bind(port, resolve));
    }
  },

  /** What the server at the other end says; rejects where there is no answer. `from`: own port, for UDP. */
  ask(protocol: string, address: string, port: number, question = 'hello', from = 0): Promise<string> {
    return protocol === 'tcp' ? askTcp(address, port, question) : askUdp(address, port, question, from);
  },

  /** A connection that stays open: resolves when it is made, ends unnoticed. */
  open(address: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: address, port }, () => resolve());
      socket.on('error', reject);
    });
  },
};

function askTcp(host: string, port: number, question: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, allowHalfOpen: true });
    let said = '';
    const timer = setTimeout(() => socket.destroy(new Error('no answer')), WAIT_MS);
    socket.on('error', reject);
    socket.on('data', data => (said += String(data)));
    socket.on('close', () => {
      clearTimeout(timer);
      if (said === '') reject(new Error('no answer'));
      else resolve(said);
    });
    socket.on('end', () => socket.end());
    socket.end(question);
  });
}

function askUdp(address: string, port: number, question: string, from: number): Promise<string> {
  const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', reuseAddr: true });
  return new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no answer')), WAIT_MS);
    socket.on('error', reject);
    socket.on('message', data => {
      clearTimeout(timer);
      resolve(String(data));
    });
    socket.bind(from, () => socket.send(question, port, address, error => error && reject(error)));
  }).finally(() => socket.close());
}

createInterface({ input: process.stdin }).on('line', text => {
  const { id, method, args } = JSON.parse(text) as { id: number; method: string; args: never[] };
  const say = (reply: object): void => void process.stdout.write(`${JSON.stringify({ id, ...reply })}\n`);
  const call = methods[method] ?? (() => Promise.reject(new Error(`no ${method}`)));
  call(...args).then(
    value => say({ value }),
    (error: Error) => say({ error: error.message }),
  );
});
process.stdin.on('end', () => process.exit());
