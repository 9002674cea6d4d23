/**
 * What the processes of the race wrote down, and what must be true of it. The clock is CLOCK_MONOTONIC, one for all
 * processes of the machine. An address is *certainly* held from "got" (written after the answer) to "releasing"
 * (written before the call), also beyond the death of the process: so an overlap of two such times is no matter of
 * when something was written down.
 */

/**
 * - `up`: a process begins; `found` and then `listed`: what etcd says its node holds
 * - `asking`, then `got` or `refused` (detail: the error's class)
 * - `releasing`, then `released` (detail: what `release` answered) or `unreleased` (detail: the error's class)
 * - `late`: an allocation of an earlier process of the node that came after `listed`
 * - `leak`: an allocation that this process holds according to etcd and never was told of
 * - `lost`: one that it holds and etcd does not know of
 * - `fault`: an error that nothing but a bug explains
 */
export type What =
  | 'up'
  | 'found'
  | 'listed'
  | 'asking'
  | 'got'
  | 'refused'
  | 'releasing'
  | 'released'
  | 'unreleased'
  | 'late'
  | 'leak'
  | 'lost'
  | 'fault';

export interface HistoryEvent {
  /** Nanoseconds. */
  readonly time: bigint;
  readonly node: string;
  /** Which process of the node: 1, 2, … */
  readonly incarnation: number;
  /** Ties the end of an operation to its beginning, within one process. */
  readonly operation: number;
  readonly what: What;
  /** Empty where the event has none. */
  readonly address: string;
  /** Of `asking`, `got`, `releasing`: `endpoint`, or what the address is reserved as. */
  readonly detail: string;
}

export interface Verdict {
  /** Operations that came to an answer, whichever. */
  readonly operations: number;
  /** Operations in the middle of which their process was killed. */
  readonly cutOff: number;
  /** How many operations had which end: `got`, `released`, names of errors. */
  readonly ends: Readonly<Record<string, number>>;
  /** Milliseconds. */
  readonly longest: number;
  /** Two held one address, in words. */
  readonly duplicates: readonly string[];
  /** Somebody's address was freed under it, in words. */
  readonly lost: readonly string[];
  /** An address stays in use and nobody knows it, in words. */
  readonly leaks: readonly string[];
  readonly faults: readonly string[];
  /** Allocations that a killed process had asked for and etcd made after its successor had looked. */
  readonly late: number;
}

export const ENDPOINT = 'endpoint';

export function formatEvent(event: Omit<HistoryEvent, 'node' | 'incarnation'>): string {
  const { time, operation, what, address, detail } = event;
  return `${JSON.stringify([String(time), operation, what, address, detail])}\n`;
}

/** The events in the log of one process. Its last line may be cut short, as the process was. */
export function parseLog(node: string, incarnation: number, text: string): HistoryEvent[] {
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  return lines.filter(Boolean).map(line => {
    const [time, operation, what, address, detail]: [string, number, What, string, string] = JSON.parse(line);
    return { time: BigInt(time), node, incarnation, operation, what, address, detail };
  });
}

/** Judges the logs of all processes. */
export function judge(logs: readonly HistoryEvent[][]): Verdict {
  const events = logs.flat().sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
  const history = new History();
  for (const event of events) history.add(event);
  return history.verdict();
}

class History {
  /** By address and node: as what. */
  private readonly held = new Map<string, Map<string, string>>();
  private readonly begun = new Map<string, HistoryEvent>();
  private readonly found = new Map<string, Set<string>>();
  private readonly ends: Record<string, number> = {};
  private readonly words: Record<'duplicates' | 'lost' | 'leaks' | 'faults', string[]> = {
    duplicates: [],
    lost: [],
    leaks: [],
    faults: [],
  };
  private longest = 0n;
  private operations = 0;
  private late = 0;

  add(event: HistoryEvent): void {
    const { node, address, what, detail } = event;
    switch (what) {
      case 'up':
        this.found.set(node, new Set());
        break;
      case 'found':
        this.found.get(node)?.add(address);
        break;
      case 'listed':
        this.compareWithFound(event);
        break;
      case 'asking':
        this.begun.set(operationOf(event), event);
        break;
      case 'releasing':
        this.begun.set(operationOf(event), { ...event, detail: this.held.get(address)?.get(node) ?? '' });
        this.held.get(address)?.delete(node);
        break;
      case 'got':
        this.end(event, 'got');
        this.hold(event);
        break;
      case 'released': {
        const { detail: as } = this.end(event, 'released') ?? {};
        // Of a reservation only a part goes, which leaves no mark in etcd: after a lost answer it may say "false".
        if (detail === 'false' && as === ENDPOINT)
          this.words.lost.push(`${told(event)}: it was free already`);
        break;
      }
      case 'refused':
      case 'unreleased':
        this.end(event, detail);
        break;
      case 'late':
        this.late += 1;
        break;
      case 'leak':
        this.words.leaks.push(told(event));
        break;
      case 'lost':
        this.words.lost.push(told(event));
        break;
      case 'fault':
        this.words.faults.push(told(event));
    }
  }

  verdict(): Verdict {
    const { operations, ends, words, late } = this;
    return { operations, ends, late, ...words, cutOff: this.begun.size, longest: Number(this.longest) / 1e6 };
  }

  private hold(event: HistoryEvent): void {
    const { node, address, detail } = event;
    const holders = this.held.get(address) ?? new Map<string, string>();
    this.held.set(address, holders);
    for (const [other, as] of holders)
      // Several nodes may keep the same address back, for the same network.
      if (other === node || as === ENDPOINT || as !== detail)
        this.words.duplicates.push(`${told(event)}: ${other} has it, as ${as}`);
    holders.set(node, detail);
  }

  /** What a killed process certainly held must be what its successor finds. */
  private compareWithFound(event: HistoryEvent): void {
    const found = this.found.get(event.node);
    for (const [address, holders] of this.held)
      if (holders.has(event.node) && !found?.has(address))
        this.words.lost.push(`${told(event)}: ${address} was held before and is not found`);
  }

  private end(event: HistoryEvent, as: string): HistoryEvent | undefined {
    const operation = operationOf(event);
    const begun = this.begun.get(operation);
    this.begun.delete(operation);
    this.operations += 1;
    this.ends[as] = (this.ends[as] ?? 0) + 1;
    if (begun && event.time - begun.time > this.longest) this.longest = event.time - begun.time;
    return begun;
  }
}

function operationOf({ node, incarnation, operation }: HistoryEvent): string {
  return `${node}/${incarnation}/${operation}`;
}

function told({ time, node, incarnation, what, address, detail }: HistoryEvent): string {
  return `at ${(Number(time) / 1e9).toFixed(4)} ${node}/${incarnation} ${what} ${address} ${detail}`;
}
