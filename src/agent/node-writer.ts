import { resourceKey } from '../datastore/keys.js';
import type { Mirror } from '../datastore/mirror.js';
import type { Store } from '../datastore/store.js';
import { ConflictError } from '../errors.js';
import { formatChangedNode, formatNewNode, parseNode } from '../model/node.js';
import type { CalicoNode, NodeChange } from '../model/node.js';

/** Others may write the Node at the same time, though seldom. */
const ATTEMPTS = 5;

/** Changes this host's Node in the datastore, where several parts of the daemon and other programs do so. */
export class NodeWriter {
  /** Of the Node. */
  readonly key: string;

  /** `nodes`: of all Nodes; shows what is written at once. */
  constructor(
    private readonly store: Store,
    private readonly node: string,
    private readonly nodes: Mirror<CalicoNode>,
  ) {
    this.key = resourceKey('nodes', node);
  }

  /** The Node as the mirror has it. */
  get known(): CalicoNode | undefined {
    return this.nodes.get(this.key);
  }

  /**
   * Makes the change that `changeOf` answers for the Node as it is now; undefined: none is needed. Two round trips, more
   * where somebody else writes meanwhile. Answers whether it wrote. Throws ConflictError, DatastoreError.
   */
  async write(
    changeOf: (node: CalicoNode | undefined) => Promise<NodeChange | undefined>,
  ): Promise<NodeChange | undefined> {
    const { store, key } = this;
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entry = await store.get(key);
      const change = await changeOf(entry && parseNode(entry.value));
      if (!change) return undefined;
      const value = entry
        ? formatChangedNode(entry.value, change)
        : formatNewNode(this.node, change, new Date());
      // Somebody's garbage: the mirror has said so.
      if (value === undefined) return undefined;
      const result = await store.transact({
        compare: [entry ? { key, is: 'revision', revision: entry.revision } : { key, is: 'absent' }],
        then: [{ put: key, value }],
      });
      if (!result.succeeded) continue;
      this.nodes.observe({ key, value, revision: result.revision });
      return change;
    }
    throw new ConflictError('others write the Node of this host all the time');
  }
}
