import { statfsSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root; hosts of a bed see it under the same path. */
export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));

/** Engines are unpacked here once and kept: they are some hundred megabytes of somebody else's archive. */
export const ENGINE_CACHE = join(
  process.env['CALICO_LIBNETWORK_TEST_CACHE'] ?? join(homedir(), '.cache/calico-libnetwork'),
  'engines',
);

/** File systems that cannot be the upper layer of an overlay, so no place for /var/lib/docker. */
const NO_OVERLAY_ON = new Set([0x794c7630, 0x01021994]);

/** All beds of this machine, one folder each. */
export const BEDS = join(
  [tmpdir(), '/var/tmp', '/var/lib'].find(canHoldDocker) ?? tmpdir(),
  'calico-libnetwork-bed',
);

function canHoldDocker(folder: string): boolean {
  try {
    return !NO_OVERLAY_ON.has(statfsSync(folder).type);
  } catch {
    return false;
  }
}
