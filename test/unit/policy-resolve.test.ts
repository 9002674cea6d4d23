import { describe, expect, it } from 'vitest';
import { renderRules } from '../../src/host/nft-policy-rules.js';
import { parsePolicy } from '../../src/model/policy.js';
import type { Policy } from '../../src/model/policy.js';
import { missingProfile } from '../../src/model/profile.js';
import { evaluate } from '../../src/policy/evaluate.js';
import type { PolicyEndpoint } from '../../src/policy/facts.js';
import { PolicyResolver } from '../../src/policy/resolve.js';

/** What properties of small random facts do not come to. */

function policy(spec: object, name = 'p'): Policy {
  const { value } = parsePolicy(JSON.stringify({ metadata: { name }, spec }), '');
  if (!value) throw new Error('a policy does not parse');
  return value;
}

function endpoint(number: number, more: Partial<PolicyEndpoint> = {}): PolicyEndpoint {
  return {
    node: 'h1',
    interfaceName: `cali${number}`,
    mac: '02:42:00:00:00:01',
    addresses: [`10.0.${number >> 8}.${number & 255}`],
    profiles: ['net1'],
    labels: {},
    namedPorts: [],
    published: [],
    ...more,
  };
}

describe('what a host is told to enforce', () => {
  it('does not grow by the product of the names of ports that a rule has on both sides', () => {
    const names = (side: string) => Array.from({ length: 600 }, (_, index) => `${side}${index}`);
    const ingress = [
      {
        action: 'Allow',
        protocol: 'TCP',
        source: { ports: names('s') },
        destination: { ports: [80, ...names('d')] },
      },
    ];
    const resolver = new PolicyResolver('h1');
    resolver.setPolicy('p', policy({ ingress }));
    const namedPorts = [
      { name: 'd7', protocol: 6, port: 7 },
      { name: 'd8', protocol: 17, port: 8 },
      { name: 'other', protocol: 6, port: 9 },
    ];
    resolver.setEndpoint('e1', endpoint(1, { namedPorts }));
    const { rules, portSets } = resolver.resolve();
    const list = rules.get('policy ingress p') ?? [];
    // Both families, and port 80 or a name.
    expect(renderRules('policy ingress p', list, () => false)).toHaveLength(4);
    expect([...portSets.values()].map(set => [...set]).sort()).toEqual([[], ['10.0.0.1 6 7']]);
    resolver.setEndpoint('e1', endpoint(1, { namedPorts: [{ name: 's3', protocol: 6, port: 3 }] }));
    const members = [...resolver.resolve().portSets.values()].map(set => [...set]);
    expect(members.sort()).toEqual([[], ['10.0.0.1 6 3']]);
  });

  it('is found out once for all endpoints that are alike', () => {
    const resolver = new PolicyResolver('h1', 'allow', 0);
    let looks = 0;
    const watched = (order: number): Policy => ({
      ...policy({ order, selector: 'all()', ingress: [] }),
      get tier() {
        looks += 1;
        return 'default';
      },
    });
    const profiles = (number: number) => [number % 2 === 0 ? 'net1' : 'net2'];
    for (let number = 0; number < 300; number += 1)
      resolver.setEndpoint(`e${number}`, endpoint(number, { profiles: profiles(number) }));
    for (const order of [1, 2]) {
      resolver.setPolicy('p', watched(order));
      looks = 0;
      expect(resolver.resolve().endpoints.size).toBe(300);
      // Two kinds in two directions.
      expect(looks).toBeLessThan(20);
    }
    // Nothing is forgotten or left over by who goes.
    for (let number = 0; number < 300; number += 1) resolver.setEndpoint(`e${number}`, undefined);
    expect(resolver.resolve()).toMatchObject({ endpoints: new Map(), rules: new Map() });
  });

  it('of the next container of a network is nothing new but the container', () => {
    const resolver = new PolicyResolver('h1');
    resolver.setPolicy('p', policy({ ingress: [{ action: 'Allow' }] }));
    const profile = (name: string) => missingProfile(name);
    resolver.setProfile('net1', profile('net1'));
    resolver.setEndpoint('e1', endpoint(1));
    const first = resolver.resolve();
    resolver.setEndpoint('e1', undefined);
    const empty = resolver.resolve();
    expect(empty.rules).toBe(first.rules);
    expect(empty.spares).toEqual({
      ingress: [first.endpoints.get('cali1')?.ingress],
      egress: [first.endpoints.get('cali1')?.egress],
    });
    resolver.setEndpoint('e2', endpoint(2));
    const next = resolver.resolve();
    expect(next.rules).toBe(first.rules);
    expect(next.endpoints.get('cali2')?.ingress).toBe(first.endpoints.get('cali1')?.ingress);
    expect(next.spares).toEqual({ ingress: [], egress: [] });
    // A network that is removed leaves nothing.
    resolver.setEndpoint('e2', undefined);
    resolver.resolve();
    resolver.setProfile('net1', undefined);
    expect(resolver.resolve()).toMatchObject({ rules: new Map(), spares: { ingress: [], egress: [] } });
  });

  it('says which addresses are of other hosts, or were', () => {
    const resolver = new PolicyResolver('h1');
    const known = (): string[] => [...(resolver.resolve().elsewhere ?? [])];
    resolver.setEndpoint('e1', { ...endpoint(1), node: 'h2' });
    resolver.setEndpoint('e1', undefined);
    expect(known()).toEqual(endpoint(1).addresses);
    resolver.setEndpoint('e2', { ...endpoint(1), interfaceName: 'cali2' });
    resolver.setEndpoint('e3', endpoint(3));
    // It opens only when its labels are known.
    resolver.setEndpoint('e2', { ...endpoint(1), interfaceName: 'cali2', labels: { role: 'web' } });
    expect(known()).toEqual(endpoint(1).addresses);
  });

  it('has for a name of a port without a protocol those of TCP', () => {
    const resolver = new PolicyResolver('h1');
    resolver.setPolicy('p', policy({ ingress: [{ action: 'Allow', destination: { ports: ['dns'] } }] }));
    const namedPorts = [6, 17].map(protocol => ({ name: 'dns', protocol, port: 53 }));
    resolver.setEndpoint('e1', endpoint(1, { namedPorts }));
    expect([...resolver.resolve().portSets.values()]).toEqual([new Set(['10.0.0.1 6 53'])]);
  });

  it('does not depend on which of two policies with the same name and order came first', () => {
    const [older, newer] = [
      ['default.web', policy({ ingress: [{ action: 'Allow' }] }, 'default.web')],
      ['web', policy({ ingress: [{ action: 'Deny' }] }, 'web')],
    ] as const;
    for (const arrival of [
      [older, newer],
      [newer, older],
    ]) {
      const resolver = new PolicyResolver('h1');
      for (const [key, value] of arrival) resolver.setPolicy(key, value);
      resolver.setEndpoint('e1', endpoint(1));
      expect(resolver.resolve().endpoints.get('cali1')?.ingress.tiers[0]?.policies).toEqual([
        'policy ingress default.web',
        'policy ingress web',
      ]);
      const packet = { family: 4, source: '8.8.8.8', destination: '10.0.0.1', protocol: 6 } as const;
      expect(evaluate(resolver.facts, endpoint(1), 'ingress', packet).verdict).toBe('allow');
    }
  });
});
