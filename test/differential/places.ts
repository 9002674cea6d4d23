import { endpoint } from '../host/pretend-host.js';
import type { EndpointWiring } from '../../src/host/dataplane.js';

/** Where packets come from and go to. The places stay; what the datastore says of them changes. */
export interface Place {
  readonly name: string;
  readonly kind: 'local' | 'remote' | 'outside' | 'host';
  readonly addresses: readonly string[];
  /** Of a container of the host under test. */
  readonly wiring?: EndpointWiring;
}

/** The host under test, as other hosts and the datastore know it. */
export const NODE = 'h1';
export const OTHER_NODE = 'h-2';

const local = (n: number, ...families: readonly (4 | 6)[]): Place => {
  const addresses = families.map(family => (family === 4 ? `10.65.0.${n}` : `fd65::${n}`));
  return { name: `local${n}`, kind: 'local', addresses, wiring: endpoint(n, addresses) };
};
const remote = (n: number, ...families: readonly (4 | 6)[]): Place => ({
  name: `remote${n}`,
  kind: 'remote',
  addresses: families.map(family => (family === 4 ? `10.66.0.${n}` : `fd66::${n}`)),
});

/** Containers of the host under test: of one family, the other, and both. */
export const LOCAL: readonly Place[] = [
  local(1, 4),
  local(2, 4),
  local(3, 6),
  local(4, 6),
  ...[5, 6, 7, 8].map(n => local(n, 4, 6)),
];

/** Containers of another host: packets from and to them pass the uplink. */
export const REMOTE: readonly Place[] = [remote(1, 4), remote(2, 6), ...[3, 4, 5].map(n => remote(n, 4, 6))];

/** What is no endpoint at all. */
export const OUTSIDE: readonly Place[] = [1, 2].map(n => ({
  name: `outside${n}`,
  kind: 'outside',
  addresses: [`203.0.113.${n}`, `fd67::${n}`],
}));

/** The host itself, by the addresses of its uplink. */
export const HOST: Place = { name: 'host', kind: 'host', addresses: ['198.51.100.1', '2001:db8::1'] };

export const PLACES: readonly Place[] = [...LOCAL, ...REMOTE, ...OUTSIDE, HOST];

export function placeOf(name: string): Place {
  const found = PLACES.find(place => place.name === name);
  if (found === undefined) throw new Error(`there is no place ${name}`);
  return found;
}

/** The address of a family, undefined where it has none. */
export function addressOf(place: Place, family: 4 | 6): string | undefined {
  return place.addresses.find(address => address.includes(':') === (family === 6));
}
