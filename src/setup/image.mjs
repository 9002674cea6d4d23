/** A busybox image out of Debian's static busybox, for machines that can pull none. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findCommand, run } from './command.mjs';

/** The name it is imported by, as users type it. */
export const IMAGE = 'busybox:latest';

/** Arguments of `docker` that read the tar from standard input. */
export const IMPORT_ARGUMENTS = ['import', '--change', 'CMD ["sh"]', '-', IMAGE];

/**
 * The image's root file system as a tar: busybox under all of its names, and the folders a container expects.
 * @returns {Promise<Buffer>}
 */
export async function busyboxTar() {
  const busybox = findCommand('busybox');
  if (busybox === undefined) throw new Error('no busybox on this machine: apt-get install busybox-static');
  const root = mkdtempSync(join(tmpdir(), 'busybox-image-'));
  try {
    for (const folder of ['bin', 'tmp', 'root', 'etc', 'proc', 'sys', 'dev', 'var', 'www'])
      mkdirSync(join(root, folder));
    copyFileSync(busybox, join(root, 'bin/busybox'));
    const { stdout } = await run([busybox, '--list']);
    for (const applet of stdout.split('\n').filter(name => name !== '' && name !== 'busybox'))
      symlinkSync('busybox', join(root, 'bin', applet));
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
    return await tarOf(root);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/**
 * @param {string} folder
 * @returns {Promise<Buffer>}
 */
function tarOf(folder) {
  return new Promise((resolve, reject) => {
    const child = spawn('tar', ['--create', '--owner=0', '--group=0', '--directory', folder, '.'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const chunks = /** @type {Buffer[]} */ ([]);
    child.stdout.on('data', chunk => chunks.push(chunk));
    child.on('error', reject);
    child.on('close', code =>
      code === 0 ? resolve(Buffer.concat(chunks)) : reject(new Error(`tar: status ${code}`)),
    );
  });
}
