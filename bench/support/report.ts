/** Figures and how they are printed. */

/** Nearest-rank percentile, `share` from 0 to 1. NaN of nothing. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** Prints a line. */
export function say(line = ''): void {
  process.stdout.write(`${line}\n`);
}

/** Prints rows in columns; the first row is the heading, the first column is text. */
export function table(rows: readonly (readonly string[])[]): void {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => (row[column] ?? '').length)));
  for (const row of rows)
    say(
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    );
}

/** Prints a figure beside its aim. A miss is said and nothing more: machines differ, the reader decides. */
export function aim(
  what: string,
  value: number,
  relation: '<=' | '>=' | '<',
  limit: number,
  unit = '',
): void {
  const met = relation === '>=' ? value >= limit : relation === '<' ? value < limit : value <= limit;
  const shown = `${round(value)}${unit}`.padStart(10);
  say(`${what.padEnd(64)}${shown}   aim ${relation} ${limit}${unit}`.padEnd(94) + (met ? 'ok' : 'MISSED'));
}

/** Three significant digits, without an exponent. */
export function round(value: number): string {
  if (!Number.isFinite(value)) return '-';
  return value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(Math.max(Math.abs(value), 0.01)))));
}
