import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** PEM files of one certificate. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
}

/** A new authority of its own; `name` names its files. */
export function makeAuthority(directory: string, name: string): Certificate {
  const files = filesOf(directory, name);
  // prettier-ignore
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', `/CN=${name}`, '-keyout', files.keyFile, '-out', files.certFile);
  return files;
}

/** A certificate for 127.0.0.1, good for servers and clients. Replaces the files of an earlier one of that name. */
export function issue(directory: string, name: string, authority: Certificate): Certificate {
  const files = filesOf(directory, name);
  const [request, extensions] = [join(directory, `${name}.csr`), join(directory, `${name}.ext`)];
  writeFileSync(
    extensions,
    'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n',
  );
  // prettier-ignore
  openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
    '-subj', `/CN=${name}`, '-keyout', files.keyFile, '-out', request);
  // prettier-ignore
  openssl('x509', '-req', '-in', request, '-CA', authority.certFile, '-CAkey', authority.keyFile, '-CAcreateserial',
    '-days', '1', '-extfile', extensions, '-out', files.certFile);
  return files;
}

function filesOf(directory: string, name: string): Certificate {
  return { certFile: join(directory, `${name}.pem`), keyFile: join(directory, `${name}.key`) };
}

function openssl(...words: string[]): void {
  execFileSync('openssl', words, { stdio: ['ignore', 'ignore', 'pipe'] });
}
