import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { HostError, reason } from '../errors.js';

/**
 * This host's random id, in `<stateDir>/host-id`; made at the first call, for root's eyes only. A copy of a host that
 * is to live beside it must not have the file.
 *
 * @throws HostError where the directory cannot be written
 */
export function hostId(stateDir: string): string {
  const file = join(stateDir, 'host-id');
  const known = read(file);
  if (known !== undefined) return known;
  const id = randomUUID();
  try {
    write(stateDir, file, id);
  } catch (error) {
    throw new HostError(
      `cannot write this host's id to ${file} (${reason(error)}): set CALICO_LIBNETWORK_STATE_DIR to a directory that lasts`,
      { cause: error },
    );
  }
  return id;
}

function write(stateDir: string, file: string, id: string): void {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const draft = openSync(`${file}.new`, 'w', 0o600);
  try {
    writeSync(draft, `${id}\n`);
    // After a power cut, an empty file would make this host a stranger to itself.
    fsyncSync(draft);
  } finally {
    closeSync(draft);
  }
  renameSync(`${file}.new`, file);
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}
