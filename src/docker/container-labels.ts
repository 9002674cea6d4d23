import type { Logger } from 'pino';
import { withDeadline, withoutDeadline } from '../deadline.js';
import { reason } from '../errors.js';
import type { WorkloadEndpoint } from '../model/workload-endpoint.js';
import type { DockerContainer, DockerEngine } from './engine.js';

/** A container's label `org.projectcalico.label.role=db` is the label `role=db` of its endpoints. */
const PREFIX = 'org.projectcalico.label.';
/** dockerd announces a connection before its list of containers shows it: milliseconds between looks, and looks. */
const POLL = 20;
const POLLS = 250;

export interface LabelledEndpoints {
  /** The endpoints of this node. */
  own(): readonly WorkloadEndpoint[];
  change(endpointId: string, change: { labels: Readonly<Record<string, string>> }): Promise<void>;
}

/**
 * Copies container labels onto endpoints. Which container an endpoint belongs to is learned from the connect event that
 * follows Join, and from Docker's list of containers, which takes no lock of a starting one: nothing waits for it.
 */
export class ContainerLabels {
  constructor(
    private readonly engine: DockerEngine,
    private readonly endpoints: LabelledEndpoints,
    private readonly log: Logger,
  ) {}

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

  /** Copies all labels: at start, and when dockerd was away. */
  async copyAll(): Promise<void> {
    for (const container of await this.engine.containers()) await this.copy(container);
  }

  private async follow(containerId: string, networkId: string): Promise<void> {
    for (let poll = 0; poll < POLLS; poll += 1) {
      const container = await this.engine.container(containerId);
      // Gone already, or nothing to copy: most containers.
      if (!container || Object.keys(calicoLabels(container)).length === 0) return;
      const isListed = container.endpoints.some(
        endpoint =>
          endpoint.networkId === networkId && (endpoint.endpointId !== '' || endpoint.addresses.length > 0),
      );
      if (isListed) return this.copy(container);
      await new Promise(resolve => setTimeout(resolve, POLL).unref());
    }
  }

  private async copy(container: DockerContainer): Promise<void> {
    const labels = calicoLabels(container);
    for (const listed of container.endpoints) {
      const endpoint = this.endpoints
        .own()
        .find(
          ({ endpointId, networkId, addresses }) =>
            endpointId === listed.endpointId ||
            (networkId === listed.networkId && listed.addresses.some(address => addresses.includes(address))),
        );
      if (!endpoint || sameLabels(endpoint.labels, labels)) continue;
      await withDeadline(10_000, () => this.endpoints.change(endpoint.endpointId, { labels }));
    }
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
