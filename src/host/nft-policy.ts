import type { Logger } from '../log.js';
import { reason } from '../errors.js';
import { NetlinkError } from './netlink.js';
import { changeMessages } from './nft-messages.js';
import { NftNetlink } from './nft-netlink.js';
import { NOTHING, PolicyDiff, isEmpty } from './nft-policy-diff.js';
import type { PolicyChange, Rendered } from './nft-policy-diff.js';
import { POLICY_TABLE } from './nft-policy-names.js';
import { changeScript, closedScript, tableScript } from './nft-policy-script.js';
import { isLarge, ruleCounts } from './nft-policy-size.js';
import { DepartedFlows, senders } from './departed-flows.js';
import { hasElements } from './nft-policy-listing.js';
import type { HostPolicy } from './policy.js';
import { CommandError, run } from './run.js';

/** A change is tried so often against other programs that change nftables at the same time. */
const TRIES = 10;
/** Milliseconds that nft may take for the whole table: thousands of rules take seconds on a host with much to do. */
const TABLE_TIMEOUT = 60_000;
/** After so many looks that came to nothing, changes have to wait for one. */
const DROPS = 5;
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

/** What was in the kernel when the question for all rules was put. */
interface Asked {
  readonly present: Present;
  readonly generation: number;
}

/**
 * The policy table in the kernel: kept as the policy that was applied last. Elements and chains that only hand on go over
 * netlink, rules and sets by nft; either way as one transaction that holds only what changes.
 */
export class PolicyTable {
  private readonly netlink = new NftNetlink();
  /** Of its own: a long answer must not keep a change waiting. */
  private readonly looking = new NftNetlink();
  private readonly diff = new PolicyDiff();
  private readonly departed: DepartedFlows;
  private wanted: HostPolicy | undefined;
  private present: Present | undefined;
  /** Others have changed something since the elements were compared. */
  private areElementsUnsure = false;
  private nextLook = 0;
  private isLookOwed = false;
  /** Looks in a row that came to nothing because of changes of ours. */
  private dropped = 0;
  private queued: Promise<void> | undefined;
  private turn: Promise<unknown> = Promise.resolve();

  /** `prefix`: of the names of containers' interfaces; `forgetFlows`: see {@link DepartedFlows}. */
  constructor(
    private readonly prefix: string,
    forgetFlows: (addresses: readonly string[]) => Promise<void>,
    private readonly log: Logger,
  ) {
    this.departed = new DepartedFlows(forgetFlows, log);
  }

  /** Others have changed something that was not looked at, because the rules had been looked at a moment before. */
  get owesLook(): boolean {
    return this.isLookOwed;
  }

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
        await run('nft', ['-f', '-'], closedScript(this.prefix));
    });
  }

  /**
   * Puts the table back where others changed it; answers whether it had to. Costs one question to the kernel where there
   * was no transaction of others. `isThorough`: also compares elements, and applies what could not be applied before.
   * Throws HostError.
   */
  async check(isThorough: boolean): Promise<boolean> {
    if (isThorough) return this.inTurn(() => this.checkAll());
    const looked = await this.inTurn(() => this.ask());
    if (typeof looked === 'boolean') return looked;
    // Not in turn: to list thousands of rules takes long, and whoever starts a container would wait for it.
    const began = performance.now();
    const rules = this.dropped < DROPS ? await this.looking.rules(POLICY_TABLE) : undefined;
    const took = performance.now() - began;
    return this.inTurn(async () => {
      if (this.present !== looked.present && rules !== undefined) {
        // Ours have changed meanwhile: what was seen says nothing.
        this.dropped += 1;
        this.isLookOwed = true;
        return false;
      }
      this.dropped = 0;
      const { present } = this;
      if (present === undefined) return false;
      const generation = rules === undefined ? await this.netlink.generation() : looked.generation;
      const seen = rules ?? (await this.looking.rules(POLICY_TABLE));
      return this.judge(present, generation, seen, took);
    });
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
    await this.departed.close();
    this.netlink.close();
    this.looking.close();
  }

  private async enforce(policy: HostPolicy): Promise<void> {
    try {
      await this.put(policy);
    } catch (error) {
      await this.fallBack();
      throw error;
    }
  }

  private async put(policy: HostPolicy): Promise<void> {
    const rendered = this.diff.render(policy);
    const { present } = this;
    if (present === undefined) return this.replace(rendered);
    const change = this.diff.change(present.rendered, rendered);
    if (isEmpty(change)) {
      this.present = { ...present, rendered };
      return;
    }
    await this.departed.beforeEnforcing(present.rendered.policy, policy);
    try {
      await this.make(change, rendered, present);
      await this.departed.afterEnforcing(present.rendered.policy, policy);
    } catch (error) {
      // Without nft there is no replacing either.
      if (error instanceof CommandError && error.isMissing) throw error;
      this.log.warn({ reason: reason(error) }, 'the policy table takes no change: replacing it');
      await this.replace(rendered);
    }
  }

  /** Where others have deleted the table and the wanted one cannot be put in: the last one, else closed. Never throws. */
  private async fallBack(): Promise<void> {
    try {
      if ((await this.netlink.tableHandle(POLICY_TABLE)) !== undefined) return;
      const { present } = this;
      if (present && (await succeeds(this.replace(present.rendered)))) return;
      await run('nft', ['-f', '-'], closedScript(this.prefix));
    } catch (error) {
      this.log.error({ reason: reason(error) }, 'there is no policy table, and none can be made');
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
    const { present } = this;
    const isTakenOver = present === undefined && (await this.netlink.tableHandle(POLICY_TABLE)) !== undefined;
    const before = isTakenOver ? await senders(this.netlink).catch(() => undefined) : undefined;
    const script = tableScript(this.diff.change(NOTHING, rendered), this.prefix);
    await run('nft', ['-f', '-'], script, TABLE_TIMEOUT);
    this.areElementsUnsure = false;
    await this.remember(rendered, undefined);
    if (present) await this.departed.afterEnforcing(present.rendered.policy, rendered.policy);
    if (before) await this.departed.afterTakingOver(before, rendered.policy);
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

  /** Whether something had to be put back, as far as that is quickly found out; otherwise what the rules have to be of. */
  private async ask(): Promise<boolean | Asked> {
    const { present } = this;
    if (this.wanted === undefined || present === undefined) return false;
    const generation = await this.netlink.generation();
    if (generation !== present.generation) this.areElementsUnsure = true;
    this.isLookOwed = false;
    if (generation === present.generation && present.isSeen && present.rules !== undefined) return false;
    if ((await this.netlink.tableHandle(POLICY_TABLE)) !== present.handle) return this.putBack(present);
    if (Date.now() >= this.nextLook) return { present, generation };
    this.isLookOwed = true;
    return false;
  }

  private async checkAll(): Promise<boolean> {
    const { wanted } = this;
    if (wanted === undefined) return false;
    if (this.present === undefined || this.present.rendered.policy !== wanted) {
      const failure = await this.enforce(wanted).then(
        () => undefined,
        (error: unknown) => ({ error }),
      );
      if (failure === undefined) return false;
      // What is there instead has to be whole as well.
      await this.compareAll();
      throw failure.error;
    }
    return this.compareAll();
  }

  private async compareAll(): Promise<boolean> {
    const { present } = this;
    if (present === undefined) return false;
    const generation = await this.netlink.generation();
    if (generation !== present.generation) this.areElementsUnsure = true;
    const isKnown = generation === present.generation && present.isSeen && present.rules !== undefined;
    if (isKnown && !this.areElementsUnsure) return false;
    if ((await this.netlink.tableHandle(POLICY_TABLE)) !== present.handle) return this.putBack(present);
    const began = performance.now();
    const rules = await this.netlink.rules(POLICY_TABLE);
    if (await this.judge(present, generation, rules, performance.now() - began)) return true;
    if (!this.areElementsUnsure) return false;
    if (!(await hasElements(this.netlink, this.diff.change(NOTHING, present.rendered))))
      return this.putBack(present);
    this.areElementsUnsure = false;
    return false;
  }

  /** Whether the rules were not as they should be, and had to be put back. */
  private async judge(
    present: Present,
    generation: number,
    { counts, digest }: { readonly counts: ReadonlyMap<string, number>; readonly digest: string },
    took: number,
  ): Promise<boolean> {
    if (present.rules === undefined ? !this.isCount(counts, present) : digest !== present.rules)
      return this.putBack(present);
    this.nextLook = Date.now() + took * PAUSE_FACTOR;
    this.isLookOwed = false;
    this.present = { ...present, generation, isSeen: true, rules: digest };
    return false;
  }

  /** What is wanted, or what was there where that cannot be put in: then throws HostError afterwards. */
  private async putBack(present: Present): Promise<true> {
    const { wanted } = this;
    try {
      await this.replace(wanted === undefined ? present.rendered : this.diff.render(wanted));
    } catch (error) {
      if (present.rendered.policy === wanted || !(await succeeds(this.replace(present.rendered))))
        await this.fallBack();
      throw error;
    }
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

function succeeds(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => true,
    () => false,
  );
}
