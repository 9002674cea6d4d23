import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.js';
import { CHECKS } from '../../src/doctor/checks.js';
import { examine } from '../../src/doctor/finding.js';
import type { Finding } from '../../src/doctor/finding.js';
import { withSubject } from '../../src/doctor/subject.js';
import { judgeTlsFiles } from '../../src/doctor/tls.js';
import { issue, makeAuthority } from './certificates.js';
import type { Certificate } from './certificates.js';
import { freePorts, startEtcd } from './etcd-process.js';
import type { EtcdProcess } from './etcd-process.js';

/** Those that look at etcd and Docker, each a real or a pretended one: the host itself is another test's. */
const LOOKED_AT = ['docker', 'etcd', 'clock', 'TLS files', 'node name', 'pools', 'profiles'];
const SECRET = 'correct horse battery';

const folder = mkdtempSync(join(tmpdir(), 'calico-doctor-'));
const servers: Server[] = [];
let ca: Certificate;
let foreign: Certificate;
let client: Certificate;
let etcd: EtcdProcess;
let tls: Record<string, string>;

beforeAll(async () => {
  ca = makeAuthority(folder, 'ca');
  foreign = makeAuthority(folder, 'foreign');
  const server = issue(folder, 'server', ca);
  client = issue(folder, 'client', ca);
  chmodSync(client.keyFile, 0o600);
  const { certFile, keyFile } = client;
  const flags = ['--cert-file', server.certFile, '--key-file', server.keyFile];
  const clients = ['--client-cert-auth', '--trusted-ca-file', ca.certFile];
  etcd = await startEtcd('https', [...flags, ...clients], { caFile: ca.certFile, certFile, keyFile });
  tls = {
    ETCD_ENDPOINTS: etcd.endpoint,
    ETCD_CA_CERT_FILE: ca.certFile,
    ETCD_CERT_FILE: certFile,
    ETCD_KEY_FILE: keyFile,
  };
});
afterAll(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise(resolve => server.close(resolve));
  }
  await etcd?.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** What is found, as `level check: text`. */
async function look(env: Record<string, string>): Promise<string[]> {
  const checks = CHECKS.filter(({ name }) => LOOKED_AT.includes(name));
  const started = Date.now();
  const config = loadConfig({ NODENAME: 'doctor', DOCKER_HOST: 'unix:///nonexistent', ...env });
  const found: readonly Finding[] = await withSubject(config, '0', subject => examine(checks, subject));
  expect(Date.now() - started).toBeLessThan(8_000);
  return found.map(({ level, check, text }) => `${level} ${check}: ${text}`);
}

/** An HTTP server that answers everything so; its address. */
async function serving(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer(answer);
  servers.push(server);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

// Most of it is waiting for what does not answer.
describe.concurrent('etcd with TLS', () => {
  it('is well', async () => {
    const found = await look(tls);
    expect(found).toContainEqual(expect.stringMatching(/^ok etcd: etcd answers within/));
    expect(found).toContainEqual(expect.stringMatching(/^ok etcd: etcd 3\.\d+\.\d+ at https:.* is healthy/));
    expect(found).toContainEqual(expect.stringMatching(/^ok clock: /));
    expect(found).toContainEqual(expect.stringMatching(/^ok TLS files: the key in .*client\.key is right/));
    // No daemon was ever here.
    expect(found).toContainEqual('warning node name: there is no Node doctor in the datastore');
    expect(found).toContainEqual('warning pools: there is no IPPool: networks without --subnet fail');
  });

  it('is not trusted where another authority is set, and says so', async () => {
    const found = await look({ ...tls, ETCD_CA_CERT_FILE: foreign.certFile });
    expect(found).toContainEqual(expect.stringMatching(/^problem etcd: the datastore is unreachable/));
    expect(found).toContainEqual(expect.stringMatching(/^problem etcd: the etcd member .* unable to verify/));
    expect(found).toContainEqual('warning pools: could not look: the datastore does not answer');
  });

  it('lets nobody in who has no certificate', async () => {
    const found = await look({ ETCD_ENDPOINTS: etcd.endpoint, ETCD_CA_CERT_FILE: ca.certFile });
    expect(found.filter(line => line.startsWith('problem etcd: '))).toHaveLength(2);
  });
});

describe.concurrent('etcd', () => {
  it('that is not there, in part or at all, is named', async () => {
    const [port] = await freePorts(1);
    const nowhere = `http://127.0.0.1:${port}`;
    const found = await look({ ETCD_ENDPOINTS: nowhere });
    expect(found).toContainEqual(expect.stringMatching(/^problem etcd: the datastore is unreachable/));
    expect(found).toContainEqual(expect.stringMatching(/^problem etcd: the etcd member .* ECONNREFUSED/));
    const half = await look({ ...tls, ETCD_ENDPOINTS: `${etcd.endpoint},https://127.0.0.1:${port}` });
    expect(half).toContainEqual(expect.stringMatching(/^ok etcd: etcd answers/));
    expect(half).toContainEqual(expect.stringMatching(/^problem etcd: the etcd member .* ECONNREFUSED/));
  });

  it('with users refuses a wrong password, which is not repeated', async () => {
    const own = await startEtcd('http', ['--bcrypt-cost', '4']);
    try {
      own.control('user', 'add', `root:${SECRET}`);
      own.control('user', 'grant-role', 'root', 'root');
      own.control('auth', 'enable');
      const user = { ETCD_ENDPOINTS: own.endpoint, ETCD_USERNAME: 'root' };
      const found = await look({ ...user, ETCD_PASSWORD: `not ${SECRET}` });
      expect(found).toContainEqual(expect.stringMatching(/^problem etcd: .*(auth|password)/));
      expect(found.join()).not.toContain(SECRET);
      expect(await look({ ...user, ETCD_PASSWORD: SECRET })).toContainEqual(
        expect.stringMatching(/^ok etcd: etcd answers/),
      );
    } finally {
      await own.remove();
    }
  });

  it('that is too old, full, and with a clock of its own', async () => {
    const address = await serving((request, response) => {
      response.setHeader('Date', new Date(Date.now() - 3_600_000).toUTCString());
      if (request.url === '/version') response.end('{"etcdserver":"3.2.26","etcdcluster":"3.2.0"}');
      else response.end('{"health":"true"}');
    });
    const full = await serving((request, response) => {
      if (request.url === '/version') response.end('{"etcdserver":"3.5.9","etcdcluster":"3.5.0"}');
      else response.writeHead(503).end('{"health":"false","reason":"ALARM NOSPACE"}');
    });
    const found = await look({ ETCD_ENDPOINTS: `http://${address},http://${full}` });
    expect(found).toContainEqual(`problem etcd: etcd 3.2.26 at http://${address} is too old`);
    expect(found).toContainEqual(
      `problem etcd: the etcd member http://${full} is not healthy: ALARM NOSPACE`,
    );
    expect(found).toContainEqual(
      expect.stringMatching(/^warning clock: this host's clock is 3(59|60)\d s ahead of/),
    );
  });

  it('that swallows everything costs five seconds', async () => {
    const address = await serving(() => undefined);
    const found = await look({ ETCD_ENDPOINTS: `http://${address}`, DOCKER_HOST: `tcp://${address}` });
    expect(found).toContainEqual(expect.stringMatching(/^problem etcd: .* no answer within 3 s/));
    expect(found).toContainEqual(expect.stringMatching(/^problem docker: Docker does not answer/));
  });
});

it('a Docker of long ago is too old, one of today is not', async () => {
  const docker = (version: string) =>
    serving((request, response) =>
      response.end(request.url === '/version' ? JSON.stringify({ Version: version }) : '[]'),
    );
  const [old, young] = [await docker('18.09.1'), await docker('28.5.1')];
  expect(await look({ ...tls, DOCKER_HOST: `tcp://${old}` })).toContain(
    'problem docker: Docker 18.09.1 is too old',
  );
  expect(await look({ ...tls, DOCKER_HOST: `tcp://${young}` })).toContainEqual(
    expect.stringMatching(/^ok docker: Docker 28\.5\.1 answers/),
  );
});

describe('TLS files', () => {
  const DAY = 86_400_000;
  const texts = (paths: Parameters<typeof judgeTlsFiles>[0], now = Date.now()) =>
    judgeTlsFiles(paths, true, now).map(({ level, text }) => `${level} ${text}`);

  it('that expire, have expired, or are not valid yet', () => {
    // Issued for a day.
    const cert = client.certFile;
    expect(texts({ cert })).toEqual([
      expect.stringMatching(/^warning .*client\.pem \(CN=client\) expires in 0 days/),
    ]);
    expect(texts({ cert }, Date.now() + 2 * DAY)).toEqual([expect.stringMatching(/^problem .* expired on /)]);
    expect(texts({ cert }, Date.now() - 2 * DAY)).toEqual([
      expect.stringMatching(/^problem .* is valid from /),
    ]);
  });

  it('that are missing, are none, or do not belong together', () => {
    const nonsense = join(folder, 'nonsense.pem');
    writeFileSync(nonsense, 'no certificate');
    expect(texts({ ca: join(folder, 'missing.pem') })).toEqual([expect.stringMatching(/^problem .* ENOENT/)]);
    expect(texts({ ca: nonsense })).toEqual([expect.stringMatching(/^problem .* it holds no certificate/)]);
    expect(texts({ key: nonsense })).toEqual([expect.stringMatching(/^problem .* cannot be used/)]);
    expect(texts({ cert: client.certFile, key: ca.keyFile })).toContainEqual(
      expect.stringMatching(/^problem the key in .*ca\.key is not that of/),
    );
  });

  it('whose key others may read', () => {
    const { certFile: cert, keyFile: key } = issue(folder, 'open', ca);
    chmodSync(key, 0o644);
    expect(texts({ cert, key }).at(-1)).toMatch(/^warning others than root may read/);
    chmodSync(key, 0o600);
    expect(texts({ cert, key }).at(-1)).toMatch(/^ok /);
    expect(texts({})).toEqual(["ok etcd's certificate is checked by the system's authorities"]);
  });
});
