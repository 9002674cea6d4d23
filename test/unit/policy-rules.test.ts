import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatCidr } from '../../src/ipam/cidr.js';
import { parseNetworkSet } from '../../src/model/network-set.js';
import { parsePolicy, policyName } from '../../src/model/policy.js';
import { formatNewProfile, parseProfile } from '../../src/model/profile.js';
import { parseRules } from '../../src/model/rule.js';
import { formatNewTier, parseTier, STANDARD_TIERS } from '../../src/model/tier.js';
import { anyText, runs } from '../fuzz/garbage.js';

/** What Calico's resources are to us, field by field. */

function rule(value: object, namespace = '') {
  const problems: string[] = [];
  const [parsed] = parseRules([value], 'ingress', namespace, problem => problems.push(problem));
  if (!parsed) throw new Error('no rule');
  return { ...parsed, problems };
}
const resource = (metadata: object, spec: object) => JSON.stringify({ kind: 'X', metadata, spec });
function policy(spec: object, namespace = '') {
  const { value, problems } = parsePolicy(resource({ name: 'p' }, spec), namespace);
  return { value, problems };
}

describe('a rule', () => {
  it.each([
    ['TCP', 6],
    ['tcp', 6],
    ['UDPLite', 136],
    ['icmpv6', 58],
    [132, 132],
    ['89', 89],
    ['', undefined],
  ])('has the protocol %s', (protocol, number) =>
    expect(rule({ action: 'Allow', protocol })).toMatchObject({
      ...(number === undefined ? {} : { protocol: number }),
      matchesNothing: false,
    }),
  );

  it('has ports: numbers, ranges, names', () =>
    expect(
      rule({ action: 'Allow', protocol: 'TCP', destination: { ports: [80, '443', '1000:2000', 'http'] } })
        .destination.ports,
    ).toEqual({
      ranges: [
        { first: 80, last: 80 },
        { first: 443, last: 443 },
        { first: 1000, last: 2000 },
      ],
      names: ['http'],
    }));

  it('has nets, masked, once each', () =>
    expect(
      rule({ action: 'Deny', source: { nets: ['10.0.0.5/8', '10.1.0.0/8', 'fd00::1'] } }).source.nets?.map(
        formatCidr,
      ),
    ).toEqual(['10.0.0.0/8', 'fd00::1/128']));

  it.each([
    [{ http: { methods: ['GET'] } }, 'http is not supported'],
    [{ source: { serviceAccounts: { names: ['a'] } } }, 'source.serviceAccounts is not supported'],
    [{ destination: { services: { name: 'a' } } }, 'destination.services is not supported'],
    [{ destination: { domains: ['example.com'] } }, 'destination.domains is not supported'],
    [{ protocol: 'QUIC' }, 'protocol is no protocol'],
    [{ protocol: 0 }, 'protocol is no protocol'],
    [{ ipVersion: 5 }, 'ipVersion is neither 4 nor 6'],
    [{ source: { nets: ['10.0.0.0/33'] } }, 'source.nets has an entry that is no CIDR'],
    [{ source: { nets: '10.0.0.0/8' } }, 'source.nets is no list'],
    [{ source: { selector: 'a = b' } }, 'source.selector is no selector'],
    [{ source: { selector: 7 } }, 'source.selector is no selector'],
    [{ source: 'all' }, 'source is no object'],
    [{ destination: { ports: ['80-90'], nets: [] }, protocol: 'TCP' }, undefined],
    [{ destination: { ports: ['90:80'] }, protocol: 'TCP' }, 'destination.ports has an entry'],
    [{ destination: { ports: [70_000] }, protocol: 'TCP' }, 'destination.ports has an entry'],
    [{ destination: { ports: [80] }, protocol: 'ICMP' }, 'destination.ports needs the protocol'],
    [{ icmp: { code: 1 } }, 'icmp has no type'],
    [{ icmp: { type: 8 }, protocol: 'TCP' }, 'icmp goes with'],
  ])('that has %j: an Allow matches nothing, a Deny matches without it', (fields, why) => {
    const allow = rule({ action: 'Allow', ...fields });
    expect(allow.matchesNothing).toBe(why !== undefined);
    if (why === undefined) return;
    expect(allow.problems).toEqual([expect.stringContaining(`ingress[0].${why}`)]);
    expect(rule({ action: 'Pass', ...fields }).matchesNothing).toBe(true);
    expect(rule({ action: 'Log', ...fields }).matchesNothing).toBe(true);
    expect(rule({ action: 'Deny', ...fields }).matchesNothing).toBe(false);
    // Nobody knows what it was to be.
    expect(rule({ action: 'Maybe', ...fields })).toMatchObject({ action: 'deny', matchesNothing: false });
  });

  it('takes what is empty for what is not there', () => {
    const empty = {
      http: null,
      source: { services: {}, nets: [], selector: '', ports: null },
      icmp: {},
      metadata: {},
    };
    expect(rule({ action: 'Allow', ...empty })).toMatchObject({
      matchesNothing: false,
      problems: [],
      source: {},
    });
  });

  it.each([
    ['', { selector: "a == 'b'" }, "a == 'b'", undefined],
    ['', { notSelector: "a == 'b'" }, undefined, "a == 'b'"],
    ['', { selector: 'has(x)', notSelector: "a == 'b'" }, "has(x) && (!(a == 'b'))", undefined],
    ['ns', { selector: "a == 'b'" }, "(projectcalico.org/namespace == 'ns') && (a == 'b')", undefined],
    ['ns', { notSelector: "a == 'b'" }, "(projectcalico.org/namespace == 'ns') && (!(a == 'b'))", undefined],
    ['ns', { nets: ['10.0.0.0/8'] }, undefined, undefined],
    [
      'ns',
      { selector: 'has(x)', namespaceSelector: 'all()' },
      'has(projectcalico.org/namespace) && has(x)',
      undefined,
    ],
    ['ns', { namespaceSelector: 'global()' }, 'global()', undefined],
    ['', { namespaceSelector: "team == 'x'" }, "pcns.team == 'x'", undefined],
    [
      '',
      { namespaceSelector: "!has(a) || b contains 'c'" },
      "(!has(pcns.a)) || (pcns.b contains 'c')",
      undefined,
    ],
  ])('in namespace "%s" with %j selects %s', (namespace, source, selector, notSelector) => {
    const parsed = rule({ action: 'Allow', source }, namespace).source;
    expect(parsed.selector?.text).toBe(selector);
    expect(parsed.notSelector?.text).toBe(notSelector);
  });

  it('that is none, and a list that is none, denies', () => {
    expect(parseRules(['x'], 'ingress', '', () => undefined)).toMatchObject([{ action: 'deny' }]);
    expect(parseRules('x', 'ingress', '', () => undefined)).toMatchObject([{ action: 'deny' }]);
    expect(parseRules(null, 'ingress', '', () => undefined)).toEqual([]);
  });
});

describe('a policy', () => {
  it.each([
    ['default.web', 'default', {}, 'web'],
    ['web', 'default', {}, 'web'],
    ['default.web', 'other', {}, 'default.web'],
    ['other.web', 'other', {}, 'other.web'],
    ['default.web', 'default', { 'projectcalico.org/metadata': '{"name":"default.web"}' }, 'default.web'],
    ['default.web', 'default', { 'projectcalico.org/metadata': '{' }, 'web'],
  ])('stored as %s in tier %s with %j is called %s', (name, tier, annotations, called) =>
    expect(policyName({ name, annotations }, tier)).toBe(called),
  );

  const some = [{ action: 'Allow' }];
  it.each([
    [{}, ['ingress']],
    [{ ingress: some }, ['ingress']],
    [{ egress: some }, ['egress']],
    [{ ingress: some, egress: some }, ['ingress', 'egress']],
    [{ types: ['Egress'], ingress: some }, ['egress']],
    [{ types: ['ingress', 'EGRESS'] }, ['ingress', 'egress']],
    [{ types: ['Forward'], egress: some }, ['egress']],
  ])('%j applies to %j', (spec, directions) => {
    const { value } = policy(spec);
    expect((['ingress', 'egress'] as const).filter(direction => value?.[direction])).toEqual(directions);
  });

  it('has a tier, an order and a selector, or what they are without', () => {
    expect(policy({})).toMatchObject({
      value: { tier: 'default', order: Infinity, selector: { text: 'all()' } },
      problems: [],
    });
    expect(policy({ tier: 't', order: 0, selector: 'has(a)' })).toMatchObject({
      value: { tier: 't', order: 0 },
    });
    // Calico's order is a float; such integers come as bigint.
    const far = '{"metadata":{"name":"x"},"spec":{"order":9007199254740993}}';
    expect(parsePolicy(far, '')).toMatchObject({ value: { order: 2 ** 53 }, problems: [] });
    expect(parseTier(far)?.order).toBe(2 ** 53);
    expect(policy({ order: null }).problems).toEqual([]);
    expect(policy({ order: 'first' })).toMatchObject({
      value: { order: Infinity },
      problems: [expect.stringContaining('spec.order')],
    });
    expect(policy({ selector: 'has(a)' }, 'ns').value?.selector.text).toBe(
      "has(a) && (projectcalico.org/namespace == 'ns')",
    );
    expect(policy({ serviceAccountSelector: 'all()' }).value?.selector.text).toBe(
      'has(projectcalico.org/serviceaccount)',
    );
    expect(policy({ namespaceSelector: 'has(a)', selector: 'has(b)' }).value?.selector.text).toBe(
      'has(b) && has(pcns.a)',
    );
  });

  it.each([
    [{ doNotTrack: true }, 'host endpoints only'],
    [{ preDNAT: true }, 'host endpoints only'],
    [{ selector: 'a = b' }, 'spec.selector is no selector'],
    [{ selector: 5 }, 'spec.selector is no selector'],
  ])('with %j is not applied', (spec, why) => {
    const { value, problems } = policy(spec);
    expect(value).toBeUndefined();
    expect(problems).toEqual([expect.stringContaining(why)]);
  });
});

describe('what goes with policies', () => {
  it('tiers are written as they are read', () => {
    for (const tier of STANDARD_TIERS) expect(parseTier(formatNewTier(tier, new Date()))).toEqual(tier);
    expect(parseTier(resource({ name: 't' }, { defaultAction: 'Log' }))).toEqual({
      name: 't',
      order: Infinity,
      otherwise: 'deny',
    });
    expect(parseTier('{')).toBeUndefined();
  });

  it("a network's profile lets in what is labelled by it, whatever the network is called", () => {
    for (const name of ['net1', 'My_Net.2-x', 'a b', 'ü/x', 'n'.repeat(600)]) {
      const { value, problems } = parseProfile(formatNewProfile(name, new Date()));
      expect(problems).toEqual([]);
      expect(value?.name).toBe(name);
      expect(value?.ingress[0]?.source.selector?.matches(value.labels)).toBe(true);
      expect(value?.ingress[0]?.source.selector?.matches({ other: '' })).toBe(false);
    }
    expect(parseProfile(formatNewProfile('net1', new Date())).value?.labels).toEqual({ net1: '' });
  });

  it('a network set has the label of its namespace, and leaves out what is no net', () => {
    const text = resource({ name: 's', labels: { a: 'b' } }, { nets: ['10.0.0.1', 'x', '10.0.0.0/8'] });
    expect(parseNetworkSet(text, 'ns').value).toMatchObject({
      labels: { a: 'b', 'projectcalico.org/namespace': 'ns' },
    });
    expect(parseNetworkSet(text, '').value?.nets.map(formatCidr)).toEqual(['10.0.0.1/32', '10.0.0.0/8']);
    expect(parseNetworkSet(text, '').problems).toHaveLength(1);
    // Which comes as a bigint.
    const long = '{"metadata":{"name":"s"},"spec":{"nets":[9007199254740993,"10.0.0.0/8"]}}';
    expect(parseNetworkSet(long, '')).toMatchObject({
      value: { nets: [{ length: 8 }] },
      problems: [expect.stringContaining('9007199254740993')],
    });
  });
});

describe('any text', () => {
  it('is read or left out', () =>
    fc.assert(
      fc.property(
        fc.oneof(
          anyText,
          fc.json(),
          fc
            .dictionary(
              fc.constantFrom(
                'selector',
                'order',
                'tier',
                'types',
                'ingress',
                'egress',
                'nets',
                'labelsToApply',
              ),
              fc.jsonValue(),
            )
            .map(spec => JSON.stringify({ metadata: { name: 'x' }, spec })),
          fc
            .array(
              fc.dictionary(
                fc.constantFrom('action', 'protocol', 'icmp', 'source', 'destination', 'ipVersion'),
                fc.jsonValue(),
              ),
            )
            .map(ingress => JSON.stringify({ metadata: { name: 'x' }, spec: { ingress } })),
        ),
        text => {
          for (const { value } of [parsePolicy(text, ''), parsePolicy(text, 'ns'), parseProfile(text)])
            for (const { action } of value?.ingress ?? [])
              expect(['allow', 'deny', 'log', 'pass']).toContain(action);
          parseNetworkSet(text, '');
          parseTier(text);
        },
      ),
      { numRuns: runs(500) },
    ));
});
