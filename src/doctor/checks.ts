import { daemon } from './daemon.js';
import { docker, order } from './docker.js';
import { clock, etcd } from './etcd.js';
import { felix } from './felix.js';
import type { Check } from './finding.js';
import { firewall, rules } from './firewall.js';
import { forwarding, sources } from './kernel.js';
import { mtu } from './mtu.js';
import { name } from './name.js';
import { discovery, sockets } from './plugin.js';
import { networks } from './networks.js';
import { peers } from './peers.js';
import { pools } from './pools.js';
import { profiles } from './profiles.js';
import { programs } from './programs.js';
import type { Subject } from './subject.js';
import { tls } from './tls.js';

/** Everything that is looked at, in the order it is told. To add a check: a file here, and a place in this list. */
export const CHECKS: readonly Check<Subject>[] = [
  ...[programs, docker, order, daemon, sockets, discovery],
  ...[etcd, tls, clock, name, peers, pools, networks, profiles],
  ...[felix, forwarding, sources, firewall, rules, mtu],
];
