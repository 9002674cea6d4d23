import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';

/**
 * Runs in a container's network (policy-traffic.ts): `serve` prints a line when it serves; `send ADDRESS SECONDS` prints bytes a
 * second, `connect ADDRESS SECONDS` new connections a second.
 */
const SINK = 7001;
const GREETER = 7002;
const AT_ONCE = 16;

const [what = '', address = '', seconds = '1'] = process.argv.slice(2);
const duration = Number(seconds) * 1_000;

function serve(): void {
  createServer(socket => socket.on('error', () => undefined).resume()).listen(SINK, '0.0.0.0', () =>
    createServer(socket => socket.on('error', () => undefined).end('.')).listen(GREETER, '0.0.0.0', () =>
      console.log('serving'),
    ),
  );
}

/** As much as the other end takes; what is counted was handed to the kernel. */
function send(): void {
  const piece = Buffer.alloc(256 * 1024);
  const socket = connect({ host: address, port: SINK });
  socket.on('connect', () => {
    const began = performance.now();
    const more = (): void => {
      while (performance.now() - began < duration) if (!socket.write(piece)) return;
      const took = performance.now() - began;
      console.log((socket.bytesWritten - socket.writableLength) / (took / 1_000));
      process.exit();
    };
    socket.on('drain', more);
    more();
  });
}

/** One after another, several at once; each is told one byte and reset, so that none stays. */
function connectOften(): void {
  const began = performance.now();
  let made = 0;
  const next = (): void => {
    if (performance.now() - began > duration) {
      console.log(made / ((performance.now() - began) / 1_000));
      process.exit();
    }
    const socket: Socket = connect({ host: address, port: GREETER });
    socket.on('error', () => next());
    socket.on('data', () => {
      made += 1;
      socket.resetAndDestroy();
      next();
    });
  };
  for (let at = 0; at < AT_ONCE; at += 1) next();
}

if (what === 'serve') serve();
else if (what === 'send') send();
else if (what === 'connect') connectOften();
else throw new Error('serve | send ADDRESS SECONDS | connect ADDRESS SECONDS');
