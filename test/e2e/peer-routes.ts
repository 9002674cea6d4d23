import type { Host } from '../bed/host.js';

/** Routes of ours to other hosts. */
export async function peerRoutes(host: Host, family = '-4'): Promise<string[]> {
  const { stdout } = await host.run(['ip', family, 'route', 'show', 'proto', '81']);
  return stdout
    .split('\n')
    .filter(line => line.includes(' via '))
    .map(line => line.replace(/ (linkdown|pref medium|metric 1024)/g, '').trim())
    .sort();
}
