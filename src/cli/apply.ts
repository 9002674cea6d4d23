import { writing } from './write-resources.js';

/** `apply -f FILE`: see {@link writing}. */
export const run = writing('apply');
