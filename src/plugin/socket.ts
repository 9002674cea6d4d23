import { chmodSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import type { FastifyInstance } from 'fastify';

/** Connections the kernel queues; with Node's default a burst of a thousand gets EAGAIN. */
const BACKLOG = 4096;

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
