import { mkdirSync } from 'node:fs';
import type { Host } from '../bed/host.js';
import { poll } from '../bed/poll.js';
import type { Running } from '../bed/running.js';

/** Calls of dockerd's that a driver may take long for. */
export const CALLS = ['CreateEndpoint', 'Join', 'Leave', 'DeleteEndpoint'] as const;

/** A driver without interfaces: agrees to everything, and keeps one call waiting. */
const DRIVER = `
const [socket, slow, wait] = process.argv.slice(1);
const answers = {
  '/Plugin.Activate': { Implements: ['NetworkDriver'] },
  '/NetworkDriver.GetCapabilities': { Scope: 'local' },
  '/NetworkDriver.CreateEndpoint': { Interface: {} },
  '/NetworkDriver.EndpointOperInfo': { Value: {} },
  '/NetworkDriver.Join': { InterfaceName: {}, DisableGatewayService: true },
};
require('node:http').createServer((request, response) => {
  request.resume().on('end', async () => {
    if (request.url === '/NetworkDriver.' + slow) {
      console.log('waiting');
      await new Promise(resolve => setTimeout(resolve, Number(wait)));
    }
    response.end(JSON.stringify(answers[request.url] ?? {}));
  });
}).listen(socket, () => console.log('serving'));`;

/** Starts a driver called `slow-<call>` that takes `milliseconds` for that call, and says `waiting` when it begins to. */
export async function slowDriver(host: Host, call: string, milliseconds: number): Promise<Running> {
  mkdirSync(host.path('/run/docker/plugins'), { recursive: true });
  const name = `slow-${call.toLowerCase()}`;
  const argv = [
    process.execPath,
    '-e',
    DRIVER,
    '--',
    `/run/docker/plugins/${name}.sock`,
    call,
    `${milliseconds}`,
  ];
  const driver = await host.spawn(argv, { log: name });
  await poll(`driver ${name}`, 10_000, () => driver.output().includes('serving'));
  return driver;
}
