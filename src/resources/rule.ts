import { parseCidr } from '../ipam/cidr.js';
import { objectOrEmpty, textList } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import type { Path, Say } from './problem.js';
import { anything, group, list, oneOf, required, text } from './shape.js';
import type { Shape } from './shape.js';
import {
  annotations,
  fullCidr,
  icmpNumber,
  ipVersion,
  namespaceSelector,
  port,
  protocol,
  selector,
} from './values.js';

/** A rule of a policy or profile. What does not fit together is what Calico's own validation refuses. */

const icmp: Shape = group({ type: icmpNumber, code: icmpNumber }, (value, at, say) => {
  if (value.code !== undefined && value.type === undefined)
    say({ path: [...at, 'code'], text: 'an ICMP code needs a type: add it' });
});

const SIDES = ['source', 'destination'] as const;
const NETS = ['nets', 'notNets'] as const;
const PORTS = ['ports', 'notPorts'] as const;

const side: Shape = group(
  {
    nets: list(fullCidr),
    notNets: list(fullCidr),
    selector,
    notSelector: selector,
    namespaceSelector,
    ports: list(port),
    notPorts: list(port),
    services: group({ name: required(text()), namespace: text() }),
    serviceAccounts: group({ names: list(text()), selector }),
  },
  (value, at, say) => {
    for (const name of ['services', 'serviceAccounts'])
      if (value[name] !== undefined) say({ path: [...at, name], text: ofKubernetes(name), isNote: true });
  },
);

/** One rule; `direction` as the policy's field is called. */
function rule(direction: 'ingress' | 'egress'): Shape {
  return group(
    {
      action: required(oneOf('Allow', 'Deny', 'Log', 'Pass')),
      ipVersion,
      protocol,
      notProtocol: protocol,
      icmp,
      notICMP: icmp,
      source: side,
      destination: side,
      http: group({ methods: list(text()), paths: list(anything) }),
      metadata: group({ annotations }),
    },
    (value, at, say) => {
      checkPorts(value, at, say);
      checkIcmp(value, at, say);
      checkFamilies(value, at, say);
      if (value.http === undefined) return;
      const path = [...at, 'http'];
      if (direction === 'egress' || value.action !== 'Allow')
        say({ path, text: 'HTTP can be told in Allow rules of ingress only' });
      else
        say({ path, text: 'HTTP needs a proxy of Kubernetes: the rule matches nothing here', isNote: true });
    },
  );
}

export const ingressRules: Shape = list(rule('ingress'));
export const egressRules: Shape = list(rule('egress'));

function checkPorts(value: JsonObject, at: Path, say: Say): void {
  if (['TCP', 'UDP', 'SCTP', 6, 17, 132].some(known => known === value.protocol)) return;
  for (const name of SIDES)
    for (const ports of PORTS)
      if (isFilled(objectOrEmpty(value[name])[ports]))
        say({
          path: [...at, name, ports],
          text: 'ports need a protocol that has them: add protocol: TCP, UDP or SCTP',
        });
}

function checkIcmp(value: JsonObject, at: Path, say: Say): void {
  const isIcmp = (protocol: unknown) => protocol === 'ICMP' || protocol === 'ICMPv6';
  if (value.icmp !== undefined && !isIcmp(value.protocol))
    say({ path: [...at, 'icmp'], text: 'needs protocol: ICMP or ICMPv6 in the same rule' });
  for (const [name, version] of [
    ['ICMP', 4],
    ['ICMPv6', 6],
  ] as const)
    // prettier-ignore
    if ([value.protocol, value.notProtocol].includes(name) && (value.ipVersion ?? version) !== version)
      say({ path: [...at, 'ipVersion'], text: `${name} is of IP version ${version}` });
}

/** All ranges of a rule are of one family, that of `ipVersion` where it is told. */
function checkFamilies(value: JsonObject, at: Path, say: Say): void {
  let family = value.ipVersion;
  for (const name of SIDES)
    for (const nets of NETS)
      for (const [index, net] of textList(objectOrEmpty(value[name])[nets]).entries()) {
        const found = parseCidr(net)?.family;
        family ??= found;
        if (found === family) continue;
        const why =
          value.ipVersion === undefined ? 'a rule cannot have both families' : `ipVersion is ${family}`;
        say({
          path: [...at, name, nets, index],
          text: `is a range of IPv${found}, but ${why}: make it two rules`,
        });
      }
}

function ofKubernetes(name: string): string {
  return `${name} are of Kubernetes, and no container of Docker's has one: a Deny rule is applied without them, any other matches nothing`;
}

function isFilled(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0;
}
