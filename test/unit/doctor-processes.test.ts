import { describe, expect, it } from 'vitest';
import { listeningInodes, startTime } from '../../src/doctor/processes.js';
import { mergeSettings } from '../../src/doctor/settings.js';

describe('processes', () => {
  it('are found by the socket they listen on', () => {
    const table = [
      'Num       RefCount Protocol Flags    Type St Inode Path',
      '0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/docker/plugins/calico.sock',
      '0000000000000000: 00000003 00000000 00000000 0001 03 12346 /run/docker/plugins/calico.sock',
      '0000000000000000: 00000002 00000000 00010000 0001 01   999 /run/other.sock',
      '0000000000000000: 00000003 00000000 00000000 0001 03 12347',
    ].join('\n');
    expect(listeningInodes(table, '/run/docker/plugins/calico.sock')).toEqual(['12345']);
    expect(listeningInodes(table, '/run/other.sock')).toEqual(['999']);
    expect(listeningInodes(table, '')).toEqual([]);
  });

  it('tell when they were started, whatever they are called', () => {
    const fields = Array.from({ length: 49 }, (_, index) => (index === 18 ? '4711' : '0'));
    expect(startTime(`12 (a) b (c) S ${fields.join(' ')}`)).toBe(47.11);
    expect(startTime('')).toBeUndefined();
  });

  it('lend their settings, and nothing else, where none are set here', () => {
    const theirs = {
      ETCD_ENDPOINTS: 'http://etcd:1',
      NODENAME: 'theirs',
      PATH: '/theirs',
      IP: '10.0.0.1',
      HOME: '/x',
    };
    const { env, from } = mergeSettings({ PATH: '/own', NODENAME: 'own', HOSTNAME: 'own' }, theirs, 7);
    expect(env).toEqual({
      PATH: '/own',
      NODENAME: 'own',
      HOSTNAME: undefined,
      ETCD_ENDPOINTS: 'http://etcd:1',
      IP: '10.0.0.1',
    });
    expect(from).toBe(7);
    expect(mergeSettings({}, { HOME: '/x' }, 7).from).toBeUndefined();
  });
});
