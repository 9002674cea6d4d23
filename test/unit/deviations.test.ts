import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deviations } from '../../src/agent/deviations.js';
import type { Deviation, Observed } from '../../src/agent/deviations.js';
import { Since } from '../../src/agent/since.js';
import { hostInterfaceOf } from '../../src/model/workload-endpoint.js';
import { endpointHandle, parseEndpointHandle } from '../../src/ipam/handles.js';

/** Endpoint n of a host: its id, MAC and address. */
const ID = (n: number) => String(n).repeat(64).slice(0, 64);
const MAC = (n: number) => `02:42:00:00:00:0${n}`;
const ADDRESS = (n: number) => `192.0.2.${n}`;

/** Where endpoint n is; each place may have lost it. */
interface Places {
  readonly docker: boolean;
  readonly record: boolean;
  readonly allocation: boolean;
  readonly interface: boolean;
  readonly inUse: boolean;
}

function observed(all: readonly Places[], more: Partial<Observed> = {}): Observed {
  const those = (is: (places: Places) => boolean) => all.flatMap((places, n) => (is(places) ? [n] : []));
  const inDocker = those(({ docker }) => docker);
  return {
    node: 'a',
    isGlobal: false,
    docker: {
      networks: [
        {
          id: 'n1',
          name: 'net1',
          driver: 'calico',
          ipamDriver: 'calico-ipam',
          internal: false,
          options: {},
          ipam: [],
        },
      ],
      endpoints: inDocker.map(n => ({
        endpointId: ID(n),
        networkId: 'n1',
        containerId: `c${n}`,
        mac: MAC(n),
        addresses: [ADDRESS(n)],
      })),
      endpointIds: new Set(inDocker.map(ID)),
      addresses: new Set(inDocker.map(ADDRESS)),
      addressed: [],
      subnets: [],
      reserved: new Map(),
    },
    endpoints: those(({ record }) => record).map(n => ({
      node: 'a',
      endpointId: ID(n),
      interfaceName: hostInterfaceOf(ID(n)),
      mac: MAC(n),
      addresses: [ADDRESS(n)],
      profiles: [],
      networkId: 'n1',
      labels: {},
      ports: [],
    })),
    allocations: those(({ allocation }) => allocation).map(n => ({
      handle: endpointHandle('a', MAC(n), ADDRESS(n)),
      revision: '7',
      mac: MAC(n),
      address: ADDRESS(n),
    })),
    reservations: [],
    reservationHandles: new Set(),
    networks: [{ id: 'n1', node: 'a', created: '', internal: false, subnets: [], options: {}, rest: {} }],
    unneededPools: [],
    interfaces: those(places => places.interface).map(n => ({
      name: hostInterfaceOf(ID(n)),
      isInUse: all[n]?.inUse === true,
    })),
    remembered: new Map(),
    saidGone: new Set(),
    ...more,
  };
}

const anywhere = fc.array(
  fc.record({
    docker: fc.boolean(),
    record: fc.boolean(),
    allocation: fc.boolean(),
    interface: fc.boolean(),
    inUse: fc.boolean(),
  }),
  { maxLength: 9 },
);

/** Which endpoint a repair takes something from, or puts something back for. */
function concerned({ repair }: Deviation, all: readonly Places[]): number {
  const text = JSON.stringify(repair);
  return all.findIndex(
    (_, n) =>
      text.includes(ID(n)) ||
      text.includes(`"${ADDRESS(n)}"`) ||
      text.includes(`"${hostInterfaceOf(ID(n))}"`),
  );
}

describe('what is not as Docker has it', () => {
  it('is nothing where all is well', () => {
    const well = { docker: true, record: true, allocation: true, interface: true, inUse: true };
    const none = { docker: false, record: false, allocation: false, interface: false, inUse: false };
    expect(deviations(observed([well, none, well]))).toEqual([]);
  });

  it('frees nothing that Docker has', () => {
    fc.assert(
      fc.property(anywhere, all => {
        for (const deviation of deviations(observed(all)))
          if (deviation.is !== 'lost') expect(all[concerned(deviation, all)]?.docker).toBe(false);
      }),
    );
  });

  it('takes nothing from a container that uses its interface and is on record, whatever Docker says', () => {
    fc.assert(
      fc.property(anywhere, all => {
        for (const deviation of deviations(observed(all))) {
          const places = all[concerned(deviation, all)];
          if (deviation.is !== 'lost')
            expect(places?.record === true && places.interface && places.inUse).toBe(false);
        }
      }),
    );
  });

  it('does not wait with a network of which Docker said in vain that it is gone', () => {
    const rest = { node: 'a', created: '', internal: false, subnets: [], options: {}, rest: {} };
    const network = (id: string) => ({ id, ...rest });
    const found = deviations(
      observed([], { networks: ['n1', 'n2', 'n3'].map(network), saidGone: new Set(['n1', 'n2']) }),
    );
    expect(found.map(({ key, is }) => [key, is])).toEqual([
      ['network n2', 'said'],
      ['network n3', 'gone'],
    ]);
  });

  it('waits a moment only with the pool of a subnet of which Docker said so', () => {
    const unneededPools = [
      { name: 'docker-192-0-2-0-24', cidr: '192.0.2.0/24', revision: '1' },
      { name: 'docker-198-51-100-0-24', cidr: '198.51.100.0/24', revision: '2' },
    ];
    const found = deviations(observed([], { unneededPools, saidGone: new Set(['192.0.2.0/24']) }));
    expect(found.map(({ is, repair }) => [is, repair])).toContainEqual([
      'left',
      { kind: 'remove pool', name: 'docker-192-0-2-0-24' },
    ]);
    expect(found.map(({ is, repair }) => [is, repair])).toContainEqual([
      'gone',
      { kind: 'remove pool', name: 'docker-198-51-100-0-24' },
    ]);
  });

  it('leaves, once all is repaired, what Docker has and nothing else', () => {
    fc.assert(
      fc.property(anywhere, start => {
        // Without evidence of use beside Docker's word.
        const all = start.map(places => ({ ...places, inUse: places.docker && places.interface }));
        const state = all.map(places => ({ ...places }));
        for (const deviation of deviations(observed(all))) {
          const places = state[concerned(deviation, all)];
          if (!places) continue;
          const { kind } = deviation.repair;
          if (kind === 'remove endpoint') Object.assign(places, { record: false, interface: false });
          if (kind === 'release allocation') places.allocation = false;
          if (kind === 'remove interface') places.interface = false;
          if (kind === 'record endpoint') places.record = true;
          if (kind === 'take address') places.allocation = true;
        }
        for (const places of state) {
          // A container without an interface cannot be told from one of another host, where scope is global.
          const has = places.docker && (places.record || places.interface);
          if (places.docker && !has) continue;
          expect([places.record, places.allocation]).toEqual([places.docker, places.docker]);
          if (!places.docker) expect(places.interface).toBe(false);
        }
      }),
    );
  });
});

describe('an endpoint handle', () => {
  it('is read back', () => {
    const handle = endpointHandle('a', '02:42:0a:00:00:01', 'fd80::1');
    expect(parseEndpointHandle(handle)).toEqual({ node: 'a', mac: '02:42:0a:00:00:01', address: 'fd80::1' });
    expect(parseEndpointHandle(endpointHandle('a.b', '02:42:0a:00:00:01', '192.0.2.1'))?.node).toBe('a.b');
    expect(parseEndpointHandle('libnetwork.gateway.192.0.2.1')).toBeUndefined();
  });
});

describe('since when something is so', () => {
  it('counts from the first of an unbroken row of looks', () => {
    const since = new Since();
    expect(since.look(['a'], 0).get('a')).toBe(0);
    expect(since.look(['a', 'b'], 10).get('a')).toBe(10);
    expect(since.look(['b'], 20).get('b')).toBe(10);
    expect(since.look(['a'], 30).get('a')).toBe(0);
    since.forget();
    expect(since.look(['a'], 40).get('a')).toBe(0);
  });
});
