import { inTime, withDeadline } from '../deadline.js';
import { DatastoreError, reason } from '../errors.js';

/** `problem`: something does not work, or soon will not. `warning`: it may not, or could not be looked at. */
export type Level = 'ok' | 'warning' | 'problem';

/** What a check found. */
export interface Verdict {
  readonly level: Level;
  /** A sentence without its dot. */
  readonly text: string;
  /** What to do about it; a sentence without its dot. */
  readonly remedy?: string;
}

export interface Finding extends Verdict {
  /** Name of the check. */
  readonly check: string;
}

/** Something that goes wrong in practice, and how to see it. */
export interface Check<Subject> {
  readonly name: string;
  /** One verdict for each thing that it looked at, at least one. What it throws is a warning: it could not look. */
  look(subject: Subject): Promise<readonly Verdict[]>;
}

/** Milliseconds for one check. All run at the same time, so it is also what everything takes. */
export const PATIENCE = 5_000;

export function ok(text: string): Verdict {
  return { level: 'ok', text };
}

export function warning(text: string, remedy: string): Verdict {
  return { level: 'warning', text, remedy };
}

export function problem(text: string, remedy: string): Verdict {
  return { level: 'problem', text, remedy };
}

/** Makes all checks at the same time; findings in the order of the checks. Takes at most {@link PATIENCE}, never throws. */
export async function examine<Subject>(
  checks: readonly Check<Subject>[],
  subject: Subject,
  patience = PATIENCE,
): Promise<readonly Finding[]> {
  const found = await Promise.all(
    checks.map(async ({ name, look }) => {
      const verdicts = await inTime(
        // What knows of deadlines gives up a moment before, and says what it waited for.
        withDeadline(patience * 0.9, () => look(subject)),
        patience,
        () => new Error(`no answer within ${patience / 1_000} s`),
      ).catch((error: unknown) => [couldNotLook(error)]);
      return verdicts.map(verdict => ({ check: name, ...verdict }));
    }),
  );
  return found.flat();
}

function couldNotLook(error: unknown): Verdict {
  if (error instanceof DatastoreError)
    return warning('could not look: the datastore does not answer', 'do what is said of etcd');
  return warning(`could not look: ${reason(error)}`, 'remove what keeps it from looking, and ask again');
}
