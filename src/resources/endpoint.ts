import { isObject, objectOrEmpty } from '../model/json.js';
import { cell, NAME, specColumn } from './kind.js';
import type { Kind } from './kind.js';
import { egressRules, ingressRules } from './rule.js';
import { anything, group, list, oneOf, required, text } from './shape.js';
import {
  address,
  addressWithLength,
  anyLabels,
  asNumber,
  cidr,
  labels,
  labelsToApply,
  mac,
  wrongName,
  wrongProfileName,
} from './values.js';

/** What has addresses (hosts, endpoints, sets of ranges), and the profiles of endpoints. */

export const node: Kind = {
  kind: 'Node',
  plural: 'nodes',
  aliases: ['node', 'no', 'nos'],
  isNamespaced: false,
  wrongName,
  labels,
  spec: group(
    {
      bgp: group({
        asNumber,
        ipv4Address: addressWithLength(4),
        ipv6Address: addressWithLength(6),
        ipv4IPIPTunnelAddr: address(4),
        routeReflectorClusterID: address(4),
      }),
      ipv4VXLANTunnelAddr: address(4),
      ipv6VXLANTunnelAddr: address(6),
      vxlanTunnelMACAddr: mac,
      vxlanTunnelMACAddrV6: mac,
      orchRefs: list(group({ nodeName: text(), orchestrator: required(text()) })),
      wireguard: group({ interfaceIPv4Address: address(4), interfaceIPv6Address: address(6) }),
      addresses: list(
        group({
          address: required(addressWithLength()),
          type: oneOf('CalicoNodeIP', 'InternalIP', 'ExternalIP'),
        }),
      ),
      interfaces: list(group({ name: text(), addresses: list(addressWithLength()) })),
    },
    (spec, at, say) => {
      if (isObject(spec.bgp) && Object.keys(spec.bgp).length === 0)
        say({ path: [...at, 'bgp'], text: 'is empty: take it out' });
    },
  ),
  hasStatus: true,
  columns: [
    NAME,
    { title: 'ASN', isWide: true, of: ({ spec }) => cell(objectOrEmpty(spec.bgp).asNumber, '(64512)') },
    { title: 'IPV4', of: ({ spec }) => cell(objectOrEmpty(spec.bgp).ipv4Address) },
    { title: 'IPV6', of: ({ spec }) => cell(objectOrEmpty(spec.bgp).ipv6Address) },
    specColumn('VXLAN', 'ipv4VXLANTunnelAddr', '', true),
  ],
};

export const profile: Kind = {
  kind: 'Profile',
  plural: 'profiles',
  aliases: ['profile', 'pro', 'pros'],
  isNamespaced: false,
  wrongName: wrongProfileName,
  labels,
  spec: group({ ingress: ingressRules, egress: egressRules, labelsToApply }),
  columns: [
    NAME,
    { title: 'LABELS', of: ({ spec }) => Object.keys(objectOrEmpty(spec.labelsToApply)).join(',') },
    { title: 'INGRESS', isWide: true, of: ({ spec }) => rules(spec.ingress) },
    { title: 'EGRESS', isWide: true, of: ({ spec }) => rules(spec.egress) },
  ],
};

export const networkSet: Kind = {
  kind: 'NetworkSet',
  plural: 'networksets',
  aliases: ['networkset', 'netset', 'netsets'],
  isNamespaced: true,
  wrongName,
  labels,
  spec: group({ nets: list(cidr) }),
  columns: [NAME, specColumn('NETS', 'nets')],
};

export const globalNetworkSet: Kind = {
  ...networkSet,
  kind: 'GlobalNetworkSet',
  plural: 'globalnetworksets',
  aliases: ['globalnetworkset', 'gns', 'globalnetset', 'globalnetsets'],
  isNamespaced: false,
};

export const workloadEndpoint: Kind = {
  kind: 'WorkloadEndpoint',
  plural: 'workloadendpoints',
  aliases: ['workloadendpoint', 'wep', 'weps'],
  isNamespaced: true,
  readOnly: 'Docker makes and removes endpoints: start or stop the container, or change its labels there',
  wrongName: () => undefined,
  labels: anyLabels,
  spec: anything,
  columns: [
    { ...NAME, isWide: true },
    { title: 'ENDPOINT', of: ({ spec }) => cell(spec.endpoint ?? spec.pod).slice(0, 12) },
    specColumn('NODE', 'node'),
    specColumn('NETWORKS', 'ipNetworks'),
    specColumn('INTERFACE', 'interfaceName'),
    specColumn('PROFILES', 'profiles'),
  ],
};

function rules(value: unknown): string {
  if (!Array.isArray(value)) return '';
  return value.map(rule => cell(objectOrEmpty(rule).action)).join(',');
}
