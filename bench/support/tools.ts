import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Archive, ownSuite } from '../../test/bed/apt.js';
import { ENGINE_CACHE } from '../../test/bed/paths.js';

/** What a bench measures with and the tests do without: unpacked from Debian's archive, not installed. */
const PACKAGES = ['iperf3', 'libiperf0', 'libsctp1', 'iputils-ping', 'libcap2', 'libidn2-0', 'libunistring2'];

/** A command line that runs one of these programs wherever the machine's files are seen. */
export type Tool = (name: 'iperf3' | 'ping', ...args: readonly string[]) => string[];

/** Makes the tools available. Throws where Debian's archive cannot be reached. */
export async function tools(): Promise<Tool> {
  const cache = dirname(ENGINE_CACHE);
  const target = join(cache, 'bench-tools');
  if (!existsSync(target)) {
    mkdirSync(cache, { recursive: true });
    const folder = mkdtempSync(join(cache, '.bench-tools-'));
    try {
      const root = join(folder, 'root');
      await new Archive(ownSuite(), join(folder, 'apt')).unpack(PACKAGES, root);
      renameSync(root, target);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  const libraries = ['usr/lib', 'lib'].flatMap(place => {
    const folder = join(target, place);
    const names = existsSync(folder) ? readdirSync(folder) : [];
    return names.filter(name => name.endsWith('-linux-gnu')).map(name => join(folder, name));
  });
  const programs = { iperf3: 'usr/bin/iperf3', ping: 'bin/ping' };
  return (name, ...args) => [
    ...['env', `LD_LIBRARY_PATH=${libraries.join(':')}`, join(target, programs[name])],
    ...args,
  ];
}
