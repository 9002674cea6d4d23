import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LabelGate } from '../../src/agent/label-gate.js';

describe('an endpoint whose container is not known', () => {
  let opened: string[];
  let lines: string[];
  let gate: LabelGate;

  beforeEach(() => {
    vi.useFakeTimers();
    [opened, lines] = [[], []];
    const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) });
    gate = new LabelGate({ opened: id => void opened.push(id), exists: id => id !== 'gone' }, log);
    for (const id of ['e1', 'gone']) gate.close(id);
  });
  afterEach(() => {
    gate.stop();
    vi.useRealTimers();
  });

  it('opens where Docker says nothing for two seconds', () => {
    vi.advanceTimersByTime(1_999);
    expect(gate.isOpen('e1')).toBe(false);
    vi.advanceTimersByTime(1);
    expect(opened).toEqual(['e1']);
    expect(lines).toEqual([expect.stringMatching(/Docker has not told within 2 s whose it is/)]);
    expect(gate.isAwaited()).toBe(false);
  });

  it('stays closed while labels that Docker told are being written, however long that takes', () => {
    gate.read('e1');
    vi.advanceTimersByTime(9_000);
    expect([gate.isOpen('e1'), opened, lines]).toEqual([false, [], []]);
    gate.known('e1');
    expect(opened).toEqual(['e1']);
    vi.advanceTimersByTime(60_000);
    expect([opened, lines]).toEqual([['e1'], []]);
  });

  it('opens where they cannot be written, and the log says why', () => {
    gate.read('e1');
    gate.failed('e1', 'etcd is away');
    expect(opened).toEqual(['e1']);
    expect(lines).toEqual([expect.stringMatching(/cannot be written to the datastore \(etcd is away\)/)]);
    gate.failed('e1', 'once more');
    expect(lines).toHaveLength(1);
  });

  it('does not stay closed for good where the write never ends', () => {
    gate.read('e1');
    vi.advanceTimersByTime(15_000);
    expect(opened).toEqual(['e1']);
    expect(lines).toEqual([expect.stringMatching(/not in the datastore after 15 s/)]);
  });
});
