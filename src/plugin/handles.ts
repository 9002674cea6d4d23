/**
 * Handles of our allocations. One allocation, one handle: it says which node and which interface it was made for, and
 * it is there exactly as long as the allocation is. So CreateEndpoint can compare it in its own transaction, and an
 * address freed in between is noticed.
 */

export function endpointHandle(node: string, mac: string, address: string): string {
  return `libnetwork.${node}.${mac.replaceAll(':', '')}.${address}`;
}
