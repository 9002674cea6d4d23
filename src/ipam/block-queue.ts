import { blockKey, handleKey } from '../datastore/keys.js';
import type { Compare, Entry, Store, TransactionResult, Write } from '../datastore/store.js';
import { remaining, withDeadline, withoutDeadline } from '../deadline.js';
import { ConflictError, DatastoreError } from '../errors.js';
import { formatBlock, formatHandle, parseHandle } from '../model/block.js';
import type { Block, HandleCounts } from '../model/block.js';
import { bump, collectCooled, isEmpty } from './block.js';
import { formatCidr } from './cidr.js';
import type { Cidr } from './cidr.js';
import type { IpamFacts } from './facts.js';
import { readBlock, UnreadableBlockError } from './read-block.js';

/** etcd takes 128 operations in a transaction; a request needs one for its handle. */
const BATCH = 100;
/** As many as Calico tries. */
const ATTEMPTS = 100;
/** Milliseconds one batch may take. */
const BATCH_DEADLINE = 4_000;

/** What one request does to a block: the block after it, and by how much a handle's count changes. */
export interface Change<T> {
  readonly block: Block;
  readonly handle?: { readonly id: string; readonly by: 1 | -1 };
  readonly result: T;
}

/** One request for a block. */
export interface BlockRequest<T> {
  /** What it does to this state of the block, or the answer where it does nothing. Pure; may run several times. */
  plan(block: Block): Change<T> | { readonly nothing: T };
  /** The answer where the block does not exist. */
  readonly gone: T;
  /** The plan relies on pool and configuration as remembered: they are compared. A release relies on neither. */
  readonly reliesOnFacts?: boolean;
  /** A "nothing" that was decided on a remembered block is good enough; otherwise the block is read first. */
  readonly trustMemory?: boolean;
  /** It is only for this revision of a handle; the answer where the handle is another by now. */
  readonly handle?: { readonly id: string; readonly revision: string; readonly otherwise: T };
  /** True where `block` shows that an earlier try of this request, whose answer was lost, was applied. */
  wasApplied?(block: Block, change: Change<T>): boolean;
  /** Called after the request has failed although `change` may have been, or was, applied. */
  inDoubt?(change: Change<T>): void;
}

interface Job {
  readonly request: BlockRequest<unknown>;
  readonly deadline: number;
  /** What the request does to the block as it is planned now. */
  planned?: Change<unknown>;
  /** The plan was sent to etcd, and no answer has come yet. */
  isSent?: boolean;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

/**
 * The way to one block. It remembers the block as of our last transaction, so the common request is one round trip:
 * a single transaction that compares the block's revision and writes block and handle together. Requests that arrive
 * while one is under way wait, and then travel together in the next: sixteen `docker run`s cost two round trips and
 * no conflict among themselves. Other hosts and other writers are met by the compare: it fails, the answer shows the
 * block as it is, and the requests are planned anew.
 */
export class BlockQueue {
  private readonly waiting: Job[] = [];
  private draining = false;
  private known: { block: Block; revision: string } | undefined;
  private readonly key: string;

  constructor(
    private readonly store: Store,
    private readonly facts: IpamFacts,
    readonly cidr: Cidr,
  ) {
    this.key = blockKey(cidr);
  }

  /** The block as far as it is known without asking. */
  get remembered(): Block | undefined {
    return this.known?.block;
  }

  /** Takes over a block that was read or written elsewhere. */
  remember(block: Block, revision: string): void {
    this.known = { block, revision };
  }

  /** Sends a request: one round trip where the block is remembered as it is, one more for each surprise. */
  submit<T>(request: BlockRequest<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const deadline = Date.now() + remaining(BATCH_DEADLINE * 2);
      this.waiting.push({ request, deadline, resolve: resolve as (result: unknown) => void, reject });
      // Outside the caller's deadline: a batch serves several callers.
      if (!this.draining) withoutDeadline(() => void this.drain());
    });
  }

  private async drain(): Promise<void> {
    this.draining = true;
    while (this.waiting.length > 0) {
      const jobs = this.waiting.splice(0, BATCH).filter(job => job.deadline > Date.now() || expired(job));
      const longest = Math.max(...jobs.map(job => job.deadline)) - Date.now();
      try {
        if (jobs.length > 0) await withDeadline(Math.min(BATCH_DEADLINE, longest), () => this.commit(jobs));
      } catch (error) {
        this.known = undefined;
        for (const job of jobs) {
          if (job.isSent && job.planned) job.request.inDoubt?.(job.planned);
          job.reject(error);
        }
      }
    }
    this.draining = false;
  }

  /** Brings all jobs to an end, in one transaction where nobody interferes. */
  private async commit(jobs: Job[]): Promise<void> {
    const handles = new Map<string, Entry | undefined>();
    let open = jobs;
    let fresh = false;
    for (let attempt = 0; attempt < ATTEMPTS && open.length > 0; attempt += 1) {
      if (remaining(Infinity) <= 0)
        throw new DatastoreError('the datastore is too slow: the time for this call is up');
      if (!this.known) fresh = true;
      const before = this.known ?? (await this.read());
      if (!before) return open.forEach(job => job.resolve(job.request.gone));
      const planned = this.plan(open, before.block, fresh, handles);
      if (planned.unsure) {
        this.known = undefined;
        continue;
      }
      open = planned.jobs;
      if (open.length === 0) return;
      for (const job of open) job.isSent = true;
      const result = await this.send(before, planned.block, open, handles);
      for (const job of open) job.isSent = false;
      if (result.succeeded) {
        this.settle(planned.block, result.revision, open);
        return;
      }
      fresh = true;
      open = this.learn(result, open, handles);
    }
    if (open.length > 0)
      throw new ConflictError(`block ${formatCidr(this.cidr)} is being changed by too many at once`);
  }

  /** Plans the jobs one after the other on one block; answers those that do nothing. */
  private plan(
    jobs: Job[],
    start: Block,
    fresh: boolean,
    handles: ReadonlyMap<string, Entry | undefined>,
  ): { block: Block; jobs: Job[]; unsure: boolean } {
    let block = collectCooled(start, new Date(), this.facts.ipamConfig.cooldownSeconds);
    const answers: [Job, unknown][] = [];
    const changing: Job[] = [];
    for (const job of jobs) {
      const { handle } = job.request;
      if (handle && handles.has(handle.id) && handles.get(handle.id)?.revision !== handle.revision) {
        answers.push([job, handle.otherwise]);
        continue;
      }
      const plan = job.request.plan(block);
      if ('nothing' in plan) {
        if (!fresh && job.request.trustMemory !== true) return { block: start, jobs, unsure: true };
        answers.push([job, plan.nothing]);
      } else {
        job.planned = plan;
        block = plan.block;
        changing.push(job);
      }
    }
    for (const [job, answer] of answers) job.resolve(answer);
    return { block: bump(block), jobs: changing, unsure: false };
  }

  private send(
    before: { revision: string },
    block: Block,
    jobs: Job[],
    handles: ReadonlyMap<string, Entry | undefined>,
  ): Promise<TransactionResult> {
    const guards = jobs.some(job => job.request.reliesOnFacts) ? this.facts.guards(this.cidr) : [];
    const compare: Compare[] = [{ key: this.key, is: 'revision', revision: before.revision }, ...guards];
    const keepsNothing = isEmpty(block) && block.affinity === null;
    const then: Write[] = [
      keepsNothing ? { delete: this.key } : { put: this.key, value: formatBlock(block) },
    ];
    const revisions = new Map(
      jobs.flatMap(({ request: { handle } }) => (handle ? [[handle.id, handle.revision]] : [])),
    );
    for (const [id, by] of handleChanges(jobs)) {
      const write = changeHandle(id, formatCidr(this.cidr), by, handles);
      const revision = revisions.get(id);
      compare.push(revision === undefined ? write.compare : { key: handleKey(id), is: 'revision', revision });
      then.push(...write.then);
    }
    return this.store.transact({ compare, then, otherwise: compare.map(({ key }) => key) });
  }

  private settle(block: Block, revision: string, jobs: Job[]): void {
    const deleted = isEmpty(block) && block.affinity === null;
    this.known = deleted ? undefined : { block, revision };
    for (const job of jobs) finish(job);
  }

  /** After a lost compare: remembers what is there now, and answers the jobs that were applied after all. */
  private learn(
    result: Extract<TransactionResult, { succeeded: false }>,
    jobs: Job[],
    handles: Map<string, Entry | undefined>,
  ): Job[] {
    const entry = result.found.get(this.key);
    const block = entry && readBlock(entry);
    this.known = entry && block && { block, revision: entry.revision };
    this.facts.observe(result.found, result.revision);
    for (const [id] of handleChanges(jobs)) handles.set(id, result.found.get(handleKey(id)));
    if (!result.doubtful || !block) return jobs;
    return jobs.filter(job => {
      if (!job.planned || job.request.wasApplied?.(block, job.planned) !== true) return true;
      finish(job);
      return false;
    });
  }

  private async read(): Promise<{ block: Block; revision: string } | undefined> {
    const entry = await this.store.get(this.key);
    if (!entry) return undefined;
    const block = readBlock(entry);
    if (!block) throw new UnreadableBlockError(this.key);
    this.known = { block, revision: entry.revision };
    return this.known;
  }
}

function expired(job: Job): false {
  job.reject(new DatastoreError('the datastore is too slow: the time for this call is up'));
  return false;
}

/** Answers a job that was applied; too late for its caller, it is as good as in doubt: somebody has to undo it. */
function finish(job: Job): void {
  if (job.deadline > Date.now()) return job.resolve(job.planned?.result);
  expired(job);
  if (job.planned) job.request.inDoubt?.(job.planned);
}

function handleChanges(jobs: readonly Job[]): Map<string, number> {
  const changes = new Map<string, number>();
  for (const { planned } of jobs)
    if (planned?.handle)
      changes.set(planned.handle.id, (changes.get(planned.handle.id) ?? 0) + planned.handle.by);
  return changes;
}

/**
 * The part of a transaction that changes a handle's count. What we have not read we guess: a handle of ours belongs to
 * one allocation, so before it there is none, and with it there is just this one. Wrong guesses fail the compare and
 * the answer shows the truth.
 */
function changeHandle(
  id: string,
  block: string,
  by: number,
  known: ReadonlyMap<string, Entry | undefined>,
): { compare: Compare; then: Write[] } {
  const key = handleKey(id);
  const read = known.has(id);
  const entry = known.get(id);
  const guess: HandleCounts = by < 0 ? { [block]: -by } : {};
  const counts = read ? (entry ? parseHandle(entry.value) : {}) : guess;
  const count = (counts[block] ?? 0) + by;
  const { [block]: _old, ...others } = counts;
  const next = count > 0 ? { ...others, [block]: count } : others;
  const compare: Compare = entry
    ? { key, is: 'revision', revision: entry.revision }
    : !read && by < 0
      ? { key, is: 'value', value: formatHandle(guess) }
      : { key, is: 'absent' };
  if (Object.keys(next).length > 0) return { compare, then: [{ put: key, value: formatHandle(next) }] };
  return { compare, then: compare.is === 'absent' ? [] : [{ delete: key }] };
}
