import type { Store } from '../datastore/store.js';
import type { Logger } from '../log.js';
import type { Services } from '../services.js';
import { measuredStore } from './measured-store.js';
import type { Metrics } from './metrics.js';
import { PoolUse } from './pool-use.js';
import { createPrometheusMetrics } from './prometheus.js';
import { serveMetrics } from './server.js';
import type { ListenAddress } from './server.js';

/** A daemon that is looked at. */
export interface Observation {
  readonly metrics: Metrics;
  /** The store, measured. */
  measure(store: Store): Store;
  /** The daemon serves Docker: from now on its own state counts. `store`: for a watch of all blocks. */
  follow(services: Pick<Services, 'figures' | 'waitingFor'>, node: string, store: Store): void;
  /** It still answers, but is no longer ready. */
  ending(): void;
  close(): Promise<void>;
}

/** Serves metrics, liveness and readiness; not ready before {@link Observation.follow}. */
export function startObservation(address: ListenAddress, version: string, log: Logger): Observation {
  const metrics = createPrometheusMetrics(version);
  let waitingFor = (): readonly string[] => ['the daemon is starting: it does not serve Docker yet'];
  let use: PoolUse | undefined;
  const server = serveMetrics(address, metrics, () => waitingFor(), log);
  return {
    metrics,
    measure: store => measuredStore(store, metrics),
    follow(services, node, store) {
      waitingFor = () => services.waitingFor();
      const poolUse = new PoolUse(store, node, log);
      use = poolUse;
      metrics.lookAt({
        ...services.figures,
        poolUse: () => poolUse.figures(services.figures.pools()),
        isReady: () => waitingFor().length === 0,
      });
    },
    ending() {
      waitingFor = () => ['the daemon is ending'];
    },
    async close() {
      use?.close();
      await server.close();
    },
  };
}
