import type { Logger } from '../log.js';
import type { ForgetFlows } from './departed-flows.js';
import { NftNetlink } from './nft-netlink.js';
import { NOTHING } from './nft-policy-diff.js';
import { KernelPolicy, succeeds } from './nft-policy-kernel.js';
import type { Present } from './nft-policy-kernel.js';
import { hasElements } from './nft-policy-listing.js';
import { POLICY_TABLE } from './nft-policy-names.js';
import { ruleCounts } from './nft-policy-size.js';
import type { HostPolicy } from './policy.js';
import { deleteTable } from './nft-script.js';

/** After so many looks that came to nothing, changes have to wait for one. */
const DROPS = 5;
/** Looking at all rules takes this many times as long in pauses: 5 % of the time at most. */
const PAUSE_FACTOR = 20;

/** What was in the kernel when the question for all rules was put. */
interface Asked {
  readonly present: Present;
  readonly generation: number;
}

/** Keeps the policy table in the kernel as the policy that was applied last, whatever others do to it. */
export class PolicyTable {
  private readonly kernel: KernelPolicy;
  /** Of its own: a long answer must not keep a change waiting. */
  private readonly looking = new NftNetlink();
  private wanted: HostPolicy | undefined;
  private nextLook = 0;
  private isLookOwed = false;
  /** Looks in a row that came to nothing because of changes of ours. */
  private dropped = 0;
  private queued: Promise<void> | undefined;
  private turn: Promise<unknown> = Promise.resolve();

  /** `prefix`: of the names of containers' interfaces. */
  constructor(
    private readonly prefix: string,
    forgetFlows: ForgetFlows,
    log: Logger,
  ) {
    this.kernel = new KernelPolicy(prefix, forgetFlows, log);
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
      if (this.kernel.present === undefined && (await this.kernel.handle()) === undefined)
        await this.kernel.closeAll();
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
      if (this.kernel.present !== looked.present && rules !== undefined) {
        // Ours have changed meanwhile: what was seen says nothing.
        this.dropped += 1;
        this.isLookOwed = true;
        return false;
      }
      this.dropped = 0;
      const { present } = this.kernel;
      if (present === undefined) return false;
      const generation = rules === undefined ? await this.kernel.netlink.generation() : looked.generation;
      const seen = rules ?? (await this.looking.rules(POLICY_TABLE));
      return this.judge(present, generation, seen, took);
    });
  }

  /** Deletes the table. Missing is fine. Throws HostError. */
  remove(): Promise<void> {
    this.wanted = undefined;
    return this.inTurn(async () => {
      this.kernel.present = undefined;
      await deleteTable(`inet ${POLICY_TABLE}`);
    });
  }

  async close(): Promise<void> {
    await this.turn;
    await this.kernel.close();
    this.looking.close();
  }

  private async enforce(policy: HostPolicy): Promise<void> {
    try {
      await this.kernel.put(policy);
    } catch (error) {
      await this.kernel.fallBack();
      throw error;
    }
  }

  /** Whether something had to be put back, as far as that is quickly found out; otherwise what the rules have to be of. */
  private async ask(): Promise<boolean | Asked> {
    const { present } = this.kernel;
    if (this.wanted === undefined || present === undefined) return false;
    const at = Date.now();
    const generation = await this.kernel.netlink.generation();
    if (generation !== present.generation) this.kernel.areElementsUnsure = true;
    this.isLookOwed = false;
    if (generation === present.generation && present.isSeen && present.rules !== undefined) {
      this.kernel.intact.saw(at, !this.kernel.areElementsUnsure);
      return false;
    }
    if ((await this.kernel.handle()) !== present.handle) return this.putBack(present);
    if (Date.now() >= this.nextLook) return { present, generation };
    this.isLookOwed = true;
    return false;
  }

  private async checkAll(): Promise<boolean> {
    const { wanted } = this;
    if (wanted === undefined) return false;
    if (this.kernel.present === undefined || this.kernel.present.rendered.policy !== wanted) {
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
    const { present, intact } = this.kernel;
    if (present === undefined) return false;
    const at = Date.now();
    const generation = await this.kernel.netlink.generation();
    if (generation !== present.generation) this.kernel.areElementsUnsure = true;
    const isKnown = generation === present.generation && present.isSeen && present.rules !== undefined;
    if (isKnown && !this.kernel.areElementsUnsure) return false;
    if ((await this.kernel.handle()) !== present.handle) return this.putBack(present);
    const began = performance.now();
    const rules = await this.kernel.netlink.rules(POLICY_TABLE);
    if (await this.judge(present, generation, rules, performance.now() - began)) return true;
    if (!this.kernel.areElementsUnsure) return false;
    if (!(await hasElements(this.kernel.netlink, this.kernel.diff.change(NOTHING, present.rendered))))
      return this.putBack(present, intact.elements);
    this.kernel.areElementsUnsure = false;
    intact.saw(at, true);
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
    this.kernel.intact.saw(Date.now() - took, !this.kernel.areElementsUnsure);
    this.nextLook = Date.now() + took * PAUSE_FACTOR;
    this.isLookOwed = false;
    this.kernel.present = { ...present, generation, isSeen: true, rules: digest };
    return false;
  }

  /** What is wanted, or what was there where that cannot be put in: then throws HostError afterwards. */
  private async putBack(present: Present, since = this.kernel.intact.rules): Promise<true> {
    const { wanted } = this;
    try {
      const rendered = wanted === undefined ? present.rendered : this.kernel.diff.render(wanted);
      await this.kernel.replace(rendered, since);
    } catch (error) {
      if (present.rendered.policy === wanted || !(await succeeds(this.kernel.replace(present.rendered))))
        await this.kernel.fallBack();
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
