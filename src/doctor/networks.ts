import { nameDiffers, nameTaken } from '../agent/network-sync.js';
import { SHARED_NETWORKS_PREFIX } from '../datastore/keys.js';
import { isCalicoDriver } from '../docker/defined-network.js';
import type { DefinedNetwork } from '../docker/defined-network.js';
import { parseSharedNetwork } from '../model/shared-network.js';
import type { SharedNetwork } from '../model/shared-network.js';
import { ok, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

/** Docker here has the networks of the cluster, as they are elsewhere. One round trip. */
export const networks: Check<Pick<Subject, 'config' | 'store' | 'docker'>> = {
  name: 'networks',
  async look({ config, store, docker }) {
    if (!config.syncNetworks) return [ok('each host has its own (CALICO_LIBNETWORK_SYNC_NETWORKS=false)')];
    const { entries } = await store().list(SHARED_NETWORKS_PREFIX);
    const shared = entries.flatMap(({ value }) => parseSharedNetwork(value) ?? []);
    return judgeNetworks(shared, (await docker()).networks);
  },
};

/** `here`: all of Docker's, whatever their driver. */
export function judgeNetworks(shared: readonly SharedNetwork[], here: readonly DefinedNetwork[]): Verdict[] {
  const wanted = shared.filter(({ removed }) => !removed);
  const found = wanted.flatMap(network => {
    const copies = here.filter(({ name }) => name === network.name);
    const copy = copies.find(isOurs) ?? copies[0];
    if (!copy)
      return warning(
        `network ${network.name} of the cluster, made on ${network.createdBy}, is not on this host`,
        "it is made within a second; if it is not, the daemon's log says why",
      );
    const conflict = isOurs(copy) ? nameDiffers(network, copy) : nameTaken(network, copy);
    return conflict ? warning(conflict.text, conflict.remedy) : [];
  });
  return found.length > 0 ? found : [ok(`${wanted.length} of the cluster, and this host has them all`)];
}

function isOurs({ driver, isPlain }: DefinedNetwork): boolean {
  return isPlain && isCalicoDriver(driver);
}
