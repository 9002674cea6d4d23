import type { Logger } from '../log.js';
import { reason } from '../errors.js';

/** Notifications come in swarms: look once, this many milliseconds after the first. */
const DEBOUNCE_MS = 100;
/** A flush may take a thousand routes: the log names this many. */
const REPORTED = 10;

/** Looks at a part of the host and puts it right; answers with what it repaired, in words. */
export type Repair = () => Promise<readonly string[]>;

/** Parts of the host that can be looked at and put right on their own: every so often, and when something is heard. */
export class Upkeep<Part extends string> {
  private readonly due = new Map<Part, NodeJS.Timeout>();
  private readonly complaints = new Map<Part, string>();
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly parts: Readonly<Record<Part, Repair>>,
    private readonly log: Logger,
  ) {}

  /** Looks at these parts every `interval` milliseconds. */
  start(interval: number, periodic: readonly Part[]): void {
    this.timer = setInterval(() => periodic.forEach(part => void this.check(part)), interval).unref();
  }

  stop(): void {
    clearInterval(this.timer);
    for (const timer of this.due.values()) clearTimeout(timer);
    this.due.clear();
  }

  /** Looks at a part in a moment, once for all that is heard until then. */
  soon(part: Part): void {
    if (this.due.has(part)) return;
    const timer = setTimeout(() => {
      this.due.delete(part);
      void this.check(part);
    }, DEBOUNCE_MS);
    this.due.set(part, timer.unref());
  }

  /** Looks at a part and puts it right. Never throws; says once what is wrong. */
  async check(part: Part): Promise<void> {
    try {
      this.report(await this.parts[part]());
      this.complaints.delete(part);
    } catch (error) {
      const text = reason(error);
      if (this.complaints.get(part) !== text) this.log.error({ part, reason: text }, 'cannot check the host');
      this.complaints.set(part, text);
    }
  }

  /** `isNew`: what is put there for the first time is no repair. */
  report(repaired: readonly string[], isNew = false): void {
    if (repaired.length === 0) return;
    const some = repaired.slice(0, REPORTED);
    this.log[isNew ? 'info' : 'warn'](
      { repaired: some, count: repaired.length },
      'put right what was missing on the host',
    );
  }
}
