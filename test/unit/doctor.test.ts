import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.js';
import { lineOf } from '../../src/cli/doctor.js';
import { judgeDaemon, judgeReadiness } from '../../src/doctor/daemon.js';
import { judgeOrder, judgeVersion, readUnits } from '../../src/doctor/docker.js';
import { judgeClock, judgeLatency, judgeMember } from '../../src/doctor/etcd.js';
import { isFelix, judgeFelix } from '../../src/doctor/felix.js';
import { examine, ok, problem } from '../../src/doctor/finding.js';
import { judgeBesideFelix, judgeFirewall, judgeRules } from '../../src/doctor/firewall.js';
import { judgeForwarding, judgeSources } from '../../src/doctor/kernel.js';
import { judgeAddresses, judgeName } from '../../src/doctor/name.js';
import { askSocket, judgeSocket, judgeSpec, judgeView, readSpecs } from '../../src/doctor/plugin.js';
import { judgePools } from '../../src/doctor/pools.js';
import { judgePrograms } from '../../src/doctor/programs.js';
import { DatastoreError } from '../../src/errors.js';
import { parseSaved } from '../../src/host/iptables.js';
import { parseCidr } from '../../src/ipam/cidr.js';
import { parseIpPool } from '../../src/model/ip-pool.js';
import { parseNode } from '../../src/model/node.js';

const folder = mkdtempSync(join(tmpdir(), 'calico-doctor-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the round of checks', () => {
  it('takes no longer than the slowest may, and says of those that cannot look why not', async () => {
    const started = Date.now();
    const findings = await examine(
      [
        { name: 'a', look: async () => [ok('well'), problem('ill', 'cure it')] },
        { name: 'b', look: () => new Promise(() => undefined) },
        { name: 'c', look: () => Promise.reject(new Error('no such door')) },
        { name: 'd', look: () => Promise.reject(new DatastoreError('etcd is away')) },
      ],
      {},
      100,
    );
    expect(Date.now() - started).toBeLessThan(2_000);
    expect(findings.map(({ check, level, text }) => `${check} ${level} ${text}`)).toEqual([
      'a ok well',
      'a problem ill',
      'b warning could not look: no answer within 0.1 s',
      'c warning could not look: no such door',
      'd warning could not look: the datastore does not answer',
    ]);
  });

  it('prints a finding as one line, whatever is in it', () => {
    const line = lineOf({
      check: 'TLS files',
      level: 'problem',
      text: 'it said\n  "no"',
      remedy: 'ask again',
    });
    expect(line).toBe('problem  TLS files: it said "no". Remedy: ask again');
  });
});

describe('Docker', () => {
  it.each([
    ['28.5.1', 'ok'],
    ['20.10.24+dfsg1', 'ok'],
    ['20.09.0', 'problem'],
    ['19.03.15', 'problem'],
    ['1.13.1', 'problem'],
    ['dev', 'warning'],
  ])('%s: %s', (version, level) => expect(judgeVersion(version, 'unix:///x').level).toBe(level));

  it('that was started shortly before the daemon waits for it at boot', () => {
    const order = { units: undefined, networks: 2 };
    expect(judgeOrder({ ...order, dockerd: 100, daemon: 103.2 })).toMatchObject({
      level: 'warning',
      text: expect.stringContaining('4 s before'),
    });
    expect(judgeOrder({ ...order, dockerd: 100, daemon: 90 }).level).toBe('ok');
    // The daemon was restarted since.
    expect(judgeOrder({ ...order, dockerd: 100, daemon: 9_000 }).level).toBe('ok');
    expect(judgeOrder({ ...order, dockerd: undefined, daemon: 9_000 }).level).toBe('ok');
  });

  it('is ordered by the units where systemd has them, drop-ins included', () => {
    const [etc, lib] = [join(folder, 'etc'), join(folder, 'lib')];
    mkdirSync(join(etc, 'docker.service.d'), { recursive: true });
    mkdirSync(lib);
    expect(readUnits([etc, lib])).toBeUndefined();
    writeFileSync(join(lib, 'calico-libnetwork.service'), '[Unit]\nDescription=x\n');
    writeFileSync(join(lib, 'docker.service'), '[Unit]\nAfter=network-online.target\n');
    const wants = join(etc, 'multi-user.target.wants');
    mkdirSync(wants);
    symlinkSync(join(lib, 'calico-libnetwork.service'), join(wants, 'calico-libnetwork.service'));
    const judge = () =>
      judgeOrder({ units: readUnits([etc, lib]), daemon: undefined, dockerd: undefined, networks: 0 });
    expect(judge()).toMatchObject({
      level: 'problem',
      remedy: expect.stringContaining('Before=docker.service'),
    });
    writeFileSync(join(etc, 'docker.service.d', 'order.conf'), '[Unit]\nAfter=calico-libnetwork.service\n');
    expect(judge().level).toBe('ok');
    rmSync(join(etc, 'docker.service.d'), { recursive: true });
    writeFileSync(join(etc, 'calico-libnetwork.socket'), '[Unit]\nBefore=docker.service\n');
    expect(judge().level).toBe('ok');
    rmSync(join(etc, 'calico-libnetwork.socket'));
    writeFileSync(join(etc, 'calico-libnetwork.service'), '[Unit]\nBefore=x.service docker.service\n');
    expect(judge().level).toBe('ok');
    rmSync(wants, { recursive: true });
    expect(judge()).toMatchObject({ level: 'warning', remedy: expect.stringContaining('systemctl enable') });
  });
});

it('the units that we ship start us before Docker', () => {
  const units = readUnits([new URL('../../plugin-spec/systemd', import.meta.url).pathname]);
  const facts = { daemon: undefined, dockerd: undefined, networks: 0 };
  expect(units && judgeOrder({ ...facts, units: { ...units, isEnabled: true } }).level).toBe('ok');
});

describe('the plugin', () => {
  it('is missing, stale, something else, silent, or another one', async () => {
    const path = join(folder, 'calico.sock');
    const found = async () => judgeSocket('calico', path, await askSocket(path)).text;
    expect(await found()).toContain('is missing');
    symlinkSync(join(folder, 'nowhere'), path);
    expect(await found()).toContain('is stale');
    rmSync(path);
    writeFileSync(path, '');
    expect(await found()).toContain('is no socket');
    rmSync(path);
    let answer = 'nonsense';
    const server = createServer(socket =>
      socket.on('error', () => undefined).once('data', () => socket.end(answer)),
    );
    await new Promise<void>(resolve => server.listen(path, resolve));
    expect(await found()).toContain('does not answer');
    const body = '{"Implements":["IpamDriver"]}';
    answer = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    expect(await found()).toContain('another plugin: it is no NetworkDriver');
    expect(judgeSocket('calico-ipam', path, await askSocket(path)).level).toBe('ok');
    await new Promise(resolve => server.close(resolve));
  });

  it('may be named by files, whose address is looked at', () => {
    const specs = join(folder, 'plugins');
    mkdirSync(join(specs, 'more'), { recursive: true });
    writeFileSync(join(specs, 'calico.spec'), 'tcp://127.0.0.1:9\n');
    writeFileSync(join(specs, 'weave.spec'), 'unix:///other');
    writeFileSync(join(specs, 'more', 'calico-ipam.json'), '{"Name":"x","Addr":"unix:///run/x.sock"}');
    expect(readSpecs([specs, join(folder, 'no-such-folder')])).toEqual([
      { file: join(specs, 'calico.spec'), address: 'tcp://127.0.0.1:9' },
      { file: join(specs, 'more', 'calico-ipam.json'), address: 'unix:///run/x.sock' },
    ]);
    expect(judgeSpec('a.spec', 'unix:///x', { is: 'stale' }).level).toBe('problem');
    expect(judgeSpec('a.spec', 'unix:///x', { is: 'answers', implements: [] }).level).toBe('ok');
  });

  it('is seen by dockerd, or not', () => {
    const folder = '/run/docker/plugins';
    expect(judgeView(folder, false, 1, true).level).toBe('ok');
    expect(judgeView(folder, false, 1, undefined).level).toBe('ok');
    expect(judgeView(folder, false, 1, false)).toMatchObject({
      level: 'problem',
      text: expect.stringContaining('another file system'),
    });
    expect(judgeView('/run/x', false, 1, true).level).toBe('problem');
    expect(judgeView('/run/x', true, 1, true).level).toBe('ok');
    expect(judgeView(folder, false, undefined, undefined).level).toBe('warning');
  });
});

describe('etcd', () => {
  const well = { endpoint: 'http://a:2379', version: '3.4.23', health: true } as const;
  const dead = { endpoint: 'http://b:2379', failure: 'connect ECONNREFUSED' };

  it('that is too old, not healthy or silent is named', () => {
    expect(judgeMember(well, [well]).level).toBe('ok');
    expect(judgeMember({ ...well, version: '3.3.27' }, []).level).toBe('problem');
    expect(judgeMember({ ...well, version: '3.10.0' }, []).level).toBe('ok');
    const full = judgeMember({ ...well, health: 'ALARM NOSPACE' }, []);
    expect(full).toMatchObject({ level: 'problem', text: expect.stringContaining('NOSPACE') });
    expect(judgeMember({ endpoint: 'http://a:2379', health: true }, []).level).toBe('warning');
    // A member of three may be away; half of two may not.
    expect(judgeMember(dead, [well, well, dead]).level).toBe('warning');
    expect(judgeMember(dead, [well, dead]).level).toBe('problem');
    expect(judgeLatency(1.3, 20).level).toBe('ok');
    expect(judgeLatency(300, 20).level).toBe('warning');
  });

  it("whose clock is another's", () => {
    const ours = 1_800_000_000_700;
    const member = (theirs: number) => ({ ...well, clock: { theirs, ours } });
    // It tells whole seconds.
    expect(judgeClock([member(1_800_000_000_000)]).level).toBe('ok');
    expect(judgeClock([member(1_800_000_002_000)]).level).toBe('ok');
    expect(judgeClock([member(1_800_000_000_000), member(1_800_000_060_000)])).toMatchObject({
      level: 'warning',
      text: expect.stringContaining('59 s behind'),
    });
    expect(judgeClock([member(1_799_999_000_000)]).text).toContain('ahead of');
    expect(judgeClock([dead]).level).toBe('warning');
  });
});

describe('the name', () => {
  const facts = {
    node: 'h1',
    id: 'own',
    presence: { id: 'own', since: '2026-01-01T00:00:00Z', version: '1' },
    owner: 'own',
    isServing: true,
  };

  it("may be another's, or nobody's", () => {
    expect(judgeName(facts).level).toBe('ok');
    expect(judgeName({ ...facts, presence: { ...facts.presence, id: 'other' } }).text).toContain(
      'another live host',
    );
    expect(judgeName({ ...facts, presence: undefined, owner: 'other' }).text).toContain(
      'containers of another host',
    );
    expect(judgeName({ ...facts, presence: undefined }).text).toContain('no sign of life');
    expect(judgeName({ ...facts, presence: undefined, isServing: false, owner: undefined }).level).toBe('ok');
  });

  it('may be one of two for the same address', () => {
    const node = (name: string, address: string) => {
      const text = JSON.stringify({
        apiVersion: 'projectcalico.org/v3',
        kind: 'Node',
        metadata: { name },
        spec: { bgp: { ipv4Address: address } },
      });
      const found = parseNode(text);
      if (!found) throw new Error('no Node');
      return found;
    };
    const own = node('h1', '10.0.0.1/24');
    const HERE = new Set(['127.0.0.1', '10.0.0.1']);
    expect(judgeAddresses('h1', [own, node('h2', '10.0.0.2/24')], HERE).level).toBe('ok');
    const twin = judgeAddresses('h1', [own, node('old', '10.0.0.1/16')], HERE);
    expect(twin).toMatchObject({ level: 'warning', remedy: expect.stringContaining('node remove old') });
    expect(judgeAddresses('h1', [], HERE).level).toBe('warning');
    expect(judgeAddresses('h1', [node('h1', '10.0.0.77/24')], HERE).text).toContain('which no interface of');
  });
});

describe('the host', () => {
  it('may reach a part of a pool, or all of it, by itself', () => {
    const pool = (cidr: string, disabled = false) => {
      const text = JSON.stringify({
        apiVersion: 'projectcalico.org/v3',
        kind: 'IPPool',
        metadata: { name: 'p' },
        spec: { cidr, disabled },
      });
      const found = parseIpPool(text);
      if (!found) throw new Error('no pool');
      return found;
    };
    const range = (text: string) => {
      const cidr = parseCidr(text);
      if (!cidr) throw new Error(text);
      return { cidr, what: 'by eth0' };
    };
    expect(judgePools([pool('10.0.0.0/16')], [range('10.1.0.0/16')])[0]?.level).toBe('ok');
    for (const route of ['10.0.3.0/24', '10.0.0.0/8', '10.0.0.7/32'])
      expect(judgePools([pool('10.0.0.0/16')], [range(route)])[0]?.level, route).toBe('problem');
    expect(judgePools([], [])[0]?.level).toBe('warning');
    expect(judgePools([pool('10.0.0.0/16', true)], [])[0]?.level).toBe('warning');
  });

  it('forwards only where the kernel is told to', () => {
    const settings = { forwarding4: '0', forwarding6: '0', containers: ['cali1'], has6: true };
    expect(judgeForwarding(settings).map(({ level }) => level)).toEqual(['problem', 'problem']);
    // dockerd and the first container turn it on.
    expect(judgeForwarding({ ...settings, containers: [], has6: false })[0]?.level).toBe('ok');
    expect(judgeForwarding({ ...settings, forwarding4: '1', has6: false })[0]?.level).toBe('ok');
  });

  it('checks sources by the larger of two settings', () => {
    const cali = (value: string) => [{ name: 'cali1', value }];
    expect(judgeSources('0', cali('1'), true).level).toBe('ok');
    expect(judgeSources('1', cali('0'), true).level).toBe('ok');
    expect(judgeSources('0', cali('0'), true).level).toBe('problem');
    expect(judgeSources('2', cali('1'), true).level).toBe('warning');
  });

  it("lets containers pass only where Docker's DROP is answered", () => {
    const table = (policy: string, ...rules: string[]) => {
      const lines = [
        '*filter',
        `:FORWARD ${policy} [0:0]`,
        ':DOCKER-USER - [0:0]',
        '-A FORWARD -j DOCKER-USER',
      ];
      const found = parseSaved('nft', 4, [...lines, ...rules, 'COMMIT'].join('\n'));
      if (!found) throw new Error('no table');
      return found;
    };
    const rule = (direction: string) =>
      `-A DOCKER-USER ${direction} cali+ -m comment --comment calico-libnetwork -j ACCEPT`;
    expect(judgeFirewall([table('DROP', rule('-i'), rule('-o'))])[0]?.level).toBe('ok');
    expect(judgeFirewall([table('DROP', rule('-i'))])[0]?.level).toBe('problem');
    expect(judgeFirewall([table('DROP', '-A DOCKER-USER -j RETURN', rule('-i'), rule('-o'))])[0]?.level).toBe(
      'problem',
    );
    expect(judgeFirewall([table('ACCEPT')])[0]?.level).toBe('warning');
    expect(judgeFirewall([])[0]?.level).toBe('ok');
    const ours = 'table inet calico_libnetwork\n';
    const policy = 'table inet calico_policy\n';
    const levels = (...of: Parameters<typeof judgeRules>) => judgeRules(...of).map(({ level }) => level);
    expect(levels(`table ip nat\n${ours}${policy}`, true, 0)).toEqual(['ok', 'ok']);
    expect(levels('table ip nat\n', true, 0)).toEqual(['problem', 'problem']);
    expect(judgeRules(ours, true, 2)[1]?.text).toBe(
      'table inet calico_policy is missing: no policy is enforced, networks are not isolated',
    );
    // What a daemon leaves stays in force; what somebody flushed meanwhile does not come back.
    expect(levels(`${ours}${policy}`, false, 2)).toEqual(['ok', 'ok']);
    expect(levels('', false, 2)).toEqual(['problem', 'problem']);
    expect(levels('', false, 0)).toEqual(['ok']);
    expect(judgeBesideFelix(false).level).toBe('ok');
    expect(judgeBesideFelix(true)).toMatchObject({
      level: 'problem',
      remedy: expect.stringContaining('nft delete table inet calico_policy'),
    });
  });

  it('needs other programs with other settings', () => {
    const missing = (env: Record<string, string>, ...there: string[]) =>
      judgePrograms(loadConfig(env), command => there.includes(command)).flatMap(({ level, text }) =>
        level === 'problem' ? [text.split(' ')[0]] : [],
      );
    expect(missing({})).toEqual(['nft', 'ip', 'iptables', 'etcd']);
    expect(missing({ ETCD_ENDPOINTS: 'http://a:1' }, 'nft', 'ip', 'iptables')).toEqual([]);
    expect(missing({ ETCD_ENDPOINTS: 'http://a:1', CALICO_LIBNETWORK_DATAPLANE: 'felix' })).toEqual(['ip']);
  });

  it('is programmed by one', () => {
    expect(isFelix('calico-felix', [])).toBe(true);
    expect(isFelix('calico-node', ['calico-node', '-felix'])).toBe(true);
    expect(isFelix('calico-node', ['calico-node', '-confd'])).toBe(false);
    expect(judgeFelix('native', 7).level).toBe('problem');
    expect(judgeFelix('felix', undefined).level).toBe('problem');
    expect(judgeFelix('felix', 7).level).toBe('ok');
  });

  it('has a daemon of this version that is ready', () => {
    expect(judgeDaemon(7, '0.1.0', '0.2.0').level).toBe('warning');
    expect(judgeDaemon(7, '0.2.0', '0.2.0').level).toBe('ok');
    expect(judgeReadiness(503, 'a\nb\n').text).toContain('not ready: a; b');
  });
});
