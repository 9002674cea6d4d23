import { chmodSync, mkdirSync, unlinkSync } from 'node:fs';
import { Server, connect } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';

/** Milliseconds in which a request that dockerd has sent already is read. */
const UNDER_WAY = 50;

/** Connections the kernel queues; with Node's default a burst of a thousand gets EAGAIN. */
const BACKLOG = 4096;

/** Apps that are about to end. */
const stopping = new WeakSet<FastifyInstance>();

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
 * the queue of a socket that was handed to us, else by dockerd's own trying again. Calls under way are answered, each with
 * the word that its connection ends (see `app.ts`). Idle connections are cut last: what dockerd wrote into one as we
 * stopped would be lost, as dockerd repeats such a call without its body (moby#39331).
 */
export async function stopServing(app: FastifyInstance, patience: number): Promise<void> {
  stopping.add(app);
  const { server } = app;
  const path = server.address();
  if (typeof path === 'string') {
    // Whoever is in the queue of our own socket would be cut: first let nobody in, then see to those.
    removeIfThere(path);
    await sleep(UNDER_WAY);
  }
  // Not the close() of an HTTP server, which cuts idle connections first.
  const ended = new Promise<void>(resolve => {
    Server.prototype.close.call(server, () => resolve());
  });
  await sleep(UNDER_WAY);
  server.closeIdleConnections();
  await Promise.race([ended, sleep(patience, undefined, { ref: false })]);
  server.closeAllConnections();
  await app.close();
}

/** Whether {@link stopServing} has begun: no connection must be kept then. */
export function isStopping(app: FastifyInstance): boolean {
  return stopping.has(app);
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
