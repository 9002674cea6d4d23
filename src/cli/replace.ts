import { writing } from './write-resources.js';

/** `replace -f FILE`: see {@link writing}. */
export const run = writing('replace');
