/** Netlink attributes (struct nlattr) as bytes. Not by the package's encoder: that loses the flag for nested ones. */

/** Marks an attribute that holds others. */
export const NESTED = 0x8000;

/** An attribute, filled up to a multiple of four bytes. */
export function attribute(type: number, data: Buffer): Buffer {
  const bytes = Buffer.alloc((data.length + 7) & ~3);
  bytes.writeUInt16LE(data.length + 4, 0);
  bytes.writeUInt16LE(type, 2);
  data.copy(bytes, 4);
  return bytes;
}

/** An attribute with a name. */
export function textAttribute(type: number, value: string): Buffer {
  return attribute(type, Buffer.from(`${value}\0`, 'latin1'));
}

/** A number as nf_tables has it: 32 bits, network order. */
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value | 0);
  return bytes;
}
