import { expect } from 'vitest';
import { poll } from '../bed/poll.js';
import { dump } from './datastore.js';
import type { Matrix } from './matrix.js';
import { ask, inside } from './traffic.js';

/** Listens on a TCP and UDP port of a host as any program does. */
export const listener = (port: number) => [
  process.execPath,
  '-e',
  `const die = error => { console.log('failed ' + error.code); process.exit(1); };
  const udp = require('node:dgram').createSocket('udp4').on('error', die);
  require('node:net').createServer().on('error', die).listen(${port}, '0.0.0.0', () =>
    udp.bind(${port}, () => console.log('listening')));`,
];

/** Who answers on a port of the host, from each place there is: `who from where` that is not as expected. */
export async function wrongAt(
  { host, bed }: Pick<Matrix, 'host' | 'bed'>,
  port: number,
  expected: string,
  { protocol = 'tcp' as 'tcp' | 'udp', containers = [] as readonly string[], loopback = true } = {},
): Promise<string[]> {
  const both = [host.address, host.address6];
  const local = loopback ? ['127.0.0.1', ...(protocol === 'tcp' ? ['::1'] : [])] : [];
  const places = [
    ...both.map(address => ({ from: 'outside', machine: bed.outside, address, enter: [] as string[] })),
    ...[...both, ...local].map(address => ({
      from: 'host',
      machine: host,
      address,
      enter: [] as string[],
    })),
  ];
  for (const name of containers) {
    const enter = await inside(host, name);
    places.push(...both.map(address => ({ from: name, machine: host, address, enter })));
  }
  const said = await Promise.all(
    places.map(async ({ from, machine, address, enter }) => {
      const who = (await ask(machine, protocol, address, port, enter)).split(' ')[0] ?? '';
      return { who, where: `${who} at ${address} port ${port}/${protocol} from ${from}` };
    }),
  );
  return said.filter(({ who }) => who !== expected).map(({ where }) => where);
}

/** Nothing of a port is left: nobody answers, no rule and no endpoint names it, and a program can have it. */
export async function goneAt(matrix: Pick<Matrix, 'host' | 'bed'>, port: number): Promise<void> {
  const { host } = matrix;
  const table = async () => (await host.run(['nft', 'list', 'table', 'inet', 'calico_libnetwork'])).stdout;
  await poll(`rules of port ${port} gone`, 3_000, async () => !(await table()).includes(` ${port} `));
  expect(await wrongAt(matrix, port, 'nobody')).toEqual([]);
  const named = Object.entries(await dump(host)).filter(([, value]) => value?.includes(`"hostPort":${port}`));
  expect(named).toEqual([]);
  const other = await host.spawn(listener(port), { log: `free-${port}-${Date.now()}` });
  await poll('a word of the listener', 5_000, () => /listening|failed/.test(other.output()));
  expect(other.output()).toContain('listening');
  await other.stop('SIGKILL');
}
