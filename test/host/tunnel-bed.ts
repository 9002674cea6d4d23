import type { Tunnel, TunnelPeer } from '../../src/host/peers.js';
import type { Namespace, PretendHost } from './pretend-host.js';

/** Calico's VXLAN between a pretend host and what is outside. */

export const TUNNEL: Tunnel = { address: '10.65.0.0', mac: '66:00:00:00:00:01', host: '198.51.100.1' };
export const PEER: TunnelPeer = { address: '10.65.0.64', mac: '66:00:00:00:00:02', host: '198.51.100.2' };
export const TUNNEL6: Tunnel = { address: 'fd65::', mac: '66:00:00:00:06:01', host: '2001:db8::1' };
export const PEER6: TunnelPeer = { address: 'fd65::40', mac: '66:00:00:00:06:02', host: '2001:db8::2' };

/** The other host's side, by hand; `at`: its address outside, by family. */
export async function far(outside: Namespace, at = { 4: PEER.host, 6: PEER6.host }): Promise<void> {
  await outside.all([
    `ip link add vxlan.calico address 66:00:00:00:00:02 type vxlan id 4096 dstport 4789 local ${at[4]} nolearning`,
    'ip addr add 10.65.0.64/32 dev vxlan.calico',
    'ip link set vxlan.calico up mtu 1450',
    'ip neigh add 10.65.0.0 lladdr 66:00:00:00:00:01 dev vxlan.calico',
    'bridge fdb append 66:00:00:00:00:01 dst 198.51.100.1 dev vxlan.calico',
    'ip route add 10.65.0.0/26 via 10.65.0.0 dev vxlan.calico onlink',
    `ip link add vxlan-v6.calico address 66:00:00:00:06:02 type vxlan id 4096 dstport 4789 local ${at[6]} nolearning`,
    'ip addr add fd65::40/128 dev vxlan-v6.calico nodad',
    'ip link set vxlan-v6.calico up mtu 1430',
    'ip -6 neigh add fd65:: lladdr 66:00:00:00:06:01 dev vxlan-v6.calico',
    'bridge fdb append 66:00:00:00:06:01 dst 2001:db8::1 dev vxlan-v6.calico',
    'ip route add fd65::/122 via fd65:: dev vxlan-v6.calico onlink',
  ]);
}

export async function near(host: PretendHost): Promise<void> {
  await host.call('tunnel', 4, TUNNEL, [PEER]);
  await host.call('tunnel', 6, TUNNEL6, [PEER6]);
  await host.call('routeAll', [
    ['10.65.0.64/26', { via: '10.65.0.64', by: 'vxlan' }],
    ['fd65::40/122', { via: 'fd65::40', by: 'vxlan' }],
  ]);
}
