import type { Output } from './command.js';

const GAP = '  ';
/** A column is not cut below this, nor below its title. */
const NARROWEST = 6;

export type Color = 'green' | 'red' | 'yellow' | 'dim';
const CODES: Readonly<Record<Color | 'bold', number>> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 };

/** A cell: its text, or that with a colour. */
export type Cell = string | { readonly text: string; readonly color: Color };

/**
 * Prints a table that fits the terminal: the widest columns are cut until it does. Without a terminal nothing is cut, and
 * there are no colours.
 */
export function printTable(
  { line, width, hasColors = false }: Pick<Output, 'line' | 'width' | 'hasColors'>,
  titles: readonly string[],
  rows: readonly (readonly Cell[])[],
): void {
  const texts = rows.map(row => row.map(cell => printableText(typeof cell === 'string' ? cell : cell.text)));
  const widths = fitted(
    titles.map((title, column) => Math.max(title.length, ...texts.map(row => row[column]?.length ?? 0))),
    titles,
    width,
  );
  const put = (cells: readonly string[], paint: (text: string, column: number) => string) =>
    line(
      cells
        .map((text, column) => {
          const room = widths[column] ?? 0;
          const cut = text.length > room ? `${text.slice(0, room - 1)}…` : text;
          const padding = column === cells.length - 1 ? '' : ' '.repeat(room - cut.length);
          return paint(cut, column) + padding;
        })
        .join(GAP)
        .trimEnd(),
    );
  put(titles, text => painted(text, 'bold', hasColors));
  rows.forEach((row, index) =>
    put(texts[index] ?? [], (text, column) => {
      const cell = row[column];
      return typeof cell === 'object' ? painted(text, cell.color, hasColors) : text;
    }),
  );
}

/** Text without what a terminal would obey: it may come from anybody who writes to etcd. */
export function printableText(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}

/** The same for lines as a terminal gets them: line ends and the colours of {@link printTable} stay. */
export function printableLines(text: string): string {
  const ours = /(\n|\x1b\[(?:0|1|2|31|32|33)m)|[\u0000-\u001f\u007f-\u009f]/g;
  return text.replaceAll(ours, (_all, kept?: string) => kept ?? '?');
}

function painted(text: string, color: Color | 'bold', hasColors: boolean): string {
  return hasColors && text !== '' ? `\x1b[${CODES[color]}m${text}\x1b[0m` : text;
}

function fitted(natural: readonly number[], titles: readonly string[], width: number | undefined): number[] {
  const widths = [...natural];
  if (width === undefined) return widths;
  const narrowest = (column: number) => Math.max(titles[column]?.length ?? 0, NARROWEST);
  let excess = widths.reduce((sum, one) => sum + one, 0) + GAP.length * (widths.length - 1) - width;
  while (excess > 0) {
    let widest = -1;
    widths.forEach((one, column) => {
      if (one > narrowest(column) && (widest < 0 || one > (widths[widest] ?? 0))) widest = column;
    });
    if (widest < 0) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
    excess -= 1;
  }
  return widths;
}
