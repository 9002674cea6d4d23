import { describe, expect, it } from 'vitest';
import { loadConfig, printConfig, unknownSettings } from '../../src/config.js';

describe('settings', () => {
  it('that are misspelt are known as such', () => {
    const env = {
      CALICO_LIBNETWORK_SOCKET_DIRECTORY: '/x',
      CALICO_LIBNETWORK_DATAPLANE: 'felix',
      PATH: '/bin',
    };
    expect(unknownSettings(env)).toEqual(['CALICO_LIBNETWORK_SOCKET_DIRECTORY']);
    expect(unknownSettings({ CALICO_LIBNETWORK_ENABLED: 'false' })).toEqual([]);
  });

  it('have defaults for everything', () => {
    const config = loadConfig({ NODENAME: 'Node-1' });
    expect(config).toMatchObject({
      nodeName: 'node-1',
      etcdEndpoints: undefined,
      scope: 'local',
      interfacePrefix: 'cali',
      createProfiles: true,
    });
  });

  it('are all checked at once, each named with what it should be', () => {
    const bad = {
      NODENAME: '-x',
      CALICO_IPV4POOL_CIDR: '192.168.0.5/16',
      CALICO_LIBNETWORK_SCOPE: 'world',
      CALICO_LIBNETWORK_VETH_MTU: '67',
      CALICO_LIBNETWORK_AUTO_POOLS: 'maybe',
      CALICO_LIBNETWORK_IFPREFIX: 'a/b',
      DATASTORE_TYPE: 'kubernetes',
      ETCD_USERNAME: 'root',
      ETCD_ENDPOINTS: 'etcd:2379',
    };
    const error = thrown(() => loadConfig(bad));
    for (const name of Object.keys(bad)) expect(error).toContain(name);
    expect(error).toContain('192.168.0.0/16 is meant?');
  });

  it('take the names of the Go client too', () => {
    expect(loadConfig({ CALICO_ETCD_ENDPOINTS: 'http://a:1, http://b:2/' }).etcdEndpoints).toEqual([
      'http://a:1',
      'http://b:2',
    ]);
  });

  it('name the driver as Docker does, a managed plugin with its tag', () => {
    const driver = (name: string) => loadConfig({ CALICO_LIBNETWORK_DRIVER: name }).driver;
    expect(driver('')).toBe('calico');
    expect(driver('registry.example:5000/net/calico:1.0')).toBe('registry.example:5000/net/calico:1.0');
    expect(() => driver('not a name')).toThrow('CALICO_LIBNETWORK_DRIVER must be the name of a driver');
  });

  it('never print a secret', () => {
    const secrets = { ETCD_USERNAME: 'root', ETCD_PASSWORD: 'hunter2' };
    expect(printConfig(loadConfig(secrets))).not.toContain('hunter2');
    expect(thrown(() => loadConfig({ ETCD_PASSWORD: 'hunter2', CALICO_DEBUG: '1' }))).not.toContain(
      'hunter2',
    );
  });
});

function thrown(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return String(error);
  }
  return '';
}
