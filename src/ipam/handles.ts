/**
 * Handles of our allocations. One allocation, one handle: it says which node and which interface it was made for, and
 * it is there exactly as long as the allocation is. So CreateEndpoint can compare it in its own transaction, and an
 * address freed in between is noticed.
 */

/** `libnetwork.<node>.<mac, 12 digits>.<address>` */
export function endpointHandle(node: string, mac: string, address: string): string {
  return `${endpointHandlePrefix(node)}${mac.replaceAll(':', '')}.${address}`;
}

/** What all endpoint handles of a node begin with; also those of a node whose name goes on with a dot. */
export function endpointHandlePrefix(node: string): string {
  return `libnetwork.${node}.`;
}

/** What {@link endpointHandle} was made of, the MAC in colon form; undefined where the id is not of that form. */
export function parseEndpointHandle(id: string): { node: string; mac: string; address: string } | undefined {
  // A node's name may have dots, and so has an IPv4 address: the MAC between them is the last part that can be one.
  const [, node, mac, address] = /^libnetwork\.(.+)\.([0-9a-f]{12})\.([0-9.]+|[0-9a-f:]+)$/.exec(id) ?? [];
  return node !== undefined && mac !== undefined && address !== undefined
    ? { node, mac: mac.replaceAll(/(..)(?=.)/g, '$1:'), address }
    : undefined;
}
