/** The environment a command gets its settings from. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a command writes. */
export interface Output {
  /** Columns of the terminal that standard output is; undefined where it is none. */
  readonly width?: number | undefined;
  /** Standard output takes colours. */
  readonly hasColors?: boolean;
  /** A line of the result, on standard output. */
  line(text: string): void;
  /** A line for the person who waits, on standard error. */
  error(text: string): void;
  /** Shows how far it is, in one line of standard error that is written over; undefined wipes it. Does nothing where
   *  standard error is no terminal. */
  progress(text: string | undefined): void;
}

/** Runs a command with what follows its name; the result is the exit status. Throws {@link UsageError}, ConfigError,
 *  DatastoreError and whatever else stops it; `run-command.ts` turns these into a line and an exit status. */
export type Run = (args: readonly string[], env: Environment, out: Output) => Promise<number>;

/** A command as `--help` shows it. Its code is loaded only to run it. */
export interface Command {
  /** The words it begins with: `ipam check`. */
  readonly name: string;
  /** The heading it is under in `--help`. */
  readonly group?: string;
  /** What may follow the name. */
  readonly usage: string;
  readonly help: string;
  readonly example: string;
  load(): Promise<{ readonly run: Run }>;
}

/** The command was not called as its usage says. */
export class UsageError extends Error {}

/** A file that was given cannot be used as it is; nothing was done. */
export class InvalidInputError extends Error {}
