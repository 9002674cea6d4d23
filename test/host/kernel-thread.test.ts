import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { exec, prepare, transpiled } from './pretend-host.js';

beforeAll(prepare);

test('a container may have had any number of connections, and the daemon may end while they are forgotten', async () => {
  const program = join(transpiled('test/host/many-flows.ts'), 'test/host/many-flows.js');
  const said: unknown = JSON.parse(await exec('unshare', ['--net', process.execPath, program]));
  expect(said).toEqual({
    many: expect.toSatisfy((flows: number) => flows > 45_000) as unknown,
    left: 0,
    more: expect.toSatisfy((flows: number) => flows > 9_000) as unknown,
    leftAtTheEnd: 0,
    afterwards: 'the daemon ends',
  });
}, 60_000);
