import { createInterface } from 'node:readline';

/** What a {@link serveLines} program can be asked for. */
export type LineMethods = Readonly<Record<string, (...args: never[]) => unknown>>;

/** Answers `{id, method, args}` lines on standard input with `{id, value}` or `{id, error}` lines, until the input ends. */
export function serveLines(methods: LineMethods): void {
  createInterface({ input: process.stdin }).on('line', text => {
    const { id, method, args } = JSON.parse(text) as { id: number; method: string; args: never[] };
    const say = (reply: object): void => void process.stdout.write(`${JSON.stringify({ id, ...reply })}\n`);
    const call = methods[method];
    const answer = async (): Promise<unknown> => {
      if (call === undefined) throw new Error(`no ${method}`);
      return call(...args);
    };
    answer().then(
      value => say({ value }),
      (error: Error) => say({ error: error.stack ?? error.message }),
    );
  });
  process.stdin.on('end', () => process.exit());
}
