import { Bed } from '../test/bed/bed.js';
import type { Engine } from '../test/bed/engines.js';
import { ENGINES } from '../test/bed/engines.js';
import type { Host } from '../test/bed/host.js';
import { aim, median, percentile, round, say, table } from './support/report.js';

/**
 * What `docker run --rm` takes on a calico network and on Docker's own, in turn, with the daemon as a user has it:
 * on the etcd it runs itself. Arguments: engines (20 26 28) and `--runs=N`.
 */

const KINDS = { none: 'none', bridge: 'bridge', 'user bridge': 'userbr', calico: 'calnet' } as const;
type Kind = keyof typeof KINDS;
const RUNS = Number(/--runs=(\d+)/.exec(process.argv.join(' '))?.[1] ?? 30);
const WARM_UP = 2;

/** Milliseconds of one `docker run`. The shell takes the time: entering the host is no part of it. */
async function run(host: Host, kind: Kind): Promise<number> {
  const script = 's=$EPOCHREALTIME; docker run --rm --net "$0" busybox true && echo $s $EPOCHREALTIME';
  const { stdout } = await host.run(['bash', '-c', script, KINDS[kind]]);
  const [start = NaN, end = NaN] = stdout.trim().split(' ').map(Number);
  return (end - start) * 1_000;
}

/** Calls that the daemon logged since `from`, in order: method and milliseconds. */
function calls(log: string, from: number): { method: string; ms: number }[] {
  return log
    .slice(from)
    .split('\n')
    .flatMap(line => {
      if (!line.includes('"method"')) return [];
      const { method, ms } = JSON.parse(line) as { method: string; ms: number };
      return [{ method: method.replace(/^.*\./, ''), ms: Number(ms) }];
    });
}

/** What the start of each container took in the daemon; containers are started one at a time. */
function startsOf(logged: ReturnType<typeof calls>): number[] {
  const starts: number[] = [];
  let sum = 0;
  for (const { method, ms } of logged) {
    if (method === 'RequestAddress') sum = ms;
    if (method === 'CreateEndpoint') sum += ms;
    if (method === 'Join') starts.push(sum + ms);
  }
  return starts;
}

async function bench(engine: Engine): Promise<void> {
  const bed = await Bed.up({ hosts: 1, engine });
  try {
    const host = bed.host(1);
    await host.dockerd();
    await host.image();
    const daemon = await host.serve();
    const subnet = ['--subnet', '192.0.2.0/24'];
    await host.docker(
      'network',
      'create',
      '-d',
      'calico',
      '--ipam-driver',
      'calico-ipam',
      ...subnet,
      'calnet',
    );
    await host.docker('network', 'create', 'userbr');
    const kinds = Object.keys(KINDS) as Kind[];
    const times = new Map(kinds.map(kind => [kind, [] as number[]]));
    let from = 0;
    for (let round = -WARM_UP; round < RUNS; round += 1) {
      if (round === 0) from = daemon.output().length;
      for (const kind of kinds) {
        const ms = await run(host, kind);
        if (round >= 0) times.get(kind)?.push(ms);
      }
    }
    const version = await host.docker('version', '--format', '{{.Server.Version}}');
    report(version, times, calls(daemon.output(), from));
  } finally {
    await bed.down();
  }
}

function report(
  version: string,
  times: ReadonlyMap<Kind, readonly number[]>,
  logged: ReturnType<typeof calls>,
): void {
  const of = (kind: Kind): readonly number[] => times.get(kind) ?? [];
  const other = median(of('user bridge'));
  const row = (name: string, values: readonly number[], ...more: string[]): string[] => [
    name,
    ...[0.5, 0.1, 0.9].map(share => round(percentile(values, share))),
    ...more,
  ];
  say(`Docker ${version}: docker run --rm, ${RUNS} each in turn (milliseconds)`);
  table([
    ['network', 'median', 'p10', 'p90', '/ user bridge'],
    ...[...times].map(([kind, values]) => row(kind, values, round(median(values) / other))),
  ]);
  say('\nin the daemon (milliseconds)');
  const methods = [...new Set(logged.map(({ method }) => method))];
  table([
    ['method', 'median', 'p10', 'p90', 'calls'],
    ...methods.map(name => {
      const values = logged.filter(({ method }) => method === name).map(({ ms }) => ms);
      return row(name, values, String(values.length));
    }),
  ]);
  aim(`Docker ${version}: calico over user bridge`, median(of('calico')) / other, '<=', 0.9);
  aim('RequestAddress + CreateEndpoint + Join', median(startsOf(logged)), '<=', 6, ' ms');
  say();
}

const asked = process.argv.slice(2).filter(argument => /^\d+$/.test(argument));
const unknown = asked.filter(name => !ENGINES.some(engine => engine === name));
if (unknown.length > 0) throw new Error(`no engine ${unknown.join(', ')}: there are ${ENGINES.join(', ')}`);
for (const engine of ENGINES) if (asked.length === 0 || asked.includes(engine)) await bench(engine);
