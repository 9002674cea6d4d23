import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { aliveKey, ownerKey } from '../datastore/keys.js';
import { isObject, parseJson } from '../model/json.js';
import type { CalicoNode } from '../model/node.js';
import { parsePresence } from '../model/presence.js';
import type { HostPresence } from '../model/presence.js';
import { ok, problem, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

/** The name is this host's alone, and its only one. Three round trips. */
export const name: Check<Subject> = {
  name: 'node name',
  async look({ config, store, nodes, daemon, netlink }) {
    const { nodeName: node, stateDir } = config;
    const [alive, owner, known] = await Promise.all([
      store().get(aliveKey(node)),
      store().get(ownerKey(node)),
      nodes(),
    ]);
    const facts: NameFacts = {
      node,
      id: ownId(stateDir),
      presence: alive && parsePresence(alive.value),
      owner: owner && idIn(owner.value),
      isServing: daemon !== undefined,
    };
    return [
      judgeName(facts),
      judgeAddresses(node, known, new Set((await netlink.addresses()).map(({ address }) => address))),
    ];
  },
};

/** What tells whose a name is. Ids are random, one for each host. */
export interface NameFacts {
  readonly node: string;
  /** Of this host; undefined where no daemon has ever run. */
  readonly id: string | undefined;
  /** Of the live host that has the name. */
  readonly presence: HostPresence | undefined;
  /** Of the host whose the name's containers and addresses are. */
  readonly owner: string | undefined;
  /** A daemon runs on this host. */
  readonly isServing: boolean;
}

export function judgeName({ node, id, presence, owner, isServing }: NameFacts): Verdict {
  const rename = 'give one of the two another name with NODENAME, and restart its daemon';
  if (presence && presence.id !== id)
    return problem(`another live host calls itself ${node}, since ${presence.since}`, rename);
  if (owner !== undefined && owner !== id)
    return problem(
      `the datastore has containers of another host called ${node}`,
      `${rename}; or, if that host is gone for good: calico-libnetwork node remove ${node}`,
    );
  if (!presence && isServing)
    return problem(
      `etcd has no sign of life of ${node}, although a daemon runs here`,
      "see that doctor and daemon have the same NODENAME and ETCD_ENDPOINTS, and look at the daemon's log",
    );
  return ok(`${node} is this host's name alone${presence ? '' : '; no daemon runs'}`);
}

/** `onHost`: what this host's interfaces have. */
export function judgeAddresses(
  node: string,
  nodes: readonly CalicoNode[],
  onHost: ReadonlySet<string>,
): Verdict {
  const own = nodes.find(({ name }) => name === node);
  const addresses = Object.values(own?.addresses ?? {}).map(({ address }) => address);
  if (!own)
    return warning(`there is no Node ${node} in the datastore`, 'start the daemon, which registers it');
  const twins = nodes.filter(
    other =>
      other.name !== node &&
      Object.values(other.addresses).some(({ address }) => addresses.includes(address)),
  );
  if (twins.length > 0)
    return warning(
      `${twins.map(({ name }) => name).join(', ')} and ${node} have the same address: other hosts cannot tell them apart`,
      `if this host was renamed: calico-libnetwork node remove ${twins[0]?.name ?? ''}; else set IP on one of them`,
    );
  const nowhere = addresses.filter(address => !onHost.has(address));
  if (nowhere.length > 0)
    return warning(
      `Node ${node} says ${nowhere.join(', ')}, which no interface of this host has: others send there what is for its containers`,
      'unless something in between translates it: correct IP, or set IP=autodetect, and restart the daemon',
    );
  return ok(`Node ${node} has the address ${addresses.join(', ') || 'of none'}; no other has it`);
}

function ownId(stateDir: string): string | undefined {
  try {
    return readFileSync(join(stateDir, 'host-id'), 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}

function idIn(text: string): string | undefined {
  try {
    const value = parseJson(text);
    return isObject(value) && typeof value.id === 'string' ? value.id : undefined;
  } catch {
    return undefined;
  }
}
