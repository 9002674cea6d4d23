import type { Command } from './command.js';

const RESOURCES = "Resources, as calicoctl's";
const IPAM = 'Addresses';
const CLUSTER = 'Hosts, networks and endpoints';
const POLICY = 'Policy';

/** Every command beside `serve`. */
export const COMMANDS: readonly Command[] = [
  // prettier-ignore
  { group: RESOURCES, name: 'apply', usage: '-f FILE|- [-n NAMESPACE]', help: 'create what is in the file, or change it', example: 'calico-libnetwork apply -f pools.yaml', load: () => import('./apply.js') },
  // prettier-ignore
  { group: RESOURCES, name: 'create', usage: '-f FILE|- [-n NAMESPACE] [--skip-exists]', help: 'create what is in the file', example: 'calico-libnetwork create -f policy.yaml', load: () => import('./create.js') },
  // prettier-ignore
  { group: RESOURCES, name: 'replace', usage: '-f FILE|- [-n NAMESPACE]', help: 'change what is in the file and exists; with a resourceVersion, only if nobody else has', example: 'calico-libnetwork get ippool my-pool -o yaml | sed s/natOutgoing:.*/natOutgoing:\\ false/ | calico-libnetwork replace -f -', load: () => import('./replace.js') },
  // prettier-ignore
  { group: RESOURCES, name: 'delete', usage: 'KIND NAME… | -f FILE|- [-n NAMESPACE] [--skip-not-exists] [--force]', help: 'delete by name or by file; a pool that is in use only with --force', example: 'calico-libnetwork delete globalnetworkpolicy allow-web', load: () => import('./delete.js') },
  // prettier-ignore
  { group: RESOURCES, name: 'get', usage: 'KIND [NAME…] | -f FILE|- [-n NAMESPACE | -a] [-o table|wide|yaml|json]', help: 'show resources of a kind', example: 'calico-libnetwork get ippools -o wide', load: () => import('./get.js') },
  // prettier-ignore
  { group: IPAM, name: 'ipam check', usage: '[--fix]', help: 'look for contradictions in the whole datastore, and repair what is safe', example: 'calico-libnetwork ipam check --fix', load: () => import('./ipam-check.js') },
  // prettier-ignore
  { group: IPAM, name: 'ipam show', usage: '[--show-blocks | --ip=ADDRESS | --show-configuration] [-o table|wide|yaml|json]', help: 'how much of each pool is in use; or who has an address', example: 'calico-libnetwork ipam show --ip=192.0.2.7', load: () => import('./ipam-show.js') },
  // prettier-ignore
  { group: IPAM, name: 'ipam release', usage: '--ip=ADDRESS [--force]', help: 'free an address that a host left behind; one that is in use only with --force', example: 'calico-libnetwork ipam release --ip=192.0.2.7', load: () => import('./ipam-release.js') },
  // prettier-ignore
  { group: IPAM, name: 'ipam configure', usage: '[--strictaffinity=BOOL] [--autoallocate=BOOL] [--max-blocks-per-host=N]', help: 'whether hosts take addresses from blocks of others, and how many blocks they may have', example: 'calico-libnetwork ipam configure --strictaffinity=true', load: () => import('./ipam-configure.js') },
  // prettier-ignore
  { group: CLUSTER, name: 'network ls', usage: '[-o table|wide|yaml|json]', help: 'calico networks, and the hosts that have them', example: 'calico-libnetwork network ls', load: () => import('./network-ls.js') },
  // prettier-ignore
  { group: CLUSTER, name: 'endpoint ls', usage: '[--node NAME] [-o table|wide|yaml|json]', help: 'endpoints of all hosts: container (of this host), addresses, published ports', example: 'calico-libnetwork endpoint ls -o wide', load: () => import('./endpoint-ls.js') },
  // prettier-ignore
  { group: CLUSTER, name: 'node status', usage: '[-o table|wide|yaml|json]', help: 'which hosts are alive, and how this one reaches them', example: 'calico-libnetwork node status', load: () => import('./node-status.js') },
  // prettier-ignore
  { group: CLUSTER, name: 'node remove', usage: 'NAME [--dry-run]', help: 'free all that a dead host held', example: 'calico-libnetwork node remove worker-3', load: () => import('./node-remove.js') },
  // prettier-ignore
  { group: CLUSTER, name: 'node cleanup', usage: '', help: 'take off this host what the daemon leaves on it when it ends, once no container uses it', example: 'calico-libnetwork node cleanup', load: () => import('./node-cleanup.js') },
  // prettier-ignore
  { group: CLUSTER, name: 'doctor', usage: '[-o json]', help: 'look for what goes wrong in practice, and say what to do about it', example: 'calico-libnetwork doctor', load: () => import('./doctor.js') },
  // prettier-ignore
  { group: POLICY, name: 'policy explain', usage: 'FROM TO PROTO/PORT [--published]', help: "say why a packet is allowed or denied, rule by rule; PORT is the container's, --published where it comes by a published port", example: 'calico-libnetwork policy explain web db tcp/3306', load: () => import('./policy-explain.js') },
];
