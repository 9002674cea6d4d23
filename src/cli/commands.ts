import type { Command } from './command.js';

/** Every command beside `serve`. */
export const COMMANDS: readonly Command[] = [
  // prettier-ignore
  { name: 'doctor', usage: '[-o json]', help: 'look for what goes wrong in practice, and say what to do about it', example: 'calico-libnetwork doctor', load: () => import('./doctor.js') },
  // prettier-ignore
  { name: 'ipam check', usage: '[--fix]', help: 'look for contradictions in the whole datastore, and repair what is safe', example: 'calico-libnetwork ipam check --fix', load: () => import('./ipam-check.js') },
  // prettier-ignore
  { name: 'node remove', usage: 'NAME [--dry-run]', help: 'free all that a dead host held', example: 'calico-libnetwork node remove worker-3', load: () => import('./node-remove.js') },
];
