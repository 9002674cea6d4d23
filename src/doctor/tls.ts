import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { reason } from '../errors.js';
import { ok, problem, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

const DAY = 86_400_000;
/** Days before its end from which a certificate is worth a word. */
const SOON = 14;
const RENEW = 'replace the file; the daemon reads it again with its next connection, without a restart';

/** The TLS files are there, are what they should be, and are valid for a while. */
export const tls: Check<Subject> = {
  name: 'TLS files',
  look: async ({ config }) => {
    const { etcdCaFile, etcdCertFile, etcdKeyFile, etcdEndpoints } = config;
    const files = { ca: etcdCaFile, cert: etcdCertFile, key: etcdKeyFile };
    const isHttps = etcdEndpoints?.some(endpoint => endpoint.startsWith('https:')) ?? false;
    return judgeTlsFiles(files, isHttps, Date.now());
  },
};

/** Paths of PEM files. */
export interface TlsPaths {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** Reads them. `now`: milliseconds since 1970. */
export function judgeTlsFiles({ ca, cert, key }: TlsPaths, isHttps: boolean, now: number): Verdict[] {
  const given = [ca, cert, key].filter(path => path !== undefined);
  if (given.length === 0)
    return [
      ok(isHttps ? "etcd's certificate is checked by the system's authorities" : 'no TLS files are set'),
    ];
  const found: Verdict[] = [];
  for (const path of [ca, cert]) if (path !== undefined) found.push(...judgeCertificates(path, now));
  if (key !== undefined) found.push(...judgeKey(key, cert));
  return found;
}

function judgeCertificates(path: string, now: number): Verdict[] {
  let all: X509Certificate[];
  try {
    all = certificatesIn(path);
  } catch (error) {
    return [unreadable(path, error)];
  }
  return all.map(certificate => {
    const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
    const days = Math.floor((to - now) / DAY);
    const subject = certificate.subject?.replaceAll('\n', ', ') ?? 'without a name';
    const what = `the certificate in ${path} (${subject})`;
    if (to < now) return problem(`${what} expired on ${certificate.validTo}`, RENEW);
    if (from > now)
      return problem(
        `${what} is valid from ${certificate.validFrom} on`,
        "look at this host's clock, else wait",
      );
    if (days < SOON) return warning(`${what} expires in ${days} days`, RENEW);
    return ok(`${what} is valid for ${days} days`);
  });
}

function judgeKey(path: string, cert: string | undefined): Verdict[] {
  let key: KeyObject;
  try {
    key = createPrivateKey(readFileSync(path));
  } catch (error) {
    return [unreadable(path, error)];
  }
  if (cert !== undefined && !fits(cert, key))
    return [
      problem(`the key in ${path} is not that of ${cert}`, 'set ETCD_CERT_FILE and ETCD_KEY_FILE to a pair'),
    ];
  if ((statSync(path).mode & 0o077) !== 0)
    return [warning(`others than root may read the key in ${path}`, `chmod 600 ${path}`)];
  return [ok(`the key in ${path} is right`)];
}

/** True also where the certificate cannot be read: that is said already. */
function fits(cert: string, key: KeyObject): boolean {
  try {
    return certificatesIn(cert)[0]?.checkPrivateKey(key) ?? true;
  } catch {
    return true;
  }
}

function certificatesIn(path: string): X509Certificate[] {
  const blocks =
    readFileSync(path, 'utf8').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new Error('it holds no certificate');
  return blocks.map(block => new X509Certificate(block));
}

function unreadable(path: string, error: unknown): Verdict {
  return problem(
    `${path} cannot be used: ${reason(error)}`,
    'put a PEM file there, or correct the ETCD_…_FILE setting',
  );
}
