import { reason } from '../errors.js';
import { NftNetlink } from './nft-netlink.js';
import { TABLE } from './nft-table.js';

/**
 * What other programs do to the kernel's nftables, within a moment. The kernel counts its transactions, and asking for the
 * count costs some 50 µs; only when it has grown is it looked at what has changed. Not by notifications: when more come than
 * a socket's buffer holds (someone loads a large ruleset) the kernel reports an error by poll(2), for which the netlink
 * package 0.3.0 ends the whole process (see ip-monitor.ts).
 */
export interface Watch {
  close(): void;
}

/** Milliseconds between two questions. */
const PAUSE = 200;
/** Chains our rule pair may be in, or depends on. */
const CHAINS = ['FORWARD', 'DOCKER-USER'];
const FAMILIES = [4, 6] as const;

/** Who is told what; whoever hears it looks for himself, so what we have done ourselves costs a look more. */
export interface Heard {
  /**
   * Somebody made a transaction. Nothing else is looked at until this resolves; with false where what has changed was not
   * looked at yet: then it is called again at the next question.
   */
  transaction(): Promise<boolean>;
  /** Our NAT table has changed. */
  table(): void;
  /** FORWARD or DOCKER-USER, or their rules, have changed: iptables-nft works through the same kernel tables. */
  filter(): void;
  /** There is no telling, because of this. Said once. */
  failed(reason: string): void;
}

/** Calls back until it is closed. Opens a netlink socket. */
export function watchNftables(heard: Heard): Watch {
  const netlink = new NftNetlink();
  let timer: NodeJS.Timeout | undefined;
  let isClosed = false;
  let hasFailed = false;
  let generation: number | undefined;
  let isOwed = false;
  let [table, filter] = ['', ''];

  const look = async (): Promise<void> => {
    const now = await netlink.generation();
    if (now === generation && !isOwed) return;
    isOwed = !(await heard.transaction());
    if (now === generation) return;
    generation = now;
    const [tableNow, filterNow] = [await netlink.digest(TABLE), await filterDigest(netlink)];
    if (tableNow !== table) heard.table();
    if (filterNow !== filter) heard.filter();
    [table, filter] = [tableNow, filterNow];
  };
  const again = (): void => {
    if (isClosed) return;
    timer = setTimeout(() => {
      look()
        .catch((error: unknown) => {
          generation = undefined;
          if (!hasFailed && !isClosed) heard.failed(reason(error));
          hasFailed = true;
        })
        .finally(again);
    }, PAUSE).unref();
  };
  again();
  return {
    close: () => {
      isClosed = true;
      clearTimeout(timer);
      netlink.close();
    },
  };
}

async function filterDigest(netlink: NftNetlink): Promise<string> {
  const digests: string[] = [];
  for (const family of FAMILIES)
    for (const chain of CHAINS) digests.push(await netlink.filterChain(family, chain));
  return digests.join(' ');
}
