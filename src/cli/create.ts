import { writing } from './write-resources.js';

/** `create -f FILE`: see {@link writing}. */
export const run = writing('create');
