import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed } from '../bed/bed.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { poll } from '../bed/poll.js';
import { addressOf, CALICO, container, ping, untilDefaultPools } from './calico-host.js';
import { dump, keys } from './datastore.js';

const MAIN = join(REPOSITORY, 'dist/main.js');
let bed: Bed;
let host: Host;

beforeAll(async () => {
  bed = await Bed.up({ engine: '28' });
  host = bed.host(1);
  await host.serve();
  await host.dockerd();
  await host.image();
});
afterAll(() => bed?.down());

/** What a user types, in a shell, with the command as it is installed. */
function shell(script: string) {
  const command = `calico-libnetwork() { '${process.execPath}' '${MAIN}' "$@"; }`;
  return host.run(['bash', '-e', '-c', `cd /root\n${command}\n${script}`], { check: false });
}

/** The commands of docs/pools.md, by the number of their section. */
function commandsOf(section: number): string {
  const text = readFileSync(join(REPOSITORY, 'docs/pools.md'), 'utf8');
  const [, part = ''] = new RegExp(`\n## ${section}\\. ([^]*?)\n## `).exec(text) ?? [];
  const blocks = [...part.matchAll(/```sh\n([^]*?)```/g)].map(([, block]) => block);
  if (blocks.length === 0) throw new Error(`docs/pools.md has no commands in section ${section}`);
  return blocks.join('\n');
}

async function walk(section: number): Promise<string> {
  const { code, stdout, stderr } = await shell(commandsOf(section));
  expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: '' });
  return stdout;
}

it('the default pool is changed as docs/pools.md says, with containers that run all the time', async () => {
  await untilDefaultPools(host);
  await host.docker('network', 'create', ...CALICO, 'my_net');
  for (const name of ['web', 'db', 'stays'])
    await container(host, name, 'my_net', ...(name === 'web' ? ['-p', '8080:80'] : []));
  const before = await addressOf(host, 'web');
  expect(before).toMatch(/^192\.168\./);

  // 1. What there is, and who has it.
  expect(await walk(1)).toMatch(
    /IP pool +192\.168\.0\.0\/16 +65536 +3 \(<1%\) +65533 +1 +default-ipv4-ippool\n/,
  );
  await poll('the label of the endpoints', 5_000, async () =>
    /^web +my_net +192\.168\.\d+\.\d+ +8080->80\/tcp +h1$/m.test(
      (await shell('calico-libnetwork endpoint ls')).stdout,
    ),
  );
  const seen = await shell(
    `calico-libnetwork ipam show --ip=${before}; calico-libnetwork network ls; calico-libnetwork node status`,
  );
  expect(seen.stdout).toMatch(/^state +in use: for MAC [0-9a-f:]{17} of host h1$/m);
  expect(seen.stdout).toMatch(/^endpoint +container web, host h1, network my_net, [0-9a-f]{64}$/m);
  expect(seen.stdout).toMatch(/^my_net +default pools +no +3 +(local|shared) +h1$/m);
  expect(seen.stdout).toMatch(/^h1 \* +yes +10\.99\.0\.\d+ +1 +3 +this host$/m);

  // What is live is not freed.
  const released = await shell(`calico-libnetwork ipam release --ip=${before}`);
  expect(released.code).toBe(1);
  expect(released.stderr).toMatch(
    /is not released: endpoint [0-9a-f]{12} on host h1 has it: stop its container/,
  );

  expect(await walk(2)).toBe('IPPool new-pool created\n');
  expect(await walk(3)).toBe('IPPool default-ipv4-ippool changed\n');
  await container(host, 'fresh', 'my_net');
  expect(await addressOf(host, 'fresh')).toMatch(/^10\.44\./);
  await ping(host, 'fresh', before);
  await ping(host, 'web', await addressOf(host, 'fresh'));

  // Too early: refused, and the pool stays as it is.
  const early = await shell('calico-libnetwork delete ippool default-ipv4-ippool');
  expect(early.code).toBe(1);
  expect(early.stderr).toMatch(
    /IPPool default-ipv4-ippool \(192\.168\.0\.0\/16\) is needed by 3 addresses \(192\.168\./,
  );
  await ping(host, 'stays', before);

  expect(await walk(4)).toMatch(/192\.168\.0\.0\/16 +65536 +1 \(<1%\) .* default-ipv4-ippool \(disabled\)\n/);
  await container(host, 'last', 'my_net');
  await host.docker('rm', '-f', 'stays');
  for (const name of ['web', 'db']) expect(await addressOf(host, name)).toMatch(/^10\.44\./);
  expect(await walk(5)).toMatch(
    /^IPPool default-ipv4-ippool deleted\n\d+ blocks, 4 addresses in use, 0 findings\n$/,
  );

  // Nothing is left of it, nothing makes it again, and all goes on.
  await ping(host, 'web', await addressOf(host, 'db'));
  await host.stopServe();
  await host.serve();
  await container(host, 'later', 'my_net');
  expect(await addressOf(host, 'later')).toMatch(/^10\.44\./);
  expect(await keys(host, '192.168.')).toEqual([]);
  expect(await keys(host, '/ippools/')).toEqual([expect.stringMatching(/\/new-pool$/)]);
  expect(Object.values(await dump(host)).filter(value => value?.includes('192.168.'))).toEqual([]);
});
