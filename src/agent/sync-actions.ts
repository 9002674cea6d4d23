import type { Logger } from 'pino';
import { DockerRefusal } from '../docker/call.js';
import { createRequest } from '../docker/defined-network.js';
import type { DriverNames } from '../docker/defined-network.js';
import type { DockerEngine } from '../docker/engine.js';
import type { SharedNetwork } from '../model/shared-network.js';
import type { HereNetwork, SharedEntry, SyncAction, SyncView } from './network-sync.js';
import type { SharedNetworks } from './shared-networks.js';
import type { SyncMemory } from './sync-memory.js';

export interface SyncActionParts {
  readonly engine: Pick<DockerEngine, 'createNetwork' | 'removeNetwork'>;
  readonly shared: Pick<SharedNetworks, 'share' | 'bury' | 'forget'>;
  readonly memory: SyncMemory;
  readonly log: Logger;
  /** What Docker here calls our driver. */
  readonly driver: string;
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** Tells a person, once for each key. */
  report(key: string, network: string, text: string): void;
}

/** An action that changes something. */
export type SyncChange = Exclude<SyncAction, { kind: 'wait' | 'report' }>;

/**
 * Does what was decided, and remembers it. Safe to repeat; changes only what is as it was seen. Throws what Docker or the
 * datastore say.
 */
export async function carryOutSync(
  parts: SyncActionParts,
  action: SyncChange,
  view: SyncView,
): Promise<void> {
  const { engine, shared, memory, log, now } = parts;
  switch (action.kind) {
    case 'share': {
      const { id, name } = action.network;
      // Before it is written: what seems to fail may yet arrive, even after the network has been removed.
      memory.isCopy(id, name, id);
      const uid = await shared.share(action.network, action.replaces);
      if (uid === undefined) return memory.isNoCopy(id);
      memory.isCopy(id, name, uid);
      if (uid !== id) return;
      return log.info({ network: name }, 'network goes to all hosts');
    }
    case 'create':
      return create(parts, action.shared, view);
    case 'remove': {
      const { network, why } = action;
      memory.isNoCopy(network.id);
      await engine.removeNetwork(network.id);
      return log.info({ network: network.name, why }, 'removed a network from this host');
    }
    case 'give up': {
      const { uid, name } = action.shared;
      memory.unmakeable.add(uid);
      memory.isNoCopy(action.network.id);
      parts.report(uid, name, cannotMake(action.shared));
      return engine.removeNetwork(action.network.id);
    }
    case 'keep':
      return memory.keep(action.shared.uid);
    case 'bury':
      memory.telling(action.shared.uid, now());
      await shared.bury(action.shared);
      return log.info({ network: action.shared.name }, 'network was removed here: it goes from all hosts');
    case 'forget':
      return shared.forget(action.shared);
  }
}

async function create(
  { engine, memory, log, now, driver }: SyncActionParts,
  { name, uid, createdBy, definition }: SharedEntry,
  view: SyncView,
): Promise<void> {
  memory.asking(name, uid, now());
  let id: string;
  try {
    id = await engine.createNetwork(createRequest(name, definition, driverNames(view.here, driver)));
  } catch (error) {
    // Else it may yet come to be.
    if (error instanceof DockerRefusal) memory.refused(name);
    throw error;
  }
  memory.made(name, id, uid, now());
  if (memory.kept.delete(uid))
    return log.warn({ network: name }, 'put a network back that was pruned here: other hosts use it');
  if (view.hadHere.has(name))
    return log.warn({ network: name }, 'put a network back that Docker has lost, or that was removed unseen');
  log.info({ network: name, createdBy }, 'made a network of the cluster on this host');
}

function cannotMake({ name, createdBy }: SharedNetwork): string {
  return `network ${name} of the cluster, made on ${createdBy}, cannot be made here: this Docker makes something else of the same request, because it is older or has options of its own for networks (default-network-opts)`;
}

/** A managed plugin is both drivers under one name, with a tag. A network that has such names tells, too. */
function driverNames(here: readonly HereNetwork[], driver: string): DriverNames {
  if (driver !== 'calico') return { driver, ipamDriver: driver };
  const example = here.find(network => network.isOurs && network.driver.includes(':'));
  return example ? { driver: example.driver, ipamDriver: example.ipamDriver } : { driver };
}
