import type { PolicyEndpoint } from '../../src/policy/facts.js';
export function parsePolicyEndpoint(text: string): PolicyEndpoint {
  const { metadata, spec } = JSON.parse(text) as any;
  const addresses = spec.ipNetworks.map((n: string) => n.split('/')[0]);
  const number = (p: string) => (p === 'TCP' ? 6 : 17);
  return {
    node: spec.node,
    interfaceName: spec.interfaceName,
    mac: spec.mac,
    addresses,
    profiles: spec.profiles ?? [],
    labels: metadata.labels,
    namedPorts: (spec.ports ?? [])
      .filter((p: any) => p.name)
      .map((p: any) => ({ name: p.name, protocol: number(p.protocol), port: p.port })),
    published: (spec.ports ?? [])
      .filter((p: any) => p.hostPort)
      .map((p: any) => ({
        address: addresses.find((a: string) => a.includes(':') === p.hostIP.includes(':')),
        protocol: number(p.protocol),
        port: p.port,
      })),
  };
}
