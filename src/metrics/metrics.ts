import type { IpPool } from '../model/ip-pool.js';

/** How a call of Docker's ended. `refused`: something that whoever asked can put right; `unavailable`: the datastore did
 *  not answer; `failed`: the host, or the daemon itself. */
export type CallOutcome = 'ok' | 'refused' | 'unavailable' | 'failed';

/** Parts of the host's state that are applied on their own. */
export type AppliedPart = 'host' | 'peers' | 'policy';

/**
 * The port to whoever counts: what the daemon tells of its work. Nothing here throws or waits. Times are seconds.
 * {@link NO_METRICS} where nobody counts; `prometheus.ts` where somebody does.
 */
export interface Metrics {
  /** dockerd was answered. `method` is one of ours: what is unknown is not counted, or anybody could make new series. */
  called(method: string, outcome: CallOutcome, seconds: number): void;
  /** The datastore was asked, with all tries that took. `operation`: get, list, transact … */
  asked(operation: string, isOk: boolean, seconds: number): void;
  /** A watch had to read its prefix again. */
  watchRestarted(prefix: string): void;
  /** The datastore went back to an earlier state. */
  rewound(): void;
  /** What should be true was brought to the host. */
  applied(part: AppliedPart, isOk: boolean, seconds: number): void;
  /** The reconciler compared everything once. */
  compared(isOk: boolean, seconds: number): void;
  /** The reconciler repaired something, or could not. `kind`: as its log line says. */
  repaired(kind: string, isOk: boolean): void;
}

/** What a host has at the moment, from memory. */
export interface HostFigures {
  /** How many there should be, by where they lead: to its containers, its own blocks', to other hosts. */
  routes(): { readonly container: number; readonly block: number; readonly host: number };
  /** Of its containers. */
  endpoints(): number;
  /** Its calico networks. */
  networks(): number;
  pools(): readonly IpPool[];
}

const nothing = (): void => undefined;

/** Counts nothing. What takes it may be left out altogether: see {@link measuredApply}, `measured-store.ts`. */
export const NO_METRICS: Metrics = {
  called: nothing,
  asked: nothing,
  watchRestarted: nothing,
  rewound: nothing,
  applied: nothing,
  compared: nothing,
  repaired: nothing,
};

/** `apply`, timed; `apply` itself where nobody counts. Throws what it throws. */
export function measuredApply(
  metrics: Metrics,
  part: AppliedPart,
  apply: () => Promise<void>,
): () => Promise<void> {
  if (metrics === NO_METRICS) return apply;
  return () => measured(apply, (isOk, seconds) => metrics.applied(part, isOk, seconds));
}

/** The result of `work`; `tell` hears how it ended and how long it took. Throws what `work` throws. */
export async function measured<T>(
  work: () => Promise<T>,
  tell: (isOk: boolean, seconds: number) => void,
): Promise<T> {
  const started = performance.now();
  let isOk = false;
  try {
    const result = await work();
    isOk = true;
    return result;
  } finally {
    tell(isOk, (performance.now() - started) / 1_000);
  }
}
