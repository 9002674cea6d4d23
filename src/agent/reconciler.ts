import type { Logger } from 'pino';
import { withDeadline } from '../deadline.js';
import { reason } from '../errors.js';
import { deviations } from './deviations.js';
import type { Deviation, Observed, Repair } from './deviations.js';
import { measured, NO_METRICS } from '../metrics/metrics.js';
import type { Metrics } from '../metrics/metrics.js';
import { Since } from './since.js';

/** Milliseconds for which something has to be lost, or left, before it is repaired: what is just being made looks like that. */
const SETTLED = 5_000;
/** Milliseconds after an event until Docker is looked at: events come in swarms. */
const AFTER_EVENT = 1_000;
/** Milliseconds between looks that events cause. */
const BETWEEN_EVENTS = 5_000;
/** Milliseconds until the next look where one failed: it could not see the datastore, or Docker. */
const AFTER_FAILURE = 2_000;
/** Milliseconds for a look, and for a repair. */
const PATIENCE = 30_000;

export interface ReconcilerParts {
  /** Looks at everything; rejects where a part of it cannot be seen. */
  observe(): Promise<Observed>;
  /** Answers whether that changed anything. */
  carryOut(repair: Repair, observed: Observed): Promise<boolean>;
  /** Says what would be done, and does nothing. */
  readonly dryRun: boolean;
  /** Milliseconds between looks. */
  readonly interval: number;
  /** Milliseconds for which Docker has to lack something before it is freed. */
  readonly grace: number;
  readonly log: Logger;
  /** None where not given. */
  readonly metrics?: Metrics;
  /** Milliseconds of a clock that never goes back. */
  now(): number;
}

/**
 * Brings what the datastore and the kernel have of this node in line with what Docker has: Docker forgets to say, or says
 * in vain, that things are gone, and a datastore may be put back to what it was. Level-triggered: each look sees
 * everything, so nothing depends on an event that was missed.
 *
 * Nothing is freed unless two complete views of one run of dockerd, a grace time apart, and all between them, lack it.
 */
export class Reconciler {
  private readonly since = new Since();
  private readonly reported = new Set<string>();
  private timer: NodeJS.Timeout | undefined;
  private dueAt = Infinity;
  private isLooking = false;
  private isDue = false;
  private lastLook = -Infinity;
  private isConnected = false;
  private isStopped = false;
  private complaint = '';
  private readonly metrics: Metrics;

  constructor(private readonly parts: ReconcilerParts) {
    this.metrics = parts.metrics ?? NO_METRICS;
  }

  /** dockerd has finished starting, and answers. What was seen before is no view of this dockerd. */
  dockerConnected(): void {
    this.isConnected = true;
    this.since.forget();
    this.lookIn(0);
  }

  /** dockerd is away. */
  dockerLost(): void {
    this.isConnected = false;
  }

  /** Something happened in Docker. */
  happened(): void {
    this.lookIn(Math.max(AFTER_EVENT, this.lastLook + BETWEEN_EVENTS - this.parts.now()));
  }

  stop(): void {
    this.isStopped = true;
    clearTimeout(this.timer);
  }

  private lookIn(milliseconds: number): void {
    const at = this.parts.now() + milliseconds;
    if (this.isStopped || at >= this.dueAt) return;
    this.dueAt = at;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.dueAt = Infinity;
      // One look at a time; what came meanwhile has the next.
      if (this.isLooking) this.isDue = true;
      else void this.run();
    }, milliseconds).unref();
  }

  /** One look. Never throws. */
  private async run(): Promise<void> {
    if (this.isStopped || !this.isConnected) return;
    let next = this.parts.interval;
    this.isLooking = true;
    this.isDue = false;
    this.lastLook = this.parts.now();
    try {
      const observed = await measured(
        () => withDeadline(PATIENCE, () => this.parts.observe()),
        (isOk, seconds) => this.metrics.compared(isOk, seconds),
      );
      const now = this.parts.now();
      const found = deviations(observed);
      const ages = this.since.look(
        found.map(({ key }) => key),
        now,
      );
      for (const deviation of found) {
        const left = this.delay(deviation) - (ages.get(deviation.key) ?? 0);
        if (left > 0) next = Math.min(next, left);
        // Views of a dockerd that has gone meanwhile free nothing.
        else if (this.isConnected && !this.isStopped) await this.repair(deviation, observed);
      }
      this.complaint = '';
    } catch (error) {
      const text = reason(error);
      if (text !== this.complaint) this.parts.log.warn({ reason: text }, 'cannot compare with Docker now');
      this.complaint = text;
      next = Math.min(next, AFTER_FAILURE);
    }
    this.isLooking = false;
    this.lookIn(this.isDue ? 0 : next);
  }

  private delay({ is }: Deviation): number {
    const { grace } = this.parts;
    const settled = Math.min(SETTLED, grace);
    return { gone: grace, lost: settled, left: settled, said: 0 }[is];
  }

  private async repair({ key, reason: why, repair }: Deviation, observed: Observed): Promise<void> {
    const { log, dryRun } = this.parts;
    const isNews = !this.reported.has(key);
    this.reported.add(key);
    if (this.reported.size > 10_000) this.reported.clear();
    if (dryRun) {
      if (isNews) log.warn({ why, repair: repair.kind }, 'would repair');
      return;
    }
    try {
      const isChanged = await withDeadline(PATIENCE, () => this.parts.carryOut(repair, observed));
      if (!isChanged) return;
      log.warn({ why }, `repaired: ${repair.kind}`);
      this.metrics.repaired(repair.kind, true);
    } catch (error) {
      if (isNews) log.error({ why, reason: reason(error) }, `cannot repair: ${repair.kind}`);
      this.metrics.repaired(repair.kind, false);
    }
  }
}
