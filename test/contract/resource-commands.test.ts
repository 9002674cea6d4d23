import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { createEtcdStore } from '../../src/datastore/etcd.js';
import { resourceKey } from '../../src/datastore/keys.js';
import type { Store } from '../../src/datastore/store.js';
import { command, commandHere } from './command-line.js';
import { freePorts, quiet, startEtcd } from './etcd-process.js';
import type { EtcdProcess } from './etcd-process.js';

// Some commands are processes, and the machine may be busy.
vi.setConfig({ testTimeout: 120_000 });

let etcd: EtcdProcess;
let store: Store;
let directory: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'calico-commands-'));
  etcd = await startEtcd();
  store = createEtcdStore({ endpoints: [etcd.endpoint] }, quiet);
});
afterAll(async () => {
  await store.close();
  await etcd.remove();
  rmSync(directory, { recursive: true, force: true });
});
beforeEach(() => {
  etcd.control('del', '', '--from-key');
});

/** As a process of its own where it reads standard input. */
const run = (words: string, input?: string) =>
  input === undefined
    ? commandHere(words.split(' '), { ETCD_ENDPOINTS: etcd.endpoint })
    : command(words.split(' '), { ETCD_ENDPOINTS: etcd.endpoint }, input);
const everything = async () => (await store.list('/')).entries.map(({ key, value }) => `${key} ${value}`);

/** A file of that text; its path. */
function file(name: string, content: string | Buffer): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

const POOL = (name: string, cidr: string) =>
  `apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: ${name}\nspec:\n  cidr: ${cidr}\n`;
const POLICIES = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: allow-web}
spec:
  order: 10
  selector: role == 'web'
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [80, 443]}}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: elsewhere, namespace: other}
spec: {selector: all()}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: office, labels: {place: office}}
spec: {nets: [198.51.100.0/24]}
`;

test('apply, get, replace and delete, from files and from standard input', async () => {
  const pools = file('pools.yaml', `${POOL('one', '10.1.0.0/16')}---\n${POOL('two', '10.2.0.0/16')}`);
  expect(await run(`apply -f ${pools} -f -`, POLICIES)).toEqual({
    status: 0,
    out: [
      ...['IPPool one created', 'IPPool two created', 'NetworkPolicy libnetwork/allow-web created'],
      ...['NetworkPolicy other/elsewhere created', 'GlobalNetworkSet office created', ''],
    ].join('\n'),
    err: "note: standard input:13: metadata.namespace: a policy of namespace other selects no container of Docker's: these are in libnetwork\n",
  });
  const before = await everything();
  expect((await run('get ipp')).out).toBe(
    'NAME  CIDR         DISABLED  SELECTOR\none   10.1.0.0/16  false     all()\ntwo   10.2.0.0/16  false     all()\n',
  );
  expect((await run('get NetworkPolicies -a')).out).toBe(
    "NAMESPACE   NAME       TIER     ORDER  SELECTOR\nlibnetwork  allow-web  default  10     role == 'web'\nother       elsewhere  default         all()\n",
  );
  expect((await run('get np -n other -o wide')).out).toMatch(
    /^other +elsewhere +default +all\(\) +Ingress$/m,
  );
  // Back again as it is: nothing changes.
  const printed = (await run('get ipp -o yaml')).out;
  expect(await run('apply -f -', printed)).toMatchObject({
    status: 0,
    out: 'IPPool one unchanged\nIPPool two unchanged\n',
  });
  const policy = (await run('get policy allow-web -o json')).out;
  expect((await run('replace -f -', policy)).out).toBe('NetworkPolicy libnetwork/allow-web unchanged\n');
  expect(await everything()).toEqual(before);
  // Two who edit the same: the second is told.
  const edited = policy.replace('"order": 10', '"order": 20');
  expect((await run('replace -f -', edited)).status).toBe(0);
  const second = await run('replace -f -', policy.replace('"order": 10', '"order": 30'));
  expect(second.status).toBe(1);
  expect(second.err).toMatch(/standard input:\d+: metadata\.resourceVersion: somebody has changed it since/);
  expect((await run('get -f - -o json', policy)).out).toContain('"order": 20');
  expect(await run(`delete -f ${pools}`)).toMatchObject({
    status: 0,
    out: 'IPPool one deleted\nIPPool two deleted\n',
  });
  expect(await run('delete pol allow-web nothing')).toMatchObject({ status: 1, out: '' });
  expect(await run('delete pol allow-web nothing --skip-not-exists')).toMatchObject({
    status: 0,
    out: 'NetworkPolicy allow-web deleted\nNetworkPolicy nothing was not there\n',
  });
  expect((await run('get np -A -o=json')).out).toContain('"elsewhere"');
  expect(await run('get ippool one')).toEqual({
    ...{ status: 1, out: '', err: 'calico-libnetwork: IPPool one does not exist\n' },
  });
});

test('one bad document, and nothing of the file is written', async () => {
  const bad = file(
    'bad.yaml',
    `${POOL('one', '10.1.0.0/16')}---\n${POOL('two', '10.1.0.1/24')}  natOutgoin: true\n`,
  );
  expect(await run(`apply -f ${bad}`)).toEqual({
    ...{ status: 2, out: '' },
    err: [
      'calico-libnetwork: nothing was written:',
      `${bad}:13: spec.cidr: 10.1.0.1/24 has bits set right of its prefix length: write 10.1.0.0/24`,
      `${bad}:14: spec.natOutgoin: unknown field: there is cidr, blockSize, ipipMode, vxlanMode, natOutgoing, disabled, disableBGPExport, nodeSelector, namespaceSelector, allowedUses and assignmentMode`,
      '',
    ].join('\n'),
  });
  expect(await everything()).toEqual([]);
});

test('several at once: of overlapping pools one comes, of the same name one', async () => {
  const overlapping = ['10.1.0.0/16', '10.1.4.0/24', '10.1.8.0/24', '10.0.0.0/8'].map((cidr, n) =>
    POOL(`p${n}`, cidr),
  );
  const results = await Promise.all(overlapping.map(pool => run('create -f -', pool)));
  const made = results.filter(({ status }) => status === 0).length;
  // 10.1.4.0/24 and 10.1.8.0/24 do not overlap.
  expect([1, 2]).toContain(made);
  const { out } = await run('get pools');
  expect(out.trim().split('\n')).toHaveLength(made + 1);
  for (const { status, err } of results) if (status !== 0) expect(err).toMatch(/overlaps IPPool p\d/);
  const same = await Promise.all(['a', 'b', 'c'].map(() => run('create -f -', POLICIES)));
  expect(same.filter(({ status }) => status === 0)).toHaveLength(1);
});

describe('what cannot be read', () => {
  test.each<[string, string, Buffer | string, RegExp]>([
    [
      'more than a megabyte',
      'large',
      Buffer.alloc(1_048_577, 'a'),
      /large cannot be read: it has more than 1 MB/,
    ],
    ['no UTF-8', 'bytes', Buffer.from([0x61, 0xff, 0xfe]), /bytes cannot be read: it is not UTF-8 text/],
    ['no YAML', 'text', 'a: [', /text:\d+: this is no YAML/],
    ['an empty file', 'empty', '# nothing\n', /there is no resource in /],
  ])('%s', async (_name, name, content, message) => {
    const { status, out, err } = await run(`apply -f ${file(name, content)}`);
    expect({ status, out }).toEqual({ status: 2, out: '' });
    expect(err).toMatch(message);
  });

  test('no file, nothing named', async () => {
    expect(await run(`apply -f ${directory}/none`)).toMatchObject({
      status: 2,
      err: expect.stringMatching(/none cannot be read: there is no such file$/m),
    });
    expect(await run('apply -f -', '')).toMatchObject({
      ...{ status: 2, err: 'calico-libnetwork: there is no resource in standard input\n' },
    });
    expect(await run('apply')).toMatchObject({ status: 2, err: expect.stringMatching(/-f FILE is missing/) });
  });
});

test('a folder: its YAML and JSON, checked together', async () => {
  const folder = mkdtempSync(join(directory, 'pools-'));
  expect(await run(`apply -f ${folder}`)).toMatchObject({
    status: 2,
    err: expect.stringMatching(/there is no resource in .*pools-/),
  });
  writeFileSync(join(folder, 'b.yml'), POOL('two', '10.2.0.0/16'));
  writeFileSync(join(folder, 'a.yaml'), POOL('one', '10.1.0.0/16'));
  writeFileSync(join(folder, 'notes.txt'), 'no resource');
  expect(await run(`apply -f ${folder}`)).toMatchObject({
    ...{ status: 0, out: 'IPPool one created\nIPPool two created\n' },
  });
  writeFileSync(join(folder, 'c.json'), '{"kind": "IPPool"}');
  expect(await run(`create --skip-exists -f ${folder}`)).toMatchObject({
    status: 2,
    err: expect.stringMatching(/c\.json:1: /),
  });
});

test('refused by what is stored: status 1; not a valid file: status 2', async () => {
  const pool = file('one.yaml', POOL('one', '10.1.0.0/16'));
  expect(await run(`replace -f ${pool}`)).toMatchObject({ status: 1, out: '' });
  expect(await run(`apply -f ${pool}`)).toMatchObject({ status: 0 });
  expect(await run(`create -f ${pool}`)).toMatchObject({
    status: 1,
    err: expect.stringMatching(/nothing was written:\n.*one\.yaml:1: IPPool one exists already/),
  });
  const many = await run(`apply -f ${file('many.yaml', '---\nkind: x\n'.repeat(1000))}`);
  expect(many.err.trimEnd().split('\n')).toHaveLength(102);
  expect(many).toMatchObject({ status: 2, err: expect.stringMatching(/^and 1900 mistakes more$/m) });
  const bad = file('bad.yaml', `${POOL('one', '10.1.0.0/16')}---\n${POOL('two', '10.2.0.1/16')}`);
  expect(await run(`create -f ${bad}`)).toMatchObject({ status: 2, out: '' });
});

test('etcd away: status 3; no password is ever printed', async () => {
  const [port] = await freePorts(1);
  const env = {
    ETCD_ENDPOINTS: `http://127.0.0.1:${port}`,
    ETCD_USERNAME: 'root',
    ETCD_PASSWORD: 'hunter2-and-more',
  };
  const { status, out, err } = await command(['get', 'pools'], env);
  expect({ status, out }).toEqual({ status: 3, out: '' });
  expect(err).toMatch(/etcd/);
  expect(err).not.toContain('hunter2');
});

test('a TLS file that is not there is named with its setting', async () => {
  const env = { ETCD_ENDPOINTS: 'https://127.0.0.1:1', ETCD_CA_CERT_FILE: `${directory}/no-ca.pem` };
  const { status, err } = await command(['get', 'pools'], env);
  expect(status).toBe(3);
  expect(err).toContain('ETCD_CA_CERT_FILE cannot be read: ENOENT');
});

test.each([
  ['version', 0, /^\d+\.\d+\.\d+\n$/],
  ['-h', 0, /^The daemon$/m],
  ['serve --help', 0, /^The daemon$/m],
  ['help get', 0, /^usage: calico-libnetwork get /],
  ['ipam --help', 0, /^ {2}calico-libnetwork ipam show /m],
  ['ipam', 2, /^"ipam" is the beginning of a command\n/],
  ['nothing', 2, /^there is no command "nothing"\n/],
])('calico-libnetwork %s', async (words, status, text) => {
  const ran = await command(words.split(' '), {});
  expect(ran.status).toBe(status);
  expect(status === 0 ? ran.out : ran.err).toMatch(text);
});

test('a reader that goes away changes no exit status', () => {
  const bad = file('unknown.yaml', 'kind: x\n');
  const script = `"$0" dist/main.js apply -f ${bad} 2>&1 >/dev/null | true; echo "$PIPESTATUS"`;
  const { stdout } = spawnSync('bash', ['-c', script, process.execPath], {
    env: { PATH: process.env['PATH'], ETCD_ENDPOINTS: etcd.endpoint },
    encoding: 'utf8',
  });
  expect(stdout).toBe('2\n');
});

test('control characters in names from etcd do not reach the terminal', async () => {
  const name = 'evil\u001b[2J';
  const value = JSON.stringify({ kind: 'Profile', metadata: { name }, spec: {} });
  await store.transact({ compare: [], then: [{ put: resourceKey('profiles', name), value }] });
  expect((await run('get profiles')).out).toBe('NAME      LABELS\nevil?[2J\n');
  // Lines and errors are cleaned where a process writes them.
  const junk = [{ put: resourceKey('ippools', name), value: 'no JSON' }];
  await store.transact({ compare: [], then: junk });
  const check = await command(['ipam', 'check'], { ETCD_ENDPOINTS: etcd.endpoint });
  expect(check).toMatchObject({ status: 1, out: expect.stringContaining('evil?[2J') });
  const get = await command(['get', 'ippool', name], { ETCD_ENDPOINTS: etcd.endpoint });
  expect(get).toMatchObject({ status: 1, err: expect.stringContaining('IPPool evil?[2J cannot be read') });
});

test('a real terminal gets colours and a table of its width; a pipe neither', () => {
  const program = `import { terminalOutput } from ${JSON.stringify(new URL('../../dist/cli/terminal.js', import.meta.url).href)};
import { printTable } from ${JSON.stringify(new URL('../../dist/cli/table.js', import.meta.url).href)};
printTable(terminalOutput(process.env), ['A', 'B'], [['x'.repeat(100), 'y']]);`;
  const node = [process.execPath, '--input-type=module', '-e', program];
  const quoted = node.map(word => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const inTerminal = (env: object) =>
    spawnSync('script', ['-qec', `stty cols 30; ${quoted}`, '/dev/null'], { encoding: 'utf8', env: { ...process.env, TERM: 'xterm', ...env } }).stdout; // prettier-ignore
  const colored = inTerminal({});
  expect(colored).toContain('\u001b[1mA\u001b[0m');
  expect(colored).toContain(`${'x'.repeat(21)}…`);
  expect(inTerminal({ NO_COLOR: '1' })).not.toContain('\u001b');
  const [command = '', ...args] = node;
  const piped = spawnSync(command, args, { encoding: 'utf8' }).stdout;
  expect(piped).toContain('x'.repeat(100));
  expect(piped).not.toContain('\u001b');
});
