import { chmodSync, mkdirSync, unlinkSync } from 'node:fs';
import { Server, connect } from 'node:net';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';

/** Milliseconds after which nobody finds the name of a removed socket any more. */
const UNDER_WAY = 50;

/** Milliseconds in which who has connected must say something, at the end: dockerd writes at once. */
const SILENCE = 1_000;

/** Connections the kernel queues; with Node's default a burst of a thousand gets EAGAIN. */
const BACKLOG = 4096;

/** Who has connected to an app. */
interface Connections {
  readonly open: Set<Socket>;
  accepted: number;
}
const connections = new WeakMap<FastifyInstance, Connections>();

/** The socket is somebody else's, alive. */
export class SocketInUseError extends Error {}

/**
 * Serves a plugin endpoint on a unix socket, mode 0600. A socket file that nobody answers on is replaced; one that is
 * answered is left alone and SocketInUseError thrown. Closing the app removes the file.
 */
export async function listenOnSocket(app: FastifyInstance, path: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  await assertUnused(path);
  removeIfThere(path);
  follow(app);
  const umask = process.umask(0o177);
  try {
    await app.listen({ path, backlog: BACKLOG });
  } finally {
    process.umask(umask);
  }
  chmodSync(path, 0o600);
}

/**
 * Serves a plugin endpoint on a socket that listens already, made by whoever started us. Closing the app leaves its file.
 */
export async function listenOnHanded(app: FastifyInstance, fd: number): Promise<void> {
  follow(app);
  await app.ready();
  await new Promise<void>((resolve, reject) => {
    app.server.once('error', reject);
    app.server.listen({ fd, backlog: BACKLOG }, () => {
      app.server.off('error', reject);
      resolve();
    });
  });
}

/**
 * Ends a plugin endpoint so that no call is lost. From now on nobody is accepted: who comes waits for the next daemon, in
 * the queue of a socket that was handed to us, else by dockerd's own trying again. Who was accepted is answered: a
 * connection carries one call (see `app.ts`), so that none is idle, and none has to be cut but what says nothing.
 *
 * @param patience milliseconds that calls under way get
 */
export async function stopServing(app: FastifyInstance, patience: number): Promise<void> {
  const { server } = app;
  const path = server.address();
  if (typeof path === 'string') {
    // Whoever is in the queue of our own socket would be cut: first let nobody in, then see to those.
    removeIfThere(path);
    await sleep(UNDER_WAY);
    await emptyQueue(app);
  }
  // Not the close() of an HTTP server, which cuts connections on which it has not read anything yet.
  const ended = new Promise<void>(resolve => {
    Server.prototype.close.call(server, () => resolve());
  });
  const silent = setTimeout(() => {
    for (const socket of connections.get(app)?.open ?? []) if (socket.bytesRead === 0) socket.destroy();
  }, SILENCE);
  await Promise.race([ended, sleep(patience, undefined, { ref: false })]);
  clearTimeout(silent);
  server.closeAllConnections();
  await app.close();
}

/** Returns when everybody in the queue of a listening socket is accepted: Node takes one in each turn of its loop. */
async function emptyQueue(app: FastifyInstance): Promise<void> {
  for (let before = -1; before !== connections.get(app)?.accepted;) {
    before = connections.get(app)?.accepted ?? 0;
    await turn();
  }
}

function follow(app: FastifyInstance): void {
  const seen: Connections = { open: new Set(), accepted: 0 };
  connections.set(app, seen);
  app.server.on('connection', socket => {
    seen.accepted++;
    seen.open.add(socket);
    socket.once('close', () => seen.open.delete(socket));
  });
}

/** Throws SocketInUseError where something answers on the path. */
export async function assertUnused(path: string): Promise<void> {
  if (await isAnswered(path))
    throw new SocketInUseError(
      `${path} is in use: another calico-libnetwork, or another plugin of that name, is running; stop it first`,
    );
}

/** True where something accepts connections on the path. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
