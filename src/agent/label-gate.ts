import type { Logger } from '../log.js';

/** Milliseconds that Docker gets to tell whose an endpoint is: a container whose labels cannot be had is better open. */
const PATIENCE = 2_000;
/** Milliseconds that labels which are read get to come to the datastore, where policy sees them: more than their write may
 *  take, which tells by itself when it fails. */
const WRITE_PATIENCE = 15_000;

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
    private readonly writePatience = WRITE_PATIENCE,
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
    const why = `Docker has not told within ${this.patience / 1_000} s whose it is`;
    const timer = this.timer(endpointId, this.patience, why);
    this.waiting.set(endpointId, { since: performance.now(), timer });
  }

  /**
   * Its labels are read, and on their way to the datastore: it stays closed until {@link LabelGate.known} or
   * {@link LabelGate.failed}. What policy they mean is no longer a guess that two seconds may decide.
   */
  read(endpointId: string): void {
    const waiting = this.waiting.get(endpointId);
    if (!waiting) return;
    clearTimeout(waiting.timer);
    const why = `its labels are not in the datastore after ${this.writePatience / 1_000} s`;
    this.waiting.set(endpointId, { ...waiting, timer: this.timer(endpointId, this.writePatience, why) });
  }

  /** Its labels are read, and cannot be put where policy sees them; `why` in words. */
  failed(endpointId: string, why: string): void {
    if (this.waiting.has(endpointId))
      this.giveUp(endpointId, `its labels cannot be written to the datastore (${why})`);
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

  private timer(endpointId: string, after: number, why: string): NodeJS.Timeout {
    return setTimeout(() => this.giveUp(endpointId, why), after).unref();
  }

  private giveUp(endpointId: string, why: string): void {
    if (!this.on.exists(endpointId)) return this.forget(endpointId);
    this.log.warn({ endpoint: endpointId }, `an endpoint opens without labels: ${why}`);
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
