import type { Host } from '../bed/host.js';
import { kernelHas, runningContainers } from '../e2e/seen.js';
import type { SeenContainer } from '../e2e/seen.js';
import { hostInterfaceOf } from '../../src/model/workload-endpoint.js';

/** Milliseconds for which a container has to run until it is asked. */
const SETTLED = 5_000;
/** Pings in a row of which one has to be answered: the machine is busy. */
const PINGS = 3;

/** What a look at the running containers found wrong. */
export interface Faults {
  /** An address that two have, or whose route leads to another than the one who has it. */
  readonly duplicates: readonly string[];
  /** A container that has been up for a while and does not answer. */
  readonly unreachable: readonly string[];
  /** Addresses that were pinged. */
  readonly asked: number;
}

/**
 * Looks at all running containers: each address is one's, its route leads there, and who has been up for a while answers
 * the host. What looks wrong is looked at again: only what both looks show of the same start of a container counts, as
 * Docker tells of one container after another.
 */
export async function faults(host: Host): Promise<Faults> {
  const first = await look(host);
  if (first.wrong.length === 0) return { duplicates: [], unreachable: [], asked: first.asked };
  await new Promise(resolve => setTimeout(resolve, 1_000));
  const second = await look(host);
  const still = second.wrong.filter(each => first.wrong.some(before => before.key === each.key));
  const texts = (kind: Wrong['kind']) => still.filter(each => each.kind === kind).map(each => each.text);
  return { duplicates: texts('duplicate'), unreachable: texts('unreachable'), asked: first.asked };
}

interface Wrong {
  readonly kind: 'duplicate' | 'unreachable';
  /** The same in another look: names the starts of containers and their endpoints. */
  readonly key: string;
  readonly text: string;
}

async function look(host: Host): Promise<{ wrong: Wrong[]; asked: number }> {
  const containers = await runningContainers(host);
  const routes = new Map((await kernelHas(host)).routes.map(line => [line.split(' ')[0] ?? '', line]));
  const settled = containers.filter(({ started }) => Date.now() - Date.parse(started) > SETTLED);
  const questions = settled.flatMap(container =>
    container.endpoints.flatMap(({ endpointId, addresses }) =>
      addresses.map(async (address): Promise<Wrong | undefined> => {
        if (await answers(host, address)) return undefined;
        const text = `${container.name} (up since ${container.started}) does not answer at ${address}`;
        return { kind: 'unreachable', key: `${container.pid} ${endpointId} ${address}`, text };
      }),
    ),
  );
  const unanswered = (await Promise.all(questions)).filter(each => each !== undefined);
  return {
    wrong: [...sharedAddresses(containers), ...astray(settled, routes), ...unanswered],
    asked: questions.length,
  };
}

function sharedAddresses(containers: readonly SeenContainer[]): Wrong[] {
  const holders = new Map<string, string[]>();
  for (const { name, pid, endpoints } of containers)
    for (const { endpointId, addresses } of endpoints)
      for (const address of addresses)
        holders.set(address, [
          ...(holders.get(address) ?? []),
          `${name} (${pid}, ${endpointId.slice(0, 11)})`,
        ]);
  return [...holders].flatMap(([address, who]): Wrong[] =>
    who.length > 1
      ? [
          {
            kind: 'duplicate',
            key: `${address} ${who.join()}`,
            text: `${address} is held by ${who.join(' and ')}`,
          },
        ]
      : [],
  );
}

/** Addresses whose route leads to somebody else. No route at all shows as no answer. */
function astray(containers: readonly SeenContainer[], routes: ReadonlyMap<string, string>): Wrong[] {
  return containers.flatMap(({ name, pid, endpoints }) =>
    endpoints.flatMap(({ endpointId, addresses }) =>
      addresses.flatMap((address): Wrong[] => {
        const route = routes.get(address);
        if (route === undefined || route.endsWith(` ${hostInterfaceOf(endpointId)}`)) return [];
        const text = `${address} of ${name} (${endpointId.slice(0, 11)}) is routed to another: ${route}`;
        return [{ kind: 'duplicate', key: `${pid} ${text}`, text }];
      }),
    ),
  );
}

async function answers(host: Host, address: string): Promise<boolean> {
  for (let attempt = 0; attempt < PINGS; attempt++) {
    const { code } = await host.run(['busybox', 'ping', '-c1', '-W1', address], { check: false });
    if (code === 0) return true;
  }
  return false;
}
