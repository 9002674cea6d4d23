import { IPAM_OPTIONS } from './ipam-options.js';
import { NETWORK_OPTIONS } from './network-options.js';

/** The table of options of `docker network create` for `docs/reference.md`. */
export function optionsTable(): string {
  const rows = [
    ...IPAM_OPTIONS.map(({ name, help }) => `| \`--ipam-opt ${name}=\` | ${help} |`),
    ...NETWORK_OPTIONS.map(({ name, help }) => `| \`-o ${name}=\` | ${help} |`),
  ];
  return ['| option | what it says |', '| --- | --- |', ...rows].join('\n');
}
