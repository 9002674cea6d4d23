import type { Logger } from '../log.js';
import { reason } from '../errors.js';
import { DepartedFlows, senders } from './departed-flows.js';
import type { ForgetFlows } from './departed-flows.js';
import { Intact } from './intact.js';
import { NetlinkError } from './netlink.js';
import { changeMessages } from './nft-messages.js';
import { NftNetlink } from './nft-netlink.js';
import { NOTHING, PolicyDiff, isEmpty } from './nft-policy-diff.js';
import type { PolicyChange, Rendered } from './nft-policy-diff.js';
import { POLICY_TABLE } from './nft-policy-names.js';
import { changeScript, closedScript, tableScript } from './nft-policy-script.js';
import { isLarge } from './nft-policy-size.js';
import type { HostPolicy } from './policy.js';
import { runScript } from './nft-script.js';
import { CommandError } from './run.js';
import { canonical } from './nft-table.js';
import { readSetting, writeSetting } from './sysctl.js';

/** A change is tried so often against other programs that change nftables at the same time. */
const TRIES = 10;
/** Milliseconds that nft may take for the whole table: thousands of rules take seconds on a host with much to do. */
const TABLE_TIMEOUT = 60_000;
/** The kernel writes down when each connection begins. */
const TIMESTAMPS = 'netfilter/nf_conntrack_timestamp';

/** What the kernel has, as far as we know. */
export interface Present {
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
 * The policy table in the kernel, as far as we know. Elements and chains that only hand on go over netlink, rules and sets by
 * nft; either way as one transaction that holds only what changes. Its methods are called one at a time.
 */
export class KernelPolicy {
  readonly netlink = new NftNetlink();
  readonly diff = new PolicyDiff();
  /** Undefined: nothing of this daemon's is there. */
  present: Present | undefined;
  /** Others have changed something since the elements were compared. */
  areElementsUnsure = false;
  readonly intact = new Intact();
  private readonly departed: DepartedFlows;
  private areTimesAsked = false;

  /** `prefix`: of the names of containers' interfaces; `forgetFlows`: see {@link DepartedFlows}. */
  constructor(
    private readonly prefix: string,
    private readonly forgetFlows: ForgetFlows,
    private readonly log: Logger,
  ) {
    this.departed = new DepartedFlows(forgetFlows, log);
  }

  /** The kernel's number of the table; undefined: there is none, of whatever daemon. Throws NetlinkError. */
  handle(): Promise<string | undefined> {
    return this.netlink.tableHandle(POLICY_TABLE);
  }

  /** Lets nothing new pass, where there is no table. Throws HostError. */
  async closeAll(): Promise<void> {
    await runScript(closedScript(this.prefix));
  }

  /** Makes the kernel enforce this policy: by what changes, or the whole table. Throws HostError. */
  async put(policy: HostPolicy): Promise<void> {
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
  async fallBack(): Promise<void> {
    try {
      if ((await this.handle()) !== undefined) return;
      const { present } = this;
      if (present && (await succeeds(this.replace(present.rendered)))) return;
      await this.closeAll();
    } catch (error) {
      this.log.error({ reason: reason(error) }, 'there is no policy table, and none can be made');
    }
  }

  async close(): Promise<void> {
    await this.departed.close();
    this.netlink.close();
  }

  /**
   * The whole table anew. Connections of containers that began after `since`, when another was in force, are judged again:
   * what is established passes. Throws HostError.
   */
  async replace(rendered: Rendered, since = this.intact.rules): Promise<void> {
    // First of all: even to write the whole table down takes a moment.
    if (isLarge(rendered) && (await this.handle()) === undefined) await this.closeAll();
    const { present } = this;
    const isTakenOver = present === undefined && (await this.handle()) !== undefined;
    const before = isTakenOver ? await senders(this.netlink).catch(() => undefined) : undefined;
    const script = tableScript(this.diff.change(NOTHING, rendered), this.prefix);
    await runScript(script, TABLE_TIMEOUT);
    this.areElementsUnsure = false;
    this.intact.saw(Date.now(), true);
    await this.remember(rendered, undefined);
    this.askForTimes();
    if (present) {
      await this.forgetBegun(since, [present.rendered.policy, rendered.policy]);
      await this.departed.afterEnforcing(present.rendered.policy, rendered.policy);
    }
    if (before) await this.departed.afterTakingOver(before, rendered.policy);
  }

  /** Of connections that begin from now on. */
  private askForTimes(): void {
    if (this.areTimesAsked) return;
    this.areTimesAsked = true;
    try {
      if (readSetting(TIMESTAMPS) === '0' && writeSetting([TIMESTAMPS, '1']))
        this.log.info('turned net.netfilter.nf_conntrack_timestamp on');
    } catch (error) {
      this.log.warn(
        { reason: reason(error) },
        'connections that begin while other programs have deleted the policy table will not be judged afterwards',
      );
    }
  }

  private async forgetBegun(since: number, policies: readonly HostPolicy[]): Promise<void> {
    const endpoints = policies.flatMap(policy => [...policy.endpoints.values()]);
    const addresses = new Set(endpoints.flatMap(({ sources }) => sources.map(canonical)));
    if (addresses.size === 0) return;
    try {
      await this.forgetFlows([...addresses], since);
    } catch (error) {
      this.log.warn(
        { reason: reason(error), since: new Date(since).toISOString() },
        'cannot forget connections that began while the policy table was not as it should be: they go on',
      );
    }
  }

  private async make(change: PolicyChange, rendered: Rendered, before: Present): Promise<void> {
    const messages = changeMessages(change);
    if (messages === undefined || !NftNetlink.fits(messages)) {
      await runScript(changeScript(change));
      await this.remember(rendered, before);
      return;
    }
    const isSameRules = change.fillChains.size === 0 && change.removeChains.length === 0;
    const rules = isSameRules ? before.rules : undefined;
    let { generation, isSeen } = before;
    for (let tries = 1; ; tries += 1) {
      const at = Date.now();
      try {
        generation = await this.netlink.commit(messages, generation, 'change the policy table');
        // Nobody has changed anything since it was looked at.
        if (isSeen) this.intact.saw(at, !this.areElementsUnsure);
        this.present = { ...before, rendered, generation, isSeen, rules };
        return;
      } catch (error) {
        const isOvertaken = error instanceof NetlinkError && error.code === 'ERESTART';
        if (!isOvertaken || tries === TRIES) throw error;
        // Whoever starts a container does not wait until all rules have been looked at: the next check does that.
        isSeen = false;
        this.areElementsUnsure = true;
        generation = await this.netlink.generation();
        if ((await this.handle()) !== before.handle) throw error;
      }
    }
  }

  /** After nft has made a change. */
  private async remember(rendered: Rendered, before: Present | undefined): Promise<void> {
    const generation = await this.netlink.generation();
    const handle = await this.handle();
    // Others may have come between: then the next check has something to look at.
    const isNext = before === undefined || generation === before.generation + 1;
    if (!isNext) this.areElementsUnsure = true;
    const isSeen = isNext && before?.isSeen !== false;
    this.present = { rendered, handle: handle ?? '', generation, isSeen, rules: undefined };
  }
}

/** Whether it did not fail. */
export function succeeds(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => true,
    () => false,
  );
}
