import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { HostFigures, Metrics } from './metrics.js';
import type { PoolFigures } from './pool-use.js';

/** What is looked up when somebody scrapes, from memory. */
export interface Figures extends Omit<HostFigures, 'pools'> {
  /** Undefined before the blocks were read. */
  poolUse(): Promise<readonly PoolFigures[] | undefined>;
  isReady(): boolean;
}

/** {@link Metrics} that can be read. */
export interface PrometheusMetrics extends Metrics {
  /** From now on, what is looked up at a scrape. */
  lookAt(figures: Figures): void;
  /** All of it in Prometheus' text format. */
  text(): Promise<string>;
  readonly contentType: string;
}

const PREFIX = 'calico_libnetwork_';
/** Seconds. From a call that only memory answers to one that has waited as long as it may. */
const BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Every metric that the daemon has beside those of its process, once. */
const HISTOGRAMS = {
  calls: {
    name: `${PREFIX}call_duration_seconds`,
    help: "Docker's calls to the drivers, by method and by how they ended",
    labelNames: ['method', 'outcome'],
  },
  etcd: {
    name: `${PREFIX}etcd_request_duration_seconds`,
    help: 'Answers of etcd, with all tries that took',
    labelNames: ['operation', 'outcome'],
  },
  applied: {
    name: `${PREFIX}apply_duration_seconds`,
    help: 'Bringing what should be true to the host: host (routes, NAT, ports), peers (routes to other hosts), policy',
    labelNames: ['part', 'outcome'],
  },
  compared: {
    name: `${PREFIX}reconcile_duration_seconds`,
    help: 'Looks of the reconciler at Docker, the datastore and the kernel',
    labelNames: ['outcome'],
  },
} as const;

const COUNTERS = {
  watches: {
    name: `${PREFIX}etcd_watch_restarts_total`,
    help: 'Watches that had to read their prefix again',
    labelNames: ['prefix'],
  },
  rewinds: {
    name: `${PREFIX}etcd_rewinds_total`,
    help: 'Times that etcd went back to an earlier state',
    labelNames: [],
  },
  repairs: {
    name: `${PREFIX}reconcile_repairs_total`,
    help: 'Repairs of the reconciler, by kind',
    labelNames: ['kind', 'outcome'],
  },
} as const;

const GAUGES = {
  build: {
    name: `${PREFIX}build_info`,
    help: 'Always 1, with the version as label',
    labelNames: ['version'],
  },
  ready: { name: `${PREFIX}ready`, help: '1 where /ready says ok', labelNames: [] },
  poolSize: {
    name: `${PREFIX}ipam_pool_addresses`,
    help: 'Addresses that an IPPool has',
    labelNames: ['pool', 'cidr'],
  },
  poolUse: {
    name: `${PREFIX}ipam_pool_addresses_in_use`,
    help: 'Addresses of an IPPool that are allocated, on all hosts (every host says the same)',
    labelNames: ['pool'],
  },
  poolBlocks: {
    name: `${PREFIX}ipam_pool_blocks`,
    help: 'Blocks of an IPPool, on all hosts (every host says the same)',
    labelNames: ['pool'],
  },
  ownBlocks: {
    name: `${PREFIX}ipam_node_blocks`,
    help: 'Blocks of an IPPool that are affine to this host',
    labelNames: ['pool'],
  },
  routes: {
    name: `${PREFIX}routes`,
    help: 'Routes that the daemon keeps on this host: to containers, to other hosts, and those of its own blocks',
    labelNames: ['to'],
  },
  endpoints: { name: `${PREFIX}endpoints`, help: 'Endpoints of containers on this host', labelNames: [] },
  networks: { name: `${PREFIX}networks`, help: 'Calico networks of this host', labelNames: [] },
} as const;

/** Counts for Prometheus, beginning with nothing; process metrics included. `version`: the daemon's. */
export function createPrometheusMetrics(version: string): PrometheusMetrics {
  const registry = new Registry();
  const registers = [registry];
  const histogram = (shape: (typeof HISTOGRAMS)[keyof typeof HISTOGRAMS]) =>
    observer(
      new Histogram<string>({ ...shape, labelNames: [...shape.labelNames], buckets: BUCKETS, registers }),
    );
  const counter = (shape: (typeof COUNTERS)[keyof typeof COUNTERS]) =>
    new Counter<string>({ ...shape, labelNames: [...shape.labelNames], registers });
  const gauge = (shape: (typeof GAUGES)[keyof typeof GAUGES]) =>
    new Gauge<string>({ ...shape, labelNames: [...shape.labelNames], registers });

  const [calls, etcd] = [histogram(HISTOGRAMS.calls), histogram(HISTOGRAMS.etcd)];
  const [applied, compared] = [histogram(HISTOGRAMS.applied), histogram(HISTOGRAMS.compared)];
  const [watches, rewinds, repairs] = [
    counter(COUNTERS.watches),
    counter(COUNTERS.rewinds),
    counter(COUNTERS.repairs),
  ];
  const build = gauge(GAUGES.build);
  build.set({ version }, 1);
  const ready = gauge(GAUGES.ready);
  const pools = {
    size: gauge(GAUGES.poolSize),
    use: gauge(GAUGES.poolUse),
    blocks: gauge(GAUGES.poolBlocks),
    own: gauge(GAUGES.ownBlocks),
  };
  const [routes, endpoints, networks] = [
    gauge(GAUGES.routes),
    gauge(GAUGES.endpoints),
    gauge(GAUGES.networks),
  ];
  // Looked at every 10 ms, as is the default, the event loop's delay costs a daemon that does nothing more than all else.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 100 });

  const look = async (figures: Figures): Promise<void> => {
    ready.set(figures.isReady() ? 1 : 0);
    endpoints.set(figures.endpoints());
    networks.set(figures.networks());
    for (const [to, count] of Object.entries(figures.routes())) routes.set({ to }, count);
    const found = await figures.poolUse();
    // A pool that has gone goes from here, too.
    for (const one of Object.values(pools)) one.reset();
    for (const { pool, cidr, size, inUse, blocks, ownBlocks } of found ?? []) {
      pools.size.set({ pool, cidr }, size);
      pools.use.set({ pool }, inUse);
      pools.blocks.set({ pool }, blocks);
      pools.own.set({ pool }, ownBlocks);
    }
  };
  let figures: Figures | undefined;
  return {
    called: (method, outcome, seconds) => calls(seconds, method, outcome),
    asked: (operation, isOk, seconds) => etcd(seconds, operation, outcomeOf(isOk)),
    watchRestarted: prefix => watches.inc({ prefix }),
    rewound: () => rewinds.inc(),
    applied: (part, isOk, seconds) => applied(seconds, part, outcomeOf(isOk)),
    compared: (isOk, seconds) => compared(seconds, outcomeOf(isOk)),
    repaired: (kind, isOk) => repairs.inc({ kind, outcome: outcomeOf(isOk) }),
    lookAt: given => void (figures = given),
    async text() {
      if (figures) await look(figures);
      return registry.metrics();
    },
    contentType: registry.contentType,
  };
}

/** Names of all metrics of ours, as `/metrics` has them: a histogram's with its endings. For documents and tests. */
export function metricNames(): string[] {
  const histograms = Object.values(HISTOGRAMS).flatMap(({ name }) =>
    ['_bucket', '_sum', '_count'].map(ending => name + ending),
  );
  return [...histograms, ...Object.values({ ...COUNTERS, ...GAUGES }).map(({ name }) => name)];
}

/** The table of metrics for `docs/reference.md`. */
export function metricsTable(): string {
  const rows = Object.entries({ histogram: HISTOGRAMS, counter: COUNTERS, gauge: GAUGES }).flatMap(
    ([type, shapes]) =>
      Object.values(shapes).map(({ name, help, labelNames }) => {
        const names: readonly string[] = labelNames;
        const labels = names.map(label => `\`${label}\``).join(', ');
        return `| \`${name}\` | ${type} | ${labels} | ${help} |`;
      }),
  );
  return ['| metric | type | labels | what it is |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

function outcomeOf(isOk: boolean): string {
  return isOk ? 'ok' : 'failed';
}

/** Adds to a histogram, by the values of its labels in their order. Each combination is looked up once. */
function observer(histogram: Histogram): (seconds: number, ...labels: string[]) => void {
  const known = new Map<string, { observe(value: number): void }>();
  return (seconds, ...labels) => {
    const name = labels.join(' ');
    let one = known.get(name);
    if (!one) known.set(name, (one = histogram.labels(...labels)));
    one.observe(seconds);
  };
}
