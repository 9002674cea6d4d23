import { removeLeftovers } from './leftovers.js';

/** Run by vitest before and after all tests, also after Ctrl-C. */
export async function setup(): Promise<() => Promise<void>> {
  await removeLeftovers();
  return removeLeftovers;
}
