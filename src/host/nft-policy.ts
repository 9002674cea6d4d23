import type { Logger } from '../log.js';
import { reason } from '../errors.js';
import { NetlinkError } from './netlink.js';
import { changeMessages } from './nft-messages.js';
import { NftNetlink } from './nft-netlink.js';
import { NOTHING, PolicyDiff, isEmpty } from './nft-policy-diff.js';
import type { PolicyChange, Rendered } from './nft-policy-diff.js';
import { POLICY_TABLE } from './nft-policy-names.js';
import { changeScript, closedScript, tableScript } from './nft-policy-script.js';
import { baseChains } from './nft-policy-base.js';
import { hasElements } from './nft-policy-listing.js';
import type { HostPolicy } from './policy.js';
import { CommandError, run } from './run.js';

/** A change is tried so often against other programs that change nftables at the same time. */
const TRIES = 10;
/** A table of more parts takes so long that all is closed before it is put back. */
const LARGE = 2_000;
/** Looking at all rules takes this many times as long in pauses: 5 % of the time at most. */
const PAUSE_FACTOR = 20;

/** What the kernel has, as far as we know. */
interface Present {
  readonly rendered: Rendered;
  /** The kernel's number of the table: another table of the name has another. */
  readonly handle: string;
  /** Number of the last transaction that we know of. */
  readonly generation: number;
  /** Nobody else's transaction before that has changed rules of ours: all were looked at. */
  readonly isSeen: boolean;
  /** Digest of all rules' numbers, of when they were looked at; undefined: not since we have changed some. */
  readonly rules: string | undefined;
}

/**
 * The policy table in the kernel: kept as the policy that was applied last. Elements and chains that only hand on go over
 * netlink, rules and sets by nft; either way as one transaction that holds only what changes.
 */
export class PolicyTable {
  private readonly netlink = new NftNetlink();
  private readonly diff = new PolicyDiff();
  private wanted: HostPolicy | undefined;
  private present: Present | undefined;
  /** Others have changed something since the elements were compared. */
  private areElementsUnsure = false;
  private nextLook = 0;
  private queued: Promise<void> | undefined;
  private turn: Promise<unknown> = Promise.resolve();

  /** `prefix`: of the names of containers' interfaces. */
  constructor(
    private readonly prefix: string,
    private readonly log: Logger,
  ) {}

  /** Resolves when the kernel enforces this policy or a later one. Throws HostError; what was enforced stays so then. */
  apply(policy: HostPolicy): Promise<void> {
    this.wanted = policy;
    // Whoever comes while another change is under way shares the next.
    this.queued ??= this.inTurn(async () => {
      this.queued = undefined;
      if (this.wanted) await this.enforce(this.wanted);
    });
    return this.queued;
  }

  /** Closes everything, unless there is a table, of whatever daemon. Throws HostError. */
  hold(): Promise<void> {
    return this.inTurn(async () => {
      if (this.present === undefined && (await this.netlink.tableHandle(POLICY_TABLE)) === undefined)
        await run('nft', ['-f', '-'], tableScript(this.diff.change(NOTHING, NOTHING), this.prefix));
    });
  }

  /**
   * Puts the table back where others changed it; answers whether it had to. Costs one question to the kernel where there
   * was no transaction of others. `isThorough`: also compares elements, and applies what could not be applied before.
   * Throws HostError.
   */
  check(isThorough: boolean): Promise<boolean> {
    return this.inTurn(() => this.putRight(isThorough));
  }

  /** Deletes the table. Missing is fine. Throws HostError. */
  remove(): Promise<void> {
    this.wanted = undefined;
    return this.inTurn(async () => {
      this.present = undefined;
      await run('nft', ['-f', '-'], `table inet ${POLICY_TABLE} {}\ndelete table inet ${POLICY_TABLE}\n`);
    });
  }

  async close(): Promise<void> {
    await this.turn;
    this.netlink.close();
  }

  private async enforce(policy: HostPolicy): Promise<void> {
    const rendered = this.diff.render(policy);
    const { present } = this;
    if (present === undefined) return this.replace(rendered);
    const change = this.diff.change(present.rendered, rendered);
    if (isEmpty(change)) {
      this.present = { ...present, rendered };
      return;
    }
    try {
      await this.make(change, rendered, present);
    } catch (error) {
      // Without nft there is no replacing either.
      if (error instanceof CommandError && error.isMissing) throw error;
      this.log.warn({ reason: reason(error) }, 'the policy table takes no change: replacing it');
      await this.replace(rendered);
    }
  }

  private async make(change: PolicyChange, rendered: Rendered, before: Present): Promise<void> {
    const messages = changeMessages(change);
    if (messages === undefined || !NftNetlink.fits(messages)) {
      await run('nft', ['-f', '-'], changeScript(change));
      await this.remember(rendered, before);
      return;
    }
    const isSameRules = change.fillChains.size === 0 && change.removeChains.length === 0;
    const rules = isSameRules ? before.rules : undefined;
    let { generation, isSeen } = before;
    for (let tries = 1; ; tries += 1) {
      try {
        generation = await this.netlink.commit(messages, generation, 'change the policy table');
        this.present = { ...before, rendered, generation, isSeen, rules };
        return;
      } catch (error) {
        const isOvertaken = error instanceof NetlinkError && error.code === 'ERESTART';
        if (!isOvertaken || tries === TRIES) throw error;
        // Whoever starts a container does not wait until all rules have been looked at: the next check does that.
        isSeen = false;
        this.areElementsUnsure = true;
        generation = await this.netlink.generation();
        if ((await this.netlink.tableHandle(POLICY_TABLE)) !== before.handle) throw error;
      }
    }
  }

  /** The whole table anew. */
  private async replace(rendered: Rendered): Promise<void> {
    // First of all: even to write the whole table down takes a moment.
    if (isLarge(rendered) && (await this.netlink.tableHandle(POLICY_TABLE)) === undefined)
      await run('nft', ['-f', '-'], closedScript(this.prefix));
    await run('nft', ['-f', '-'], tableScript(this.diff.change(NOTHING, rendered), this.prefix));
    this.areElementsUnsure = false;
    await this.remember(rendered, undefined);
  }

  /** After nft has made a change. */
  private async remember(rendered: Rendered, before: Present | undefined): Promise<void> {
    const generation = await this.netlink.generation();
    const handle = await this.netlink.tableHandle(POLICY_TABLE);
    // Others may have come between: then the next check has something to look at.
    const isNext = before === undefined || generation === before.generation + 1;
    if (!isNext) this.areElementsUnsure = true;
    const isSeen = isNext && before?.isSeen !== false;
    this.present = { rendered, handle: handle ?? '', generation, isSeen, rules: undefined };
  }

  private async putRight(isThorough: boolean): Promise<boolean> {
    const { wanted, present } = this;
    if (wanted === undefined) return false;
    if (present === undefined || (isThorough && present.rendered.policy !== wanted)) {
      if (isThorough) await this.enforce(wanted);
      return false;
    }
    const generation = await this.netlink.generation();
    if (generation !== present.generation) this.areElementsUnsure = true;
    const isKnown = generation === present.generation && present.isSeen;
    if (isKnown && present.rules !== undefined && !(isThorough && this.areElementsUnsure)) return false;
    if (!(await this.isIntact(present, generation, isThorough))) {
      await this.replace(this.diff.render(wanted));
      return true;
    }
    return false;
  }

  private async isIntact(present: Present, generation: number, isThorough: boolean): Promise<boolean> {
    if ((await this.netlink.tableHandle(POLICY_TABLE)) !== present.handle) return false;
    if (!isThorough && Date.now() < this.nextLook) return true;
    const began = performance.now();
    const { counts, digest } = await this.netlink.rules(POLICY_TABLE);
    if (present.rules === undefined ? !this.isCount(counts, present) : digest !== present.rules) return false;
    if (isThorough && this.areElementsUnsure) {
      if (!(await hasElements(this.netlink, this.diff.change(NOTHING, present.rendered)))) return false;
      this.areElementsUnsure = false;
    }
    this.nextLook = Date.now() + (performance.now() - began) * PAUSE_FACTOR;
    this.present = { ...present, generation, isSeen: true, rules: digest };
    return true;
  }

  /** Whether each chain has as many rules as it should. */
  private isCount(counts: ReadonlyMap<string, number>, { rendered }: Present): boolean {
    const wanted = ruleCounts(rendered, this.prefix);
    return counts.size === wanted.size && [...wanted].every(([name, count]) => counts.get(name) === count);
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => undefined);
    return result;
  }
}

function isLarge({ policy, chains }: Rendered): boolean {
  let size = chains.size + policy.endpoints.size;
  for (const { addresses, nets } of policy.addressSets.values()) size += addresses.size + nets.length;
  return size > LARGE;
}

/** Rules of each chain that has some. */
function ruleCounts({ chains }: Rendered, prefix: string): Map<string, number> {
  const counts = new Map<string, number>();
  // The first line of a base chain is no rule.
  for (const [name, lines] of baseChains(prefix)) {
    const rules = lines[0]?.startsWith('type ') === true ? lines.length - 1 : lines.length;
    counts.set(name, rules);
  }
  for (const [name, lines] of chains) if (lines.length > 0) counts.set(name, lines.length);
  return counts;
}
