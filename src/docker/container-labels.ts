import type { Logger } from 'pino';
import { withDeadline, withoutDeadline } from '../deadline.js';
import { reason } from '../errors.js';
import { containerOfSandbox } from '../host/sandbox-container.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import type { DockerContainer, DockerEngine } from './engine.js';

/** A container's label `org.projectcalico.label.role=db` is the label `role=db` of its endpoints. */
const PREFIX = 'org.projectcalico.label.';
/** dockerd announces a connection before its lists show it: milliseconds between looks, and looks. */
const POLL = 20;
const POLLS = 250;
/** Milliseconds that an assumption waits for the event that confirms it. */
const CONFIRMATION = 30_000;

export interface LabelledEndpoints {
  /** Resolves when they have been read once. */
  readonly ready: Promise<void>;
  /** The endpoints of this node. */
  own(): readonly WorkloadEndpoint[];
  get(endpointId: string): Promise<WorkloadEndpoint | undefined>;
  change(endpointId: string, change: { labels: Readonly<Record<string, string>> }): Promise<void>;
}

/** Who waits for labels. */
export interface LabelsAwaited {
  /** Whether an endpoint does. */
  isAwaited(): boolean;
  /** The labels of an endpoint's container are read, and about to be written. */
  read(endpointId: string): void;
  /** They could not be; why, in words. */
  failed(endpointId: string, why: string): void;
  /** The labels of an endpoint are those of its container now. */
  known(endpointId: string): void;
}

/**
 * Copies container labels onto endpoints. Which container an endpoint belongs to is learned from the connect event that
 * follows Join, from Docker's list of the network's endpoints, or from its list of containers. None of these takes a lock of a
 * starting container: nothing waits for it.
 */
export class ContainerLabels {
  /** Resolves when all labels have been copied for the first time, or could not be. */
  readonly copied: Promise<void>;
  private hasCopied: () => void = () => undefined;
  /** The containers of endpoints as their processes tell, until Docker says the same. */
  private readonly assumed = new Map<string, string>();

  constructor(
    private readonly engine: Pick<DockerEngine, 'container' | 'containers' | 'endpoints'>,
    private readonly endpoints: LabelledEndpoints,
    private readonly log: Logger,
    private readonly gate: LabelsAwaited,
    /** The container whose process is in a sandbox. */
    private readonly containerOf: (sandboxKey: string) => string | undefined = containerOfSandbox,
  ) {
    this.copied = new Promise(resolve => (this.hasCopied = resolve));
  }

  /** A container was connected to a network. */
  connected(containerId: string, networkId: string): void {
    withoutDeadline(() => {
      this.follow(containerId, networkId).catch((error: unknown) =>
        this.log.warn(
          { container: containerId, reason: reason(error) },
          'cannot copy the labels of a container',
        ),
      );
    });
  }

  /** An endpoint joined a container, which is known already where its process is there. */
  joined(endpointId: string, sandboxKey: string): void {
    withoutDeadline(() => {
      this.copyTo(endpointId, sandboxKey).catch((error: unknown) =>
        this.log.warn(
          { endpoint: endpointId, reason: reason(error) },
          'cannot copy the labels of a container',
        ),
      );
    });
  }

  private async copyTo(endpointId: string, sandboxKey: string): Promise<void> {
    const containerId = this.containerOf(sandboxKey);
    const container = containerId === undefined ? undefined : await this.engine.container(containerId);
    const endpoint = container && (await this.endpoints.get(endpointId));
    // One that lives in another's network has none of its own; its process is found there all the same.
    if (!endpoint || container.endpoints.length === 0) return;
    await this.write(endpoint, calicoLabels(container));
    this.assumed.set(endpointId, container.id);
    setTimeout(() => this.assumed.delete(endpointId), CONFIRMATION).unref();
  }

  /** Copies all labels: at start, and when dockerd was away. */
  async copyAll(): Promise<void> {
    try {
      const containers = await this.engine.containers();
      await this.endpoints.ready;
      const own = new Map(this.endpoints.own().map(endpoint => [endpoint.endpointId, endpoint]));
      for (const container of containers) await this.copy(container, own);
    } finally {
      this.hasCopied();
    }
  }

  /** Docker cannot be reached: nothing is to be waited for. */
  dockerLost(): void {
    this.hasCopied();
  }

  private async follow(containerId: string, networkId: string): Promise<void> {
    const [confirmed] = [...this.assumed].find(([, assumed]) => assumed === containerId) ?? [];
    if (confirmed !== undefined) {
      this.assumed.delete(confirmed);
      return;
    }
    for (let poll = 0; poll < POLLS; poll += 1) {
      // What was assumed of another may have been meant for this one.
      const isAwaited = this.gate.isAwaited() || this.assumed.size > 0;
      const [container, awaited] = await Promise.all([
        this.engine.container(containerId),
        isAwaited ? this.engine.endpoints(networkId) : undefined,
      ]);
      if (!container) return;
      const labels = calicoLabels(container);
      // Most containers, where there is no policy: nothing to copy, and nobody who waits for it.
      if (!isAwaited && Object.keys(labels).length === 0) return;
      const inNetwork = awaited ?? (await this.engine.endpoints(networkId));
      const its = inNetwork.find(endpoint => endpoint.containerId === containerId);
      const endpoint = its && (await this.endpoints.get(its.endpointId));
      if (endpoint) return this.write(endpoint, labels);
      await new Promise(resolve => setTimeout(resolve, POLL).unref());
    }
  }

  private async copy(container: DockerContainer, own: ReadonlyMap<string, WorkloadEndpoint>): Promise<void> {
    const labels = calicoLabels(container);
    for (const listed of container.endpoints) {
      const endpoint =
        own.get(listed.endpointId) ??
        [...own.values()].find(
          ({ networkId, addresses }) =>
            networkId === listed.networkId && listed.addresses.some(address => addresses.includes(address)),
        );
      if (endpoint) await this.write(endpoint, labels);
    }
  }

  private async write(
    { endpointId, labels: has }: WorkloadEndpoint,
    labels: Readonly<Record<string, string>>,
  ): Promise<void> {
    if (!sameLabels(has, labels)) {
      this.gate.read(endpointId);
      try {
        await withDeadline(10_000, () => this.endpoints.change(endpointId, { labels }));
      } catch (error) {
        this.gate.failed(endpointId, reason(error));
        throw error;
      }
    }
    this.gate.known(endpointId);
  }
}

function calicoLabels({ labels }: DockerContainer): Record<string, string> {
  const ours = Object.entries(labels).filter(
    ([name]) => name.startsWith(PREFIX) && name.length > PREFIX.length,
  );
  return Object.fromEntries(ours.map(([name, value]) => [name.slice(PREFIX.length), value]));
}

/** True where an endpoint has these labels and, beside Calico's own, no others. */
function sameLabels(
  has: Readonly<Record<string, string>>,
  wanted: Readonly<Record<string, string>>,
): boolean {
  const users = Object.entries(has).filter(([name]) => !name.startsWith('projectcalico.org/'));
  return (
    users.length === Object.keys(wanted).length && users.every(([name, value]) => wanted[name] === value)
  );
}
