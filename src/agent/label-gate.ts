import type { Logger } from '../log.js';

/** Milliseconds that an endpoint stays closed at most: a container whose labels cannot be had is better open. */
const PATIENCE = 2_000;

/**
 * Endpoints of this host whose container is not known yet: policy may select them by labels that Docker has and we have not,
 * so nothing passes until it is. Docker names the container only after Join.
 */
export class LabelGate {
  private readonly waiting = new Map<string, { readonly since: number; readonly timer: NodeJS.Timeout }>();

  /** `opened` runs when an endpoint has opened, `exists` tells whether it is there still. */
  constructor(
    private readonly on: { opened(endpointId: string): void; exists(endpointId: string): boolean },
    private readonly log: Logger,
    private readonly patience = PATIENCE,
  ) {}

  /** Whether any endpoint waits. */
  isAwaited(): boolean {
    return this.waiting.size > 0;
  }

  isOpen(endpointId: string): boolean {
    return !this.waiting.has(endpointId);
  }

  /** Closes an endpoint that joins; until {@link LabelGate.known}, or until it has waited long enough. */
  close(endpointId: string): void {
    if (this.waiting.has(endpointId)) return;
    const timer = setTimeout(() => {
      if (!this.on.exists(endpointId)) return this.forget(endpointId);
      this.log.warn(
        { endpoint: endpointId },
        `the container of an endpoint is still not known after ${this.patience / 1_000} s: it opens without labels`,
      );
      this.open(endpointId);
    }, this.patience).unref();
    this.waiting.set(endpointId, { since: performance.now(), timer });
  }

  /** Its labels are where policy sees them, or it has none. */
  known(endpointId: string): void {
    const waiting = this.waiting.get(endpointId);
    if (!waiting) return;
    this.log.debug(
      { endpoint: endpointId, ms: Math.round(performance.now() - waiting.since) },
      'opened an endpoint',
    );
    this.open(endpointId);
  }

  private forget(endpointId: string): void {
    clearTimeout(this.waiting.get(endpointId)?.timer);
    this.waiting.delete(endpointId);
  }

  stop(): void {
    for (const endpointId of this.waiting.keys()) this.forget(endpointId);
  }

  private open(endpointId: string): void {
    this.forget(endpointId);
    this.on.opened(endpointId);
  }
}
