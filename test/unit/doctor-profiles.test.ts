import { expect, it } from 'vitest';
import { loadConfig } from '../../src/config.js';
import { endpointKey, resourceKey } from '../../src/datastore/keys.js';
import { profiles } from '../../src/doctor/profiles.js';
import { formatNewProfile } from '../../src/model/profile.js';
import { endpointName, formatNewEndpoint, hostInterfaceOf } from '../../src/model/workload-endpoint.js';
import { put } from '../contract/store.contract.js';
import { MemoryStore } from '../fakes/memory-store.js';

it('a host has the profiles that its endpoints name', async () => {
  const store = new MemoryStore();
  const endpoint = (node: string, endpointId: string, profile: string) =>
    put(
      store,
      endpointKey(endpointName(node, endpointId)),
      formatNewEndpoint(
        {
          ...{ node, endpointId, networkId: 'n', addresses: [], profiles: [profile], labels: {} },
          ...{
            mac: '02:00:00:00:00:01',
            interfaceName: hostInterfaceOf(endpointId),
            ports: [],
            namedPorts: [],
          },
        },
        new Date(),
      ),
    );
  await endpoint('h-1', 'a', 'web');
  await endpoint('h-1', 'b', 'web');
  await endpoint('h-1', 'c', 'db');
  await endpoint('h-1', 'd', 'projectcalico-default-allow');
  await endpoint('h-1-2', 'e', 'elsewhere');
  await put(store, resourceKey('profiles', 'db'), formatNewProfile('db', new Date()));
  const look = (env: object = {}) =>
    profiles.look({ config: loadConfig({ NODENAME: 'h-1', ...env }), store: () => store });
  const text =
    "there is no profile web, which 2 of this host's endpoints name: what no policy decides about them is dropped";
  const remedy = expect.stringMatching(/^restart one of these containers, which makes it anew; or /);
  expect(await look()).toEqual([{ level: 'problem', text, remedy }]);
  expect(await look({ CALICO_LIBNETWORK_CREATE_PROFILES: 'false' })).toMatchObject([
    { remedy: expect.stringMatching(/^calico-libnetwork create/) },
  ]);
  await put(store, resourceKey('profiles', 'web'), formatNewProfile('web', new Date()));
  expect(await look()).toEqual([{ level: 'ok', text: "2 of them, as this host's endpoints name them" }]);
});
