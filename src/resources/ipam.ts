import type { JsonObject } from '../model/json.js';
import { numberOrZero } from '../model/json.js';
import { NAME, specColumn } from './kind.js';
import type { Kind } from './kind.js';
import { bool, group, integer, list, oneOf } from './shape.js';
import { cidr, labels, wrongName } from './values.js';

/** Addresses that are not given out. */
export const ipReservation: Kind = {
  kind: 'IPReservation',
  plural: 'ipreservations',
  aliases: ['ipreservation', 'reservation', 'reservations'],
  isNamespaced: false,
  wrongName,
  labels,
  spec: group({ reservedCIDRs: list(cidr) }),
  columns: [NAME, specColumn('CIDRS', 'reservedCIDRs')],
};

/**
 * Calico's IPAM configuration. In etcd it is not a resource but a value of its own, with other field names:
 * see {@link specOfConfig} and {@link configOfSpec}.
 */
export const ipamConfiguration: Kind = {
  kind: 'IPAMConfiguration',
  plural: 'ipamconfigurations',
  aliases: ['ipamconfiguration', 'ipamconfig', 'ipamconfigs'],
  isNamespaced: false,
  wrongName: name => (name === 'default' ? undefined : 'there is only one, and its name is default'),
  labels,
  spec: group(
    {
      strictAffinity: bool,
      autoAllocateBlocks: bool,
      maxBlocksPerHost: integer(0, 2_147_483_647),
      kubeVirtVMAddressPersistence: oneOf('Enabled', 'Disabled'),
      ipCooldownSeconds: integer(0, 2_147_483_647),
    },
    (spec, at, say) => {
      if (spec.strictAffinity !== true && spec.autoAllocateBlocks === false)
        say({
          path: [...at, 'autoAllocateBlocks'],
          text: 'without blocks of its own and without strictAffinity a host would only borrow: set strictAffinity: true, or leave this out',
        });
      if (spec.strictAffinity !== true && numberOrZero(spec.maxBlocksPerHost) > 0)
        say({
          path: [...at, 'maxBlocksPerHost'],
          text: 'without strictAffinity: true a host that has so many takes addresses from blocks of others',
          isNote: true,
        });
    },
  ),
  complete: spec => ({
    ...spec,
    strictAffinity: spec.strictAffinity ?? false,
    autoAllocateBlocks: spec.autoAllocateBlocks ?? true,
  }),
  columns: [
    NAME,
    specColumn('STRICTAFFINITY', 'strictAffinity'),
    specColumn('AUTOALLOCATEBLOCKS', 'autoAllocateBlocks'),
    specColumn('MAXBLOCKSPERHOST', 'maxBlocksPerHost', '0'),
  ],
};

/** The spec that etcd's value says. A field that is absent there is false, also `auto_allocate_blocks`. */
export function specOfConfig(value: JsonObject): JsonObject {
  const { strict_affinity: strict, auto_allocate_blocks: automatic, ...rest } = value;
  return { ...rest, strictAffinity: strict === true, autoAllocateBlocks: automatic === true };
}

/** etcd's value for a spec. */
export function configOfSpec({ strictAffinity, autoAllocateBlocks, ...rest }: JsonObject): JsonObject {
  return {
    ...rest,
    strict_affinity: strictAffinity === true,
    auto_allocate_blocks: autoAllocateBlocks !== false,
  };
}
