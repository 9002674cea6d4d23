import { overlap, parseCidr } from '../ipam/cidr.js';
import type { Cidr } from '../ipam/cidr.js';
import { BLOCK_SIZES } from '../model/ip-pool.js';
import { textList, textOr } from '../model/json.js';
import type { JsonObject } from '../model/json.js';
import { NAME, specColumn } from './kind.js';
import type { Kind } from './kind.js';
import type { Path, Say } from './problem.js';
import { bool, group, integer, list, oneOf, required } from './shape.js';
import { fullCidr, labels, namespaceSelector, selector, wrongName } from './values.js';

const MODES = ['Never', 'Always', 'CrossSubnet'] as const;
const LINK_LOCAL = ['169.254.0.0/16', 'fe80::/10'];

/** Calico's IPPool. */
export const ipPool: Kind = {
  kind: 'IPPool',
  plural: 'ippools',
  aliases: ['ippool', 'ipp', 'ipps', 'pool', 'pools'],
  isNamespaced: false,
  wrongName,
  labels,
  spec: group(
    {
      cidr: required(fullCidr),
      blockSize: integer(20, 128),
      ipipMode: oneOf(...MODES),
      vxlanMode: oneOf(...MODES),
      natOutgoing: bool,
      disabled: bool,
      disableBGPExport: bool,
      nodeSelector: selector,
      namespaceSelector,
      allowedUses: list(oneOf('Workload', 'Tunnel', 'LoadBalancer')),
      assignmentMode: oneOf('Automatic', 'Manual'),
    },
    checkPool,
  ),
  complete: spec => ({
    ...spec,
    ipipMode: spec.ipipMode ?? 'Never',
    vxlanMode: spec.vxlanMode ?? 'Never',
    blockSize: blockSizeOf(spec),
    nodeSelector: textOr(spec.nodeSelector) || 'all()',
    allowedUses: textList(spec.allowedUses).length > 0 ? spec.allowedUses : ['Workload', 'Tunnel'],
    assignmentMode: spec.assignmentMode ?? 'Automatic',
  }),
  columns: [
    NAME,
    specColumn('CIDR', 'cidr'),
    specColumn('NAT', 'natOutgoing', 'false', true),
    specColumn('IPIPMODE', 'ipipMode', 'Never', true),
    specColumn('VXLANMODE', 'vxlanMode', 'Never', true),
    specColumn('BLOCKSIZE', 'blockSize', '', true),
    specColumn('ASSIGNMENT', 'assignmentMode', 'Automatic', true),
    specColumn('DISABLED', 'disabled', 'false'),
    specColumn('SELECTOR', 'nodeSelector', 'all()'),
  ],
};

/** The prefix length of a pool's blocks; undefined where its range is none. */
export function blockSizeOf(spec: JsonObject): number | undefined {
  const size = spec.blockSize;
  if (typeof size === 'number' && size !== 0) return size;
  const range = rangeOf(spec);
  return range && BLOCK_SIZES[range.family].default;
}

/** The range of a pool; undefined where it has none. */
export function rangeOf(spec: JsonObject): Cidr | undefined {
  return parseCidr(textOr(spec.cidr));
}

function checkPool(spec: JsonObject, at: Path, say: Say): void {
  const range = rangeOf(spec);
  const size = blockSizeOf(spec);
  if (!range || size === undefined) return;
  const wrong = (field: string, text: string) => say({ path: [...at, field], text });
  const { min, max } = BLOCK_SIZES[range.family];
  if (size < min || size > max)
    wrong(
      'blockSize',
      `blocks of an IPv${range.family} pool are from /${min} to /${max}, and this says ${size}`,
    );
  else if (size < range.length && spec.disabled !== true)
    wrong(
      'cidr',
      `a /${range.length} is smaller than one block, a /${size}: make it larger, or set blockSize`,
    );
  const link = LINK_LOCAL.find(text => {
    const other = parseCidr(text);
    return other && overlap(range, other);
  });
  if (link !== undefined) wrong('cidr', `overlaps the link-local addresses ${link}: choose another range`);
  const ipip = spec.ipipMode ?? 'Never';
  const vxlan = spec.vxlanMode ?? 'Never';
  if (ipip !== 'Never' && range.family === 6) wrong('ipipMode', 'IP-in-IP is for IPv4 only: use vxlanMode');
  else if (ipip !== 'Never' && vxlan !== 'Never')
    wrong('ipipMode', 'a pool has either ipipMode or vxlanMode: set one of them to Never');
  else if (ipip !== 'Never')
    say({
      path: [...at, 'ipipMode'],
      text: 'only a Felix encapsulates in IP-in-IP: with the native dataplane, hosts in other subnets need vxlanMode',
      isNote: true,
    });
  const uses = textList(spec.allowedUses);
  if (uses.includes('LoadBalancer') && uses.length > 1)
    wrong('allowedUses', 'LoadBalancer cannot be together with other uses');
}
