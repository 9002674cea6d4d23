import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';
import { disagreements, expectAgreement } from '../e2e/agreement.js';
import { dump } from '../e2e/datastore.js';
import { kernelHas, runningContainers } from '../e2e/seen.js';
import { AGREED } from './report.js';
import type { ChaosOptions } from './report.js';
import { faults } from './watch.js';

/** What is found when nobody types or kills any more, and all is up. */
export class Aftermath {
  constructor(
    private readonly host: Host,
    /** Where etcd serves. */
    private readonly endpoint: string,
    private readonly options: ChaosOptions,
  ) {}

  /** Waits for agreement, then removes everything and waits until nothing is left. */
  async look(): Promise<{ agreementAfter: number | undefined; leaks: string[] }> {
    const { host, endpoint, options } = this;
    const agreed = await expectAgreement(host, { within: AGREED, endpoint }).catch(() => undefined);
    const leaks = agreed === undefined ? await disagreements(host, endpoint) : [];
    options.say(agreed === undefined ? `no agreement: ${leaks.join('; ')}` : `agreement after ${agreed} ms`);
    for (const line of await this.evidence(leaks)) options.say(line);
    const found = await faults(host);
    leaks.push(...found.duplicates, ...found.unreachable, ...(await this.check()));
    await this.removeAll();
    const until = Date.now() + AGREED;
    let left = ['not looked at'];
    while (left.length > 0 && Date.now() < until) left = await this.left().catch(error => [String(error)]);
    return { agreementAfter: agreed, leaks: [...leaks, ...left.map(what => `left in the end: ${what}`)] };
  }

  /** What `ipam check` finds, which knows nothing of how this test looks at things. */
  private async check(): Promise<string[]> {
    const argv = [process.execPath, join(REPOSITORY, 'dist/main.js'), 'ipam', 'check'];
    const env = this.options.etcd === 'external' ? { ETCD_ENDPOINTS: this.endpoint } : {};
    const { code, stdout, stderr } = await this.host.run(argv, { env, check: false });
    this.options.say(`ipam check: ${stdout.trim().split('\n').at(-1) ?? ''}`);
    return code === 0 ? [] : [`ipam check: status ${code}: ${stdout.trim()} ${stderr.trim()}`];
  }

  /** What the daemon logged of the endpoints of containers that are named. */
  private async evidence(leaks: readonly string[]): Promise<string[]> {
    const log = readFileSync(this.host.logFile('calico-libnetwork'), 'utf8').split('\n');
    const named = (await runningContainers(this.host)).filter(({ name }) =>
      leaks.some(leak => leak.split(/\W+/).includes(name)),
    );
    return named.flatMap(({ name, id, started, endpoints }) =>
      endpoints.flatMap(({ endpointId }) => [
        `${name} (${id.slice(0, 12)}, up since ${started}) has endpoint ${endpointId}; the daemon logged:`,
        ...log.filter(line => line.includes(endpointId)),
      ]),
    );
  }

  private async removeAll(): Promise<void> {
    const { host, options } = this;
    const list = async (...argv: string[]) =>
      (await host.docker(...argv)).split('\n').filter(line => line !== '');
    const remove = async () => {
      const containers = await list('ps', '-aq');
      if (containers.length > 0) await host.run(['docker', 'rm', '-f', ...containers], { check: false });
      const networks = await list('network', 'ls', '-q', '--filter', 'type=custom');
      const { code, stderr } = networks.length
        ? await host.run(['docker', 'network', 'rm', ...networks], { check: false })
        : { code: 0, stderr: '' };
      return code === 0 && (await list('ps', '-aq')).length === 0 ? undefined : stderr.trim();
    };
    const complaint = await remove();
    if (complaint === undefined) return;
    // What dockerd believes after a crash of its own may be wrong until it starts again.
    options.say(`docker cannot remove all at once: ${complaint}`);
    await host.killDockerd();
    await host.dockerd();
    const again = await remove();
    if (again !== undefined) options.say(`nor after a restart: ${again}`);
  }

  /** What is there when all is removed. */
  private async left(): Promise<string[]> {
    const { endpoint } = this;
    const kernel = await kernelHas(this.host);
    const keys = Object.keys(await dump(this.host, endpoint));
    return [
      ...(await disagreements(this.host, endpoint)),
      ...kernel.links,
      ...kernel.routes,
      ...kernel.published.map(address => `a port of ${address}`),
      ...keys.filter(key => /\/handle\/|\/workloadendpoints\/|\/v1\/networks\/|192-0-2|198-51-100/.test(key)),
    ];
  }
}
