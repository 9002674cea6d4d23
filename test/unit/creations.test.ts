import { describe, expect, it } from 'vitest';
import { formatAddress } from '../../src/ipam/cidr.js';
import { NetworkCreations } from '../../src/plugin/creations.js';
import { address, cidr } from './ipam-node.js';

const SUBNET = cidr('192.0.2.0/24');
const [GATEWAY, OTHER] = [address('192.0.2.1'), address('192.0.2.2')];

describe('creations of networks with one subnet', () => {
  let now = 0;
  const fresh = () => new NetworkCreations(() => now);
  const texts = (addresses: readonly (typeof GATEWAY)[]) => addresses.map(formatAddress);

  it('give back what they kept where one fails, and once only', () => {
    const creations = fresh();
    creations.began(SUBNET);
    creations.reserved(SUBNET, GATEWAY);
    expect(texts(creations.failed(SUBNET))).toEqual(['192.0.2.1']);
    expect(creations.failed(SUBNET)).toEqual([]);
  });

  it('give back nothing of another that is under way', () => {
    const creations = fresh();
    creations.began(SUBNET);
    creations.reserved(SUBNET, GATEWAY);
    creations.began(SUBNET);
    expect(creations.refused(SUBNET)).toEqual([]);
    expect(creations.failed(SUBNET)).toEqual([]);
    creations.created(SUBNET, [GATEWAY]);
    expect(creations.failed(SUBNET)).toEqual([]);
  });

  it('do not take the ReleasePool of one that was refused for the failure of the next', () => {
    const creations = fresh();
    creations.began(SUBNET);
    creations.reserved(SUBNET, GATEWAY);
    expect(texts(creations.refused(SUBNET))).toEqual(['192.0.2.1']);
    creations.began(SUBNET);
    creations.reserved(SUBNET, OTHER);
    expect(creations.failed(SUBNET)).toEqual([]);
    expect(texts(creations.failed(SUBNET))).toEqual(['192.0.2.2']);
  });

  it('forget what dockerd gave back itself, and what is over', () => {
    const creations = fresh();
    creations.began(SUBNET);
    creations.reserved(SUBNET, GATEWAY);
    creations.reserved(SUBNET, OTHER);
    creations.released(GATEWAY);
    expect(texts(creations.failed(SUBNET))).toEqual(['192.0.2.2']);
    creations.began(SUBNET);
    creations.reserved(SUBNET, GATEWAY);
    now += 61_000;
    expect(creations.failed(SUBNET)).toEqual([]);
  });
});
