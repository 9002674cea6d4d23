import { request } from 'node:http';

/**
 * Whether an HTTP server on a unix socket answers a request with status 200. The method is POST for a plugin, GET
 * for dockerd.
 * @param {string} socket
 * @param {'GET' | 'POST'} method
 * @param {string} path
 * @returns {Promise<boolean>}
 */
export function answers(socket, method, path) {
  return new Promise(resolve => {
    const call = request({ socketPath: socket, method, path, timeout: 2_000, agent: false }, response => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    call.on('timeout', () => call.destroy());
    call.on('error', () => resolve(false));
    call.end();
  });
}
