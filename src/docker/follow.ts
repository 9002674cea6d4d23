import type { Logger } from 'pino';
import { reason } from '../errors.js';
import type { DockerEngine, DockerEvent } from './engine.js';

/** Milliseconds between tries to reach dockerd: short, as a network made before we follow has no name yet. */
const RETRY = 200;

/**
 * Follows dockerd's events for ever, through its restarts. `connected` runs whenever a stream was opened: what it asks
 * Docker then, together with the events that follow, misses nothing. `lost` runs when it has ended. Returns what ends it.
 */
export function followDocker(
  engine: DockerEngine,
  on: { connected(): void; lost(): void; event(event: DockerEvent): void },
  log: Logger,
): () => void {
  const stopping = new AbortController();
  const { signal } = stopping;
  let isKnownToBeAway = false;

  const follow = async (): Promise<void> => {
    try {
      const connected = (): void => {
        isKnownToBeAway = false;
        log.info('connected to Docker');
        on.connected();
      };
      await engine.events(['network'], connected, on.event, signal);
      if (!signal.aborted) log.info('Docker closed the connection');
    } catch (error) {
      if (!signal.aborted && !isKnownToBeAway)
        log.info({ reason: reason(error) }, 'Docker cannot be reached; trying again until it can');
      isKnownToBeAway = true;
    }
  };
  void (async () => {
    while (!signal.aborted) {
      await follow();
      on.lost();
      await new Promise(resolve => setTimeout(resolve, RETRY).unref());
    }
  })();
  return () => stopping.abort();
}
