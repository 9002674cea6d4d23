import { describe, expect, it, test } from 'vitest';
import { readResources } from '../../src/resources/resource-file.js';
import { parseYamlDocuments } from '../../src/resources/yaml-documents.js';

/** What is wrong with a file, as a person reads it; notes marked. */
function complaints(text: string): string[] {
  return readResources(text, 'f.yaml', 'libnetwork').flatMap(({ problems, message }) =>
    problems.map(problem => `${problem.isNote ? 'note ' : ''}${message(problem)}`),
  );
}

/** A resource whose spec begins on line 5, and what is wrong with it. */
function ofSpec(kind: string, ...spec: string[]): string[] {
  const lines = spec.map(line => `  ${line}`).join('\n');
  return complaints(
    `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: {name: x}\nspec:\n${lines}\n`,
  ).map(line => line.replace('f.yaml:', ''));
}

const rule = (...lines: string[]) =>
  ofSpec('NetworkPolicy', 'ingress:', ...lines.map((line, index) => `${index === 0 ? '- ' : '  '}${line}`));

describe('what a file says is named with line and field', () => {
  test.each<[string, string[], string[]]>([
    ['no range at all', ['cidr: nonsense'], ['5: spec.cidr: "nonsense" is no range of addresses: write one like 192.0.2.0/24 or 2001:db8::/64']],
    ['bits right of the prefix', ['cidr: 10.1.0.5/16'], ['5: spec.cidr: 10.1.0.5/16 has bits set right of its prefix length: write 10.1.0.0/16']],
    ['an address', ['cidr: 10.1.0.5'], ['5: spec.cidr: 10.1.0.5 has no prefix length: write 10.1.0.5/32']],
    ['no cidr', ['disabled: true'], ['4: spec.cidr: is missing']],
    ['another spelling', ['cidr: 10.0.0.0/16', 'natoutgoing: true'], ['6: spec.natoutgoing: unknown field: it is spelt natOutgoing']],
    ['a bool in quotes', ['cidr: 10.0.0.0/16', 'disabled: "true"'], ['6: spec.disabled: "true" is neither true nor false']],
    ['a mode', ['cidr: 10.0.0.0/16', 'vxlanMode: always'], ['6: spec.vxlanMode: "always" is none of Never, Always, CrossSubnet']],
    ['both modes', ['cidr: 10.0.0.0/16', 'vxlanMode: Always', 'ipipMode: Always'], ['7: spec.ipipMode: a pool has either ipipMode or vxlanMode: set one of them to Never']],
    ['IP-in-IP and IPv6', ['cidr: fd00::/64', 'ipipMode: Always'], ['6: spec.ipipMode: IP-in-IP is for IPv4 only: use vxlanMode']],
    ['an IPv6 block size for IPv4', ['cidr: 10.0.0.0/16', 'blockSize: 122'], ['6: spec.blockSize: blocks of an IPv4 pool are from /20 to /32, and this says 122']],
    ['smaller than a block', ['cidr: 10.0.0.0/28'], ['5: spec.cidr: a /28 is smaller than one block, a /26: make it larger, or set blockSize']],
    ['link-local', ['cidr: 169.254.0.0/20'], ['5: spec.cidr: overlaps the link-local addresses 169.254.0.0/16: choose another range']],
    ['a use', ['cidr: 10.0.0.0/16', 'allowedUses: [Workload, Tunnels]'], ['6: spec.allowedUses[1]: "Tunnels" is none of Workload, Tunnel, LoadBalancer']],
    ['a text where a list is', ['cidr: 10.0.0.0/16', 'allowedUses: Workload'], ['6: spec.allowedUses: "Workload" is no list: begin each of its entries with "- "']],
    ['nothing wrong, small but disabled', ['cidr: 10.0.0.0/28', 'disabled: true'], []],
    ['null is nothing', ['cidr: 10.0.0.0/16', 'vxlanMode: null', 'allowedUses: ~'], []],
    ['a note', ['cidr: 10.0.0.0/16', 'ipipMode: CrossSubnet'], ['note 6: spec.ipipMode: only a Felix encapsulates in IP-in-IP: with the native dataplane, hosts in other subnets need vxlanMode']],
  ])('IPPool: %s', (_name, spec, wrong) => expect(ofSpec('IPPool', ...spec)).toEqual(wrong)); // prettier-ignore

  test.each<[string, string[], string[]]>([
    ['no action', ['protocol: TCP'], ['6: spec.ingress[0].action: is missing']],
    ['an action in lower case', ['action: allow'], ['6: spec.ingress[0].action: "allow" is none of Allow, Deny, Log, Pass']],
    ['a protocol', ['action: Allow', 'protocol: HTTP'], ['7: spec.ingress[0].protocol: "HTTP" is no protocol: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite, or a number from 1 to 255']],
    ['ports without protocol', ['action: Allow', 'destination: {ports: [80]}'], ['7: spec.ingress[0].destination.ports: ports need a protocol that has them: add protocol: TCP, UDP or SCTP']],
    ['a port', ['action: Allow', 'protocol: TCP', 'destination: {ports: [65536]}'], ['8: spec.ingress[0].destination.ports[0]: 65536 is no port: a number from 0 to 65535, a range like 8000:8080, or the name of a port']],
    ['a range the wrong way round', ['action: Allow', 'protocol: TCP', 'destination: {ports: ["90:80"]}'], ['8: spec.ingress[0].destination.ports[0]: "90:80" ends before it begins: write 80:90']],
    ['a range with a dash', ['action: Allow', 'protocol: TCP', 'destination: {ports: ["80-90"]}'], ['8: spec.ingress[0].destination.ports[0]: "80-90": write a range as 80:90']],
    ['ICMP fields without ICMP', ['action: Allow', 'protocol: TCP', 'icmp: {type: 8}'], ['8: spec.ingress[0].icmp: needs protocol: ICMP or ICMPv6 in the same rule']],
    ['an ICMP code without type', ['action: Allow', 'protocol: ICMP', 'icmp: {code: 1}'], ['8: spec.ingress[0].icmp.code: an ICMP code needs a type: add it']],
    ['ICMPv6 of IPv4', ['action: Allow', 'protocol: ICMPv6', 'ipVersion: 4'], ['8: spec.ingress[0].ipVersion: ICMPv6 is of IP version 6']],
    ['both families', ['action: Allow', 'source: {nets: [10.0.0.0/8, "fd00::/8"]}'], ['7: spec.ingress[0].source.nets[1]: is a range of IPv6, but a rule cannot have both families: make it two rules']],
    ['a range not of the version', ['action: Allow', 'ipVersion: 6', 'source: {notNets: [10.0.0.0/8]}'], ['8: spec.ingress[0].source.notNets[0]: is a range of IPv4, but ipVersion is 6: make it two rules']],
    ['global() as a selector', ['action: Allow', 'source: {selector: global()}'], ['7: spec.ingress[0].source.selector: global() can be used in a namespaceSelector only']],
    ['global() with others', ['action: Allow', 'source: {namespaceSelector: global() || has(a)}'], ['7: spec.ingress[0].source.namespaceSelector: global() cannot be combined with other selectors']],
    ['a field of another kind', ['action: Allow', 'from: []'], ['7: spec.ingress[0].from: unknown field: there is action, ipVersion, protocol, notProtocol, icmp, notICMP, source, destination, http and metadata']],
    ['an empty entry', ['action: Allow', 'source: {nets: [~]}'], ['7: spec.ingress[0].source.nets[0]: an entry of a list is empty: remove it']],
    ['service accounts', ['action: Allow', 'source: {serviceAccounts: {names: [a]}}'], ["note 7: spec.ingress[0].source.serviceAccounts: serviceAccounts are of Kubernetes, and no container of Docker's has one: a Deny rule is applied without them, any other matches nothing"]],
    ['protocols in any case, numbers, names of ports', ['action: Allow', 'protocol: tcp', 'destination: {ports: [http, 0, "1:2", "443"]}'], []],
  ])('a rule: %s', (_name, lines, wrong) => expect(rule(...lines)).toEqual(wrong)); // prettier-ignore

  test.each<[string, string, string[], string[]]>([
    ['an order in quotes', 'GlobalNetworkPolicy', ['order: "10"'], ['5: spec.order: "10" is no number: take it out of the quotes']],
    ['a type twice', 'GlobalNetworkPolicy', ['types: [Ingress, Ingress]'], ['5: spec.types[1]: Ingress is there twice']],
    ['doNotTrack', 'GlobalNetworkPolicy', ['doNotTrack: true'], ['5: spec.doNotTrack: is for host endpoints, which this driver does not have: take it out, or apply the policy with calicoctl for hosts with a Felix']],
    ['preDNAT', 'GlobalNetworkPolicy', ['preDNAT: true', 'applyOnForward: true'], ['5: spec.preDNAT: is for host endpoints, which this driver does not have: take it out, or apply the policy with calicoctl for hosts with a Felix']],
    ['a field of global policies', 'NetworkPolicy', ['preDNAT: false'], ['5: spec.preDNAT: unknown field: there is tier, order, selector, types, ingress, egress, serviceAccountSelector and performanceHints']],
    ['a tier that is no name', 'NetworkPolicy', ['tier: a.b'], ['5: spec.tier: "a.b" is no name of a tier: at most 63 lower-case letters, digits and "-"']],
    ['a tier action', 'Tier', ['defaultAction: Allow'], ['5: spec.defaultAction: "Allow" is none of Deny, Pass']],
    ['an AS number', 'Node', ['bgp: {asNumber: 70000.1}'], ['5: spec.bgp.asNumber: 70000.1 is no AS number: from 0 to 4294967295, or two of 16 bits like 1.10']],
    ['an address of the other family', 'Node', ['bgp: {ipv4Address: "fd00::1/64"}'], ['5: spec.bgp.ipv4Address: "fd00::1/64" is no IPv4 address, with or without the length of its subnet\'s prefix']],
    ['an empty group', 'Node', ['bgp: {}'], ['5: spec.bgp: is empty: take it out']],
    ['a range', 'GlobalNetworkSet', ['nets: [10.0.0.1/8]'], ['5: spec.nets[0]: 10.0.0.1/8 has bits set right of its prefix length: write 10.0.0.0/8']],
    ['single addresses', 'NetworkSet', ['nets: [10.0.0.1, "fd00::1"]'], []],
    ['a reservation', 'IPReservation', ['reservedCIDRs: [10.0.0.300]'], ['5: spec.reservedCIDRs[0]: "10.0.0.300" is no range of addresses: write one like 192.0.2.0/24 or 2001:db8::/64']],
    ['no blocks at all', 'IPAMConfiguration', ['autoAllocateBlocks: false'], ['5: spec.autoAllocateBlocks: without blocks of its own and without strictAffinity a host would only borrow: set strictAffinity: true, or leave this out', '3: metadata.name: there is only one, and its name is default']],
  ])('%s (%s)', (_name, _kind, spec, wrong) => expect(ofSpec(_kind, ...spec)).toEqual(wrong)); // prettier-ignore

  test.each<[string, string, string[]]>([
    ['no apiVersion', 'kind: Tier\nmetadata: {name: a}', ['f.yaml:1: apiVersion: is missing: write projectcalico.org/v3']],
    ['of Calico 2', 'apiVersion: v1\nkind: Tier\nmetadata: {name: a}', ["f.yaml:1: apiVersion: v1 is Calico's before version 3: write the resource anew for projectcalico.org/v3"]],
    ['of Kubernetes', 'apiVersion: crd.projectcalico.org/v1\nkind: Tier\nmetadata: {name: a}', ['f.yaml:1: apiVersion: this is how Kubernetes keeps it, not how it is applied: write projectcalico.org/v3']],
    ['another kind', 'apiVersion: projectcalico.org/v3\nkind: BGPPeer', ['f.yaml:2: kind: "BGPPeer" is no kind that this command looks after: IPPool, IPReservation, IPAMConfiguration, Node, Profile, GlobalNetworkPolicy, NetworkPolicy, Tier, GlobalNetworkSet, NetworkSet, WorkloadEndpoint']],
    ['no metadata', 'apiVersion: projectcalico.org/v3\nkind: Tier', ['f.yaml:1: metadata: is missing']],
    ['no name', 'apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata:\n  labels: {a: b}', ['f.yaml:3: metadata.name: is missing']],
    ['a name in upper case', 'apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: My_Pool}\nspec: {cidr: 10.0.0.0/8}', ['f.yaml:3: metadata.name: "My_Pool" is no name: lower-case letters, digits, "-" and ".", beginning and ending with a letter or digit']],
    ['a name with a slash', 'apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: a/b}', ['f.yaml:3: metadata.name: "a/b" is no name of a Docker network: letters, digits, "_", "." and "-", beginning with a letter or digit']],
    ["Docker's alphabet in profiles", 'apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: My_net.1}\nspec: {labelsToApply: {My_net.1: ""}}', []],
    ['a namespace without containers', 'apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: a, namespace: default}\nspec: {}', ["note f.yaml:3: metadata.namespace: a policy of namespace default selects no container of Docker's: these are in libnetwork"]],
    ['a namespace for what has none', 'apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: a, namespace: b}', ['f.yaml:3: metadata.namespace: Tier resources have no namespace: take it out']],
    ['a number as a label', 'apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata:\n  name: a\n  labels:\n    version: 1.2', ['f.yaml:6: metadata.labels.version: 1.2 is no text: put it in quotes']],
    ["Calico's own label", 'apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata:\n  name: a\n  labels: {projectcalico.org/namespace: b}', ['f.yaml:5: metadata.labels.projectcalico.org/namespace: Calico sets this label by itself: leave it out, and say metadata.namespace']],
    ['a field beside spec', 'apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: a}\nspecs: {}', ['f.yaml:4: specs: unknown field: there is kind, apiVersion, metadata, spec and status']],
    ['a name with a blank', 'apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: a}\n" spec": {}', ['f.yaml:4: " spec": unknown field: there is kind, apiVersion, metadata, spec and status']],
    ['a list instead of a resource', 'apiVersion: projectcalico.org/v3\nkind: TierList\nitems: [5]', ['f.yaml:3: 5 is no resource: it has kind, apiVersion, metadata and spec']],
    ['__proto__ is a field like any other', 'apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: a}\nspec:\n  __proto__: {order: 1}', ['f.yaml:5: spec.__proto__: unknown field: there is order and defaultAction']],
  ])('%s', (_name, text, wrong) => expect(complaints(text)).toEqual(wrong)); // prettier-ignore
});

it('a selector that is none: the place, what is wrong, and an example', () => {
  const [line] = ofSpec('GlobalNetworkPolicy', 'order: 1', 'selector: role = "x"');
  expect(line).toMatch(
    /^6: spec\.selector: .*role = "x".*: a selector is, for instance, role == "db" && has\(env\)$/,
  );
});

describe('what other tools write is accepted', () => {
  it("calicoctl's output: uid, revision, time, annotations, an empty status", () => {
    expect(
      complaints(`
apiVersion: projectcalico.org/v3
items:
- apiVersion: projectcalico.org/v3
  kind: Node
  metadata:
    annotations: {projectcalico.org/kube-labels: '{"a":"b"}'}
    creationTimestamp: "2026-08-22T06:33:20Z"
    name: node-1
    resourceVersion: "1412"
    uid: 5f3a1c0e-6f0e-4a58-9a57-2d3b5a2f7c11
  spec:
    addresses: [{address: 10.0.0.1/24, type: CalicoNodeIP}, {address: 10.0.0.1, type: InternalIP}]
    bgp: {ipv4Address: 10.0.0.1/24, ipv4IPIPTunnelAddr: 192.168.9.65}
    orchRefs: [{nodeName: node-1, orchestrator: k8s}]
  status: {}
- apiVersion: projectcalico.org/v3
  kind: IPPool
  metadata: {creationTimestamp: null, name: default-ipv4-ippool}
  spec: {allowedUses: [Workload, Tunnel], blockSize: 26, cidr: 192.168.0.0/16, ipipMode: Never, natOutgoing: true, nodeSelector: all(), vxlanMode: CrossSubnet}
kind: NodeList
metadata: {resourceVersion: "1500"}
---
# only a remark
---
- {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: security}, spec: {order: 100.5}}
`),
    ).toEqual([]);
  });

  it('JSON, and long integers without loss', () => {
    const [document] = parseYamlDocuments('{"a": 1692000000123456789, "b": [true, null, 1.5, "1"]}', 'f');
    expect(document?.value).toEqual({ a: 1692000000123456789n, b: [true, null, 1.5, '1'] });
  });

  it('anchors and aliases', () => {
    const text = 'a: &x {n: 1}\nb: *x\nc: [*x]';
    expect(parseYamlDocuments(text, 'f')[0]?.value).toEqual({ a: { n: 1 }, b: { n: 1 }, c: [{ n: 1 }] });
  });
});

describe('what cannot be a file of resources is refused, at once', () => {
  const bomb = [
    'a0: &a0 [x, x, x, x, x, x, x, x, x, x]',
    ...Array.from({ length: 9 }, (_, n) => `a${n + 1}: &a${n + 1} [${Array(10).fill(`*a${n}`).join()}]`),
  ].join('\n');

  test.each<[string, string, string]>([
    ['an alias bomb', bomb, 'f:6: more than 200000 values, counting what aliases (*name) repeat'],
    ['an alias of what is around it', 'a: &x\n  b: *x', 'f:2: *x stands for nothing that is above it'],
    ['a name twice', 'kind: a\nspec:\n  b: 1\n  b: 2', 'f:4: b is there twice: remove one'],
    ['nested deep', `a: ${'['.repeat(70)}${']'.repeat(70)}`, 'f:1: more than 64 groups and lists in one another'],
    ['more than a megabyte', `a: ${'x'.repeat(1_048_576)}`, 'f: has more than 1 MB: split it into several files'],
    ['a group as a name', '? {a: 1}\n: 2', 'f:1: the name of a field is no text: put it in quotes'],
  ])('%s', (_name, text, message) => expect(() => parseYamlDocuments(text, 'f')).toThrow(message)); // prettier-ignore

  test.each<[string, string]>([
    ['a tab', 'a:\n\tb: 1'],
    ['an open quote', 'a: "b\nc: 1'],
    ['an open bracket', 'a: [1, 2\n'],
    ['a binary file', 'a: \u0000\u0001'],
  ])('no YAML: %s', (_name, text) => expect(() => parseYamlDocuments(text, 'f')).toThrow(/^f:\d+: this is no YAML: /)); // prettier-ignore

  it.each([
    ['a hundred thousand brackets', '['.repeat(100_000)],
    ['sixty thousand names', Array.from({ length: 60_000 }, (_, n) => `k${n}: 1`).join('\n')],
    ['a hundred thousand dashes', '- '.repeat(100_000)],
  ])('%s take no longer than a moment', (_name, text) => {
    const began = Date.now();
    try {
      parseYamlDocuments(text, 'f');
    } catch (error) {
      expect(String(error)).toMatch(/nested too deep|in one another|no YAML/);
      expect(String(error)).not.toContain('call stack');
    }
    expect(Date.now() - began).toBeLessThan(20_000);
  });
});
