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
  /** The daemon serves Docker, and has begun to follow the datastore: from now on its own state counts. `store`: for a watch
   *  of all blocks, where it has none itself (beside a Felix). */
  follow(services: Pick<Services, 'figures' | 'waitingFor'>, store: Store): void;
  /** It still answers, but is no longer ready. */
  ending(): void;
  close(): Promise<void>;
}

/** Serves metrics, liveness and readiness; not ready before {@link Observation.follow}. */
export function startObservation(
  address: ListenAddress,
  who: { readonly node: string; readonly version: string },
  log: Logger,
): Observation {
  const metrics = createPrometheusMetrics(who.version);
  let waitingFor = (): readonly string[] => ['the daemon is starting: it does not serve Docker yet'];
  const use = new PoolUse(who.node);
  let unfollow = (): void => undefined;
  const server = serveMetrics(address, metrics, () => waitingFor(), log);
  return {
    metrics,
    measure: store => measuredStore(store, metrics, use),
    follow(services, store) {
      waitingFor = () => services.waitingFor();
      unfollow = use.follow(store);
      metrics.lookAt({
        ...services.figures,
        poolUse: () => use.figures(services.figures.pools()),
        isReady: () => waitingFor().length === 0,
      });
    },
    ending() {
      waitingFor = () => ['the daemon is ending'];
    },
    async close() {
      unfollow();
      await server.close();
    },
  };
}
