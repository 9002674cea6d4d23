import { overlap, parseCidr } from './cidr.js';
import type { Cidr } from './cidr.js';

/** Private ranges tried in turn where the usual one collides with a route of the host. */
const ALTERNATIVES = [
  '172.28.0.0/14',
  '10.224.0.0/12',
  '172.24.0.0/14',
  '10.128.0.0/12',
  '10.0.0.0/12',
  '198.18.0.0/15',
];

/** The first range that overlaps none of the routes: the wanted one if it can be. Undefined where all collide. */
export function choosePool(wanted: Cidr, routes: readonly Cidr[]): Cidr | undefined {
  const candidates = [wanted, ...ALTERNATIVES.flatMap(text => parseCidr(text) ?? [])];
  return candidates.find(
    candidate => candidate.family === wanted.family && !routes.some(route => overlap(candidate, route)),
  );
}
