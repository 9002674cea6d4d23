import type { Host } from '../bed/host.js';
import type { Machine } from '../bed/machine.js';
import { poll } from '../bed/poll.js';

/** Not busybox: Debian's static one crashes in `wget -T`. */
const FETCH =
  'fetch(process.argv[1], { signal: AbortSignal.timeout(3000) })' +
  '.then(answer => answer.text()).then(text => process.stdout.write(text), () => process.exit(1))';

/** A page as a machine sees it; undefined where none comes. */
export async function fetchFrom(machine: Pick<Machine, 'run'>, url: string): Promise<string | undefined> {
  const { code, stdout } = await machine.run([process.execPath, '-e', FETCH, '--', url], { check: false });
  return code === 0 ? stdout.trim() : undefined;
}

/** A page as a container sees it; undefined where none comes. */
export async function wgetIn(host: Host, container: string, url: string): Promise<string | undefined> {
  const argv = ['docker', 'exec', container, 'timeout', '3', 'wget', '-q', '-O', '-', url];
  const { code, stdout } = await host.run(argv, { check: false });
  return code === 0 ? stdout.trim() : undefined;
}

/** The page that `get` sees; its server may have started just now. */
export function pageOf(url: string, get: (url: string) => Promise<string | undefined>): Promise<string> {
  return poll(`page ${url}`, 10_000, () => get(url));
}
