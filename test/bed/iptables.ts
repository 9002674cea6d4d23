import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

/** Which of Debian's two iptables a host has. */
export type IptablesKind = 'nft' | 'legacy';

const NAMES = ['iptables', 'ip6tables'].flatMap(name => [name, `${name}-save`, `${name}-restore`]);

/** A folder with iptables of one kind, to be put early in PATH: the machine's own choice does not matter then. */
export function iptablesFolder(kind: IptablesKind, bed: string): string {
  const folder = join(bed, `iptables-${kind}`);
  const program = `/usr/sbin/xtables-${kind}-multi`;
  if (!existsSync(program)) throw new Error(`no ${program}: apt-get install iptables`);
  mkdirSync(folder);
  for (const name of NAMES) symlinkSync(program, join(folder, name));
  return folder;
}
