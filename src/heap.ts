import { setFlagsFromString } from 'node:v8';

/** What the daemon is started with, see the first line of `main.ts`: a full collection each time it grew by so much. */
const FLAG = '--heap-growing-percent=';

/**
 * Lets the heap grow in large steps from now on, for something that makes much of it that stays: with small ones it would
 * be collected over and over, in vain. Where node runs without that flag nothing is done.
 *
 * @returns a function that ends it
 */
export function growHeapFreely(): () => void {
  const usual = process.execArgv.findLast(argument => argument.startsWith(FLAG));
  if (usual === undefined) return () => undefined;
  setFlagsFromString(`${FLAG}40`);
  return () => setFlagsFromString(usual);
}
